"""Runs a sweep: a model at a time, a unit's features once, every combination on them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from propagate.config import ModelOptions, Preset
from propagate.errors import ClipError, LabelError, OutputError, PropagateError
from propagate.features.base import FeatureExtractor
from propagate.features.device import resolve_device
from propagate.features.registry import create_extractor, create_layered
from propagate.output.record_folder import Mode
from propagate.propagation import similarity_dtype
from propagate.sweep.folder import Key, SweepFolder
from propagate.sweep.knobs import Combination, Knob, combinations, decided_by
from propagate.sweep.report import SweepReport, make_report
from propagate.sweep.shared import LayeredFeatures, LayerView, TimedExtractor, shared_features
from propagate.sweep.target import SweepTarget

_LAYERS = ("layer", "up_ft_index")
# They don't change the numbers.
_FREE_OPTIONS = ("offline", "batch_size", "memory")

Step = Callable[[int, int, str], None]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """Everything a user says about a sweep.

    Args:
        target: the data set.
        fixed: settings of every combination, but for the knobs.
        knobs: what is varied; the first is the picture's x axis, the second its y axis.
        output: folder to write.
        mode: what to do when `output` exists.
    """

    target: SweepTarget
    fixed: Preset
    knobs: tuple[Knob, ...]
    output: Path
    mode: Mode = "new"

    def config(self) -> dict[str, Any]:
        """What a resumed sweep must agree in.

        Raises:
            InputError: there is no such device.
        """
        video = asdict(self.fixed.video)
        fixed = {"model": self.fixed.model, **asdict(self.fixed.options)}
        fixed |= {**video.pop("propagation"), **video}
        left_out = {*_FREE_OPTIONS, *decided_by(self.knobs)}
        units = {unit: self.target.fingerprint(unit) for unit in self.target.units}
        return {
            "data": {"name": self.target.name, self.target.unit_kind: units},
            "protocol": self.target.protocol,
            "swept": sorted(knob.name for knob in self.knobs),
            "fixed": {name: value for name, value in fixed.items() if name not in left_out},
            "device": resolve_device(self.fixed.options.device).type,
        }

    @property
    def title(self) -> str:
        """Of the picture."""
        swept = any(knob.name == "model" for knob in self.knobs)
        model = "" if swept else f"{self.fixed.model} on "
        units = self.target.units
        count = units[0] if len(units) == 1 else f"{len(units)} {self.target.unit_kind}"
        return f"{model}{self.target.name}, {count}"


def run_sweep(
    request: SweepRequest, *, step: Step = lambda *_: None, say: Say = lambda _: None
) -> SweepReport:
    """Score every combination on every unit, and write the table, the record and the picture.

    Args:
        request: what to do.
        step: is told how many scores there are, of how many, and what comes next.
        say: receives a sentence for each failure.

    Raises:
        PropagateError: the output folder, the data, or the one model that is used by all
            combinations can't be used. Any other combination that fails is a row of the report.
    """
    found = combinations(request.fixed, request.knobs)
    folder = SweepFolder(request.output, request.config(), mode=request.mode)
    folder.prepare()
    runner = _Runner(request, folder, len(found), step, say)
    names = [knob.name for knob in request.knobs if knob.of_model]
    for siblings in _grouped(found, [name for name in names if name not in _LAYERS]):
        groups = _grouped(siblings, names)
        if len(groups) == 1 or not runner.run_layers(groups, names):
            for group in groups:
                runner.run_model(group, names)
                _free_memory()
        _free_memory()
    return make_report(
        folder, request.target, request.knobs, found, runner.errors, title=request.title
    )


def _grouped(items: Sequence[Combination], names: Sequence[str]) -> list[list[Combination]]:
    """Combinations that agree in some knobs, together, in order."""
    groups: dict[tuple[str, ...], list[Combination]] = {}
    for item in items:
        groups.setdefault(tuple(item.labels[name] for name in names), []).append(item)
    return list(groups.values())


class _Runner:
    """Fills the folder, a model at a time. `errors` has the combinations that failed."""

    def __init__(
        self, request: SweepRequest, folder: SweepFolder, combinations: int, step: Step, say: Say
    ) -> None:
        self._target = request.target
        self._folder = folder
        self._total = combinations * len(request.target.units)
        self._done = 0
        self._step = step
        self._say = say
        self.errors: dict[Key, str] = {}

    def run_model(self, group: Sequence[Combination], names: Sequence[str]) -> None:
        """Score the combinations of one model, which differ in other knobs than `names`."""
        units = self._target.units
        todo = [item for item in group if any(self._missing(item, unit) for unit in units)]
        self._settle((len(group) - len(todo)) * len(units))
        if not todo:
            return
        settings = todo[0].settings
        self._announce(f"loading {todo[0].describe(names) if names else settings.model}")
        try:
            extractor = create_extractor(settings.model, settings.options, task=self._target.task)
        except PropagateError as error:
            if not names:
                raise
            self._fail(todo, None, str(error), todo[0].describe(names))
            self._settle(len(todo) * len(units))
            return
        self._check_identity(group, extractor.identity)
        for unit in units:
            self._run_unit(unit, todo, extractor)

    def run_layers(self, groups: Sequence[Sequence[Combination]], names: Sequence[str]) -> bool:
        """Score groups that differ in the layer alone, on features of one pass.

        Returns:
            False where that can't be done, and nothing was: a layer is missing, or one pass can't
            give them all.
        """
        units = self._target.units
        left = [g for g in groups if any(self._missing(item, unit) for item in g for unit in units)]
        layers = [_layer_of(group[0].settings.options) for group in left]
        if len(left) < 2 or None in layers:
            return False
        settings = left[0][0].settings
        self._announce(f"loading {left[0][0].describe(names)} and {len(left) - 1} more layers")
        try:
            extractor = create_layered(
                settings.model,
                settings.options,
                [layer for layer in layers if layer is not None],
                task=self._target.task,
            )
        except PropagateError:
            return False
        if extractor is None:
            return False
        self._settle(sum(len(group) for group in groups if group not in left) * len(units))
        for index, group in enumerate(left):
            self._check_identity(group, extractor.layer_identity(index))
        dtype = _common_dtype([item for group in left for item in group])
        for unit in units:
            features = LayeredFeatures(extractor, dtype=dtype)
            for index, group in enumerate(left):
                view = features.layer(index)
                self._score_all(unit, group, view, view)
        return True

    def _run_unit(
        self, unit: str, todo: Sequence[Combination], extractor: FeatureExtractor
    ) -> None:
        timed = TimedExtractor(extractor)
        cache = shared_features(
            timed, capacity=self._target.frames(unit), dtype=_common_dtype(todo)
        )
        self._score_all(unit, todo, timed, cache)

    def _score_all(
        self,
        unit: str,
        todo: Sequence[Combination],
        timed: TimedExtractor | LayerView,
        cache: FeatureExtractor,
    ) -> None:
        for item in todo:
            if self._missing(item, unit) and item.key not in self.errors:
                self._announce(f"{item.describe()} on {unit}")
                self._score(unit, item, timed, cache)
            self._settle(1)

    def _score(
        self,
        unit: str,
        item: Combination,
        timed: TimedExtractor | LayerView,
        cache: FeatureExtractor,
    ) -> None:
        saved = timed.seconds  # of features that are there already
        try:
            score = self._target.score(unit, item.settings, cache)
        except (ClipError, LabelError):
            raise
        except PropagateError as error:
            self._fail([item], unit, str(error), f"{item.describe()} on {unit}")
            return
        self._folder.add(
            item.labels,
            unit,
            model=timed.identity,
            items=score.items,
            seconds=score.seconds + saved,
            frames=score.frames,
        )

    def _missing(self, item: Combination, unit: str) -> bool:
        return self._folder.find(item.key, unit) is None

    def _fail(self, items: Sequence[Combination], unit: str | None, error: str, what: str) -> None:
        for item in items:
            self.errors[item.key] = error
            self._folder.add(item.labels, unit, error=error)
        self._say(f"{what} failed: {error}")

    def _check_identity(self, group: Sequence[Combination], identity: str) -> None:
        for item in group:
            for unit in self._target.units:
                line = self._folder.find(item.key, unit)
                if line is not None and line["model"] != identity:
                    raise OutputError(
                        f"The sweep in {self._folder.path} can't be resumed: its model was "
                        f"{line['model']} and is now {identity}; start over with --overwrite."
                    )

    def _announce(self, what: str) -> None:
        self._step(self._done, self._total, what)

    def _settle(self, scores: int) -> None:
        self._done += scores
        self._announce("")


def _layer_of(options: ModelOptions) -> str | None:
    """The layer as `--layer` has it; None where it is the model's own."""
    if options.layer is not None:
        return options.layer
    return None if options.up_ft_index is None else str(options.up_ft_index)


def _common_dtype(items: Sequence[Combination]) -> torch.dtype:
    """What all combinations compute similarities in, or float32, which becomes any of them."""
    dtypes = {
        similarity_dtype(
            item.settings.video.precision, resolve_device(item.settings.options.device)
        )
        for item in items
    }
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def _free_memory() -> None:
    """So that there is never more than one model in memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
