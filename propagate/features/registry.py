"""Feature extractors by name: the families' cards, and models that have none.

A family is one file of `propagate.features.families`, found by being there.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path

from propagate.config import RIVAL_OPTIONS, ModelOptions, Task
from propagate.errors import InputError, ModelError
from propagate.features import families, hub
from propagate.features.base import FeatureExtractor, LayeredExtractor
from propagate.features.card import Family, Layout, ModelCard
from propagate.features.expression import Part, parse


@cache
def all_families() -> Mapping[str, Family]:
    """The families by name, in the order of their files."""
    found = [
        import_module(f"{families.__name__}.{module.name}").FAMILY
        for module in pkgutil.iter_modules(families.__path__)
    ]
    return {family.name: family for family in found}


@cache
def cards() -> Mapping[str, ModelCard]:
    """Every model that has a name, by that name."""
    return {card.name: card for family in all_families().values() for card in family.cards}


@cache
def _named() -> Mapping[str, tuple[ModelCard, Family]]:
    """Cards by name, alias, and the repositories that they are published in."""
    found: dict[str, tuple[ModelCard, Family]] = {}
    for family in all_families().values():
        for card in family.cards:
            published = (repository.repo_id for repository in card.repositories)
            for name in (card.name, *card.aliases, *published):
                found.setdefault(name, (card, family))
    return found


@dataclass(frozen=True)
class LocatedModel:
    """A model whose files are on this machine.

    Args:
        card: what is known of it; a bare one for a folder or repository without a name.
        family: what loads it.
        files: where its weights are.
    """

    card: ModelCard
    family: Family
    files: hub.ResolvedModel


def find_card(model: str) -> ModelCard:
    """The card of a name, alias, existing folder or file, or hub repository.

    Raises:
        ModelError: it is none of these; names the closest name.
    """
    if model in _named():
        return _named()[model][0]
    if Path(model).expanduser().exists():
        return ModelCard(name=model, folder=Path(model).expanduser())
    repository = hub.repository_of(model)
    if repository is None:
        close = difflib.get_close_matches(model, _named(), n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise ModelError(
            f"Model {model!r} is not a name that `propagate models list` shows, not a folder that "
            f"exists, and not a hub repository as `owner/name`{hint}"
        )
    return ModelCard(name=model, repositories=(repository,))


def locate(model: str, *, offline: bool = False) -> LocatedModel:
    """Find a model's files, downloading them where that is allowed and needed.

    Raises:
        ModelError: there is no such model, or its weights are not to be had or not complete.
    """
    card = find_card(model)
    if model in _named():
        family = _named()[model][1]
        files = _locate_named(card, family, offline=offline)
        return LocatedModel(card, family, files)
    if card.folder is not None:
        files = hub.local(card.folder, _select_any)
    else:
        files = hub.resolve(model, card.repositories, _select_any, offline=offline)
    return LocatedModel(card, _family_of(files.layout.files, files.name), files)


def _locate_named(card: ModelCard, family: Family, *, offline: bool) -> hub.ResolvedModel:
    if card.ships:
        if card.inside is None:
            return hub.ResolvedModel(Path(), Layout(()))
        return hub.installed(card.name, card.inside, family.select)
    if card.download is not None:
        return hub.fetch_file(card.name, card.download, offline=offline)
    files = hub.resolve(card.name, card.repositories, family.select, offline=offline)
    if card.base is None:
        return files
    base, base_family = _named()[card.base]
    select = family.select_base or base_family.select
    return replace(files, base=hub.resolve(base.name, base.repositories, select, offline=offline))


def find_installed(model: str) -> hub.ResolvedModel | None:
    """A model's files if they are on this machine, without asking a hub; None otherwise."""
    try:
        return locate(model, offline=True).files
    except ModelError:
        return None


def understands(model: str, option: str, *, offline: bool = False) -> bool:
    """Whether a model, or a part of it, has an option of its own or shared.

    Raises:
        ModelError: as `locate`.
    """
    located = (locate(part.model, offline=offline) for part in parse(model))
    return any(option in found.family.known for found in located)


def create_extractor(
    model: str, options: ModelOptions, *, task: Task = "propagation"
) -> FeatureExtractor:
    """Load the extractor called `model`.

    Args:
        model: a name or alias of `cards()`, a local folder or file, a hub repository as
            `owner/name[@revision]`, or several of them fused: `sd21:2+dinov2-b`, with their own
            options in brackets: `sd21[t=101]+dinov2-b[layer=9]`.
        options: what the user set; None means the model's own default for the task.
        task: whose defaults are taken.

    Raises:
        InputError: when an option is set that no part of the model has.
        ModelError: when weights are missing or wrong.
    """
    parts = parse(model)
    located = [locate(part.model, offline=options.offline) for part in parts]
    _check_options(model, options, located)
    extractors = [
        _load(part, found, options, task) for part, found in zip(parts, located, strict=True)
    ]
    made = _compose(extractors, [part.weight for part in parts], options)
    if task != "propagation" and " pca=" in made.identity:
        raise InputError(
            f"{model} gives each clip principal components of its own, which match nothing in "
            "another; leave --pca out, and extract features to match with --task."
        )
    return made


def create_layered(
    model: str, options: ModelOptions, layers: Sequence[str], *, task: Task = "propagation"
) -> LayeredExtractor | None:
    """One extractor for several layers, each as `create_extractor` gives it with that layer alone.

    Args:
        model: as for `create_extractor`.
        options: what the user set, beside the layer.
        layers: a `layer` option each.
        task: whose defaults are taken.

    Returns:
        None where one pass can't give them all: fused models or layers, principal components, and
        extractors that have one layer only.

    Raises:
        InputError, ModelError: as `create_extractor`.
    """
    parts = parse(model)
    inside = [name for part in parts for name in part.options]
    fused = len(parts) > 1 or any("+" in layer for layer in layers)
    if fused or options.pca is not None or {"layer", "up_ft_index"} & set(inside):
        return None
    together = replace(options, layer="+".join(layers), up_ft_index=None)
    extractor = create_extractor(model, together, task=task)
    return extractor if isinstance(extractor, LayeredExtractor) else None


def _load(part: Part, found: LocatedModel, options: ModelOptions, task: Task) -> FeatureExtractor:
    known = found.family.known
    foreign = [name for name in part.options if name not in known]
    if foreign:
        raise _foreign(foreign, part.model)
    shared = options.given(*sorted(known))
    # An option in brackets overrules its namesake, and its rival, for this part.
    for rivals in RIVAL_OPTIONS:
        if any(name in part.options for name in rivals):
            shared = {name: value for name, value in shared.items() if name not in rivals}
    own = ModelOptions(**{**shared, **part.options, "offline": options.offline})
    complete = own.over(found.family.defaults(found.card, task))
    return found.family.load(found.card, found.files, complete)


def _compose(
    extractors: list[FeatureExtractor], weights: list[float], options: ModelOptions
) -> FeatureExtractor:
    from propagate.features.fusion import FusedExtractor
    from propagate.features.pca import PCAExtractor

    whole = extractors[0] if len(extractors) == 1 else FusedExtractor(extractors, weights)
    if options.pca is None:
        return whole
    return PCAExtractor(whole, options.pca, whitening=options.whitening or 0.0)


def _check_options(model: str, options: ModelOptions, located: list[LocatedModel]) -> None:
    known = frozenset[str]().union(*(found.family.known for found in located))
    all_known = frozenset[str]().union(*(family.known for family in all_families().values()))
    foreign = [name for name in sorted(all_known - known) if options.is_set(name)]
    if foreign:
        raise _foreign(foreign, model)


def _foreign(names: list[str], model: str) -> InputError:
    return InputError(
        f"{', '.join(names)} set for {model}, which has no such option; leave it out, or choose "
        "another model with --model."
    )


def _family_of(present: Collection[str], name: str) -> Family:
    for family in all_families().values():
        if family.matches(present):
            return family
    shown = ", ".join(sorted(present)[:5]) or "no files"
    raise ModelError(
        f"{name} holds no model that is known here (it has {shown}); expected is a diffusers "
        "pipeline, a transformers vision model, a checkpoint of ADM (.pt) or a folder of stored "
        "features."
    )


def _select_any(present: Collection[str], name: str) -> Layout:
    return _family_of(present, name).select(present, name)
