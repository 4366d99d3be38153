"""Settings as frozen, checked value objects, and the named presets made of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from propagate.errors import InputError

WindowShape = Literal["square", "circle", "open-circle"]
MaskEncoding = Literal["area", "nearest"]
MaskDecoding = Literal["bilinear", "guided", "dift"]
KeypointEncoding = Literal["gaussian", "crw"]
KeypointDecoding = Literal["soft-argmax", "weighted", "crw"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
LatentMode = Literal["sample", "mean"]
Facet = Literal["token", "query", "key", "value"]
Resizing = Literal["bilinear", "bicubic"]
Direction = Literal["auto", "forward", "backward", "both"]
Task = Literal["propagation", "semantic", "geometric"]

RIVAL_OPTIONS = (("layer", "up_ft_index"), ("short_side", "input_size"))
"""Options of `ModelOptions` that say the same thing in two ways: setting one unsets the other."""


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")


@dataclass(frozen=True, kw_only=True)
class PropagationSettings:
    """How labels are voted from the context frames to the next one.

    Args:
        n_last_frames: how many of the latest frames are in the context beside the references.
        radius: half side (square) or radius (circle) of the search window in grid cells; 0 means
            no limit.
        window: shape of the search window; "open-circle" is "circle" without the cells that are
            exactly at the radius, as CRW has it.
        limit_references: whether the window also limits the pinned reference frames, as DINO and
            DIFT have it. Without the limit an object is found again after it was hidden or jumped.
        topk: how many of the most similar cells, over all context frames together, vote.
            Cells that tie with the k-th vote too if `ties` is set.
        ties: whether all cells that tie with the k-th vote, as DIFT has it, or exactly k, as CRW.
            In 16-bit precision it is exactly k.
        repeat_first: whether copies of the first reference stand in for latest frames that are not
            there yet, as CRW has it.
        temperature: a cell votes with weight exp(cosine / temperature).
        cut_below: the latest frames stop voting, and the references alone go on, at a frame whose
            `continuity` with the frame before is less than this; 0 turns it off.
        patch: how many soft labels a cell carries along each side. The patch moves as one, so that
            labels are finer than features.
    """

    n_last_frames: int = 7
    radius: int = 12
    window: WindowShape = "square"
    limit_references: bool = False
    topk: int = 5
    ties: bool = True
    repeat_first: bool = False
    temperature: float = 0.1
    cut_below: float = 0.0
    patch: int = 1

    def __post_init__(self) -> None:
        for name, least in (("n_last_frames", 0), ("radius", 0), ("topk", 1), ("patch", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}; it must be greater than 0.")
        if not 0 <= self.cut_below <= 1:
            raise InputError(f"cut_below is {self.cut_below}; it must be from 0 (off) to 1.")
        _check_choice("window", self.window, get_args(WindowShape))


@dataclass(frozen=True, kw_only=True)
class KeypointSettings:
    """How keypoints become soft labels and soft labels keypoints.

    Args:
        sigma: of the Gaussian that a point is on the grid, in cells of the labels. CRW takes 0.5.
        encoding: "gaussian" is centred on the exact place; "crw" on a whole cell, as CRW draws it.
        decoding: "soft-argmax" is the centre of mass of the scores around the highest one;
            "weighted" that of the `cells` highest scores wherever they are, as CRW does; "crw"
            is the same for points encoded by "crw", whose cells count half a cell lower.
        reach: cells to each side that "soft-argmax" looks at.
        cells: how many cells "weighted" takes.
        visible_from: the least confidence of a point that counts as visible, 0 to 1; on BADJA
            0.4 hides 2 % of the right places and 11 % of the wrong ones.
    """

    sigma: float = 1.0
    encoding: KeypointEncoding = "gaussian"
    decoding: KeypointDecoding = "soft-argmax"
    reach: int = 3
    cells: int = 3
    visible_from: float = 0.4

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise InputError(f"sigma is {self.sigma} cells; it must be greater than 0.")
        for name, least in (("reach", 0), ("cells", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be {least} or more.")
        if not 0 <= self.visible_from <= 1:
            raise InputError(f"visible_from is {self.visible_from}; it must be from 0 to 1.")
        _check_choice("keypoint encoding", self.encoding, get_args(KeypointEncoding))
        _check_choice("keypoint decoding", self.decoding, get_args(KeypointDecoding))
        if (self.encoding == "crw") != (self.decoding == "crw"):
            raise InputError(
                f"The keypoint encoding {self.encoding!r} and decoding {self.decoding!r} don't "
                "fit; crw goes with crw only."
            )


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """Everything between a clip's features and its labels.

    Args:
        propagation: context, window and vote.
        mask_encoding: how the reference masks become soft labels on the grid.
        mask_decoding: how soft labels become masks; see `decode_masks`.
        keypoints: the same for keypoints.
        precision: what similarities are computed in; "auto" is fp32 where the search is compiled
            for the CPU, and else bf16 where the device has it.
        direction: from annotated frames to later ones, to earlier ones, or both; "auto" is both
            unless the first frame alone is annotated.
    """

    propagation: PropagationSettings = field(default_factory=PropagationSettings)
    mask_encoding: MaskEncoding = "area"
    mask_decoding: MaskDecoding = "bilinear"
    keypoints: KeypointSettings = field(default_factory=KeypointSettings)
    precision: Precision = "auto"
    direction: Direction = "auto"

    def __post_init__(self) -> None:
        _check_choice("direction", self.direction, get_args(Direction))
        _check_choice("mask_encoding", self.mask_encoding, get_args(MaskEncoding))
        _check_choice("mask_decoding", self.mask_decoding, get_args(MaskDecoding))
        _check_choice("precision", self.precision, get_args(Precision))


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What a user may set about a feature extractor; None leaves the model's own default.

    Args:
        t: diffusion step the noise is added for, 0-999.
        up_ft_index: up block (output block of ADM) whose output is the feature map, as DIFT counts.
        layer: what the map is the output of: the name of a module of a diffusion network (see
            `propagate models layers`), the number of a transformer block; several joined by "+"
            are fused.
        facet: what is taken of a transformer block: its tokens, or its queries, keys or values.
        ensemble_size: noise draws that are averaged.
        prompt: text condition.
        latent: "sample" draws latents from the VAE's posterior, as DIFT does; "mean" takes its
            mean.
        prune: least share that a map must have of an aggregation's mixture; those with less are
            left out.
        short_side: length the frame's short side is resized to, in pixels.
        input_size: (height, width) the frame is resized to, whatever its shape.
        resizing: how it is resized: "bilinear" without or "bicubic" with antialiasing.
        pca: principal components to keep at most, fitted on the first frames.
        whitening: how much the weaker of them are lifted, from 0 (not) to 1 (equally strong);
            nothing without `pca`.
        seed: of the noise, together with the frame's index.
        device: "auto", "cpu", "cuda" or "mps".
        dtype: precision of the network.
        compile: compile the network's blocks with `torch.compile`.
        batch_size: the most network inputs (frames, or ensemble members) computed at once.
        memory: gigabytes that activations may take, from which the batch follows.
        offline: never ask a model hub; use what is cached.
    """

    t: int | None = None
    up_ft_index: int | None = None
    layer: str | None = None
    facet: Facet | None = None
    ensemble_size: int | None = None
    prompt: str | None = None
    latent: LatentMode | None = None
    prune: float | None = None
    short_side: int | None = None
    input_size: tuple[int, int] | None = None
    resizing: Resizing | None = None
    pca: int | None = None
    whitening: float | None = None
    seed: int = 0
    device: str = "auto"
    dtype: Precision = "auto"
    compile: bool = False
    batch_size: int | None = None
    memory: float | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        least = {"t": 0, "up_ft_index": 0, "ensemble_size": 1, "pca": 1, "seed": 0, "batch_size": 1}
        for name, value in self.given(*least).items():
            if value < least[name]:
                raise InputError(f"{name} is {value}; it must be {least[name]} or more.")
        if self.whitening is not None and not 0 <= self.whitening <= 1:
            raise InputError(f"whitening is {self.whitening}; it must be from 0 (off) to 1.")
        if self.prune is not None and not 0 <= self.prune < 1:
            raise InputError(f"prune is {self.prune}; it must be 0 (off) or more, and less than 1.")
        if self.memory is not None and not self.memory > 0:
            raise InputError(f"memory is {self.memory} GB; it must be greater than 0.")
        if self.input_size is not None and min(self.input_size) < 1:
            height, width = self.input_size
            raise InputError(f"input_size is {width}x{height}; both sides must be 1 or more.")
        kinds = (
            ("latent", LatentMode),
            ("facet", Facet),
            ("resizing", Resizing),
            ("dtype", Precision),
        )
        for name, kind in kinds:
            for value in self.given(name).values():
                _check_choice(name, value, get_args(kind))
        if self.layer is not None and self.up_ft_index is not None:
            raise InputError(
                f"layer {self.layer!r} and up_ft_index {self.up_ft_index} both say where features "
                "are taken; give one of them."
            )

    def is_set(self, name: str) -> bool:
        """Whether an option differs from what it is when nobody says anything."""
        return bool(getattr(self, name) != _UNSET[name])

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the named options that were set."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def over(self, defaults: ModelOptions) -> ModelOptions:
        """These options, with `defaults` where nothing was set.

        What is said about the layer or the input's size replaces all that the defaults say of it.
        """
        names = [item.name for item in fields(self) if getattr(defaults, item.name) is not None]
        for rivals in RIVAL_OPTIONS:
            if self.given(*rivals):
                names = [name for name in names if name not in rivals]
        if self.given("layer", "up_ft_index"):
            names = [name for name in names if name != "facet"]
        unset = [name for name in names if not self.is_set(name)]
        return replace(self, **{name: getattr(defaults, name) for name in unset})


_UNSET = {item.name: item.default for item in fields(ModelOptions)}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named, complete configuration.

    Args:
        summary: one line on what it is and where the numbers come from.
        model: default model.
        options: default model options.
        video: propagation and mask settings.
    """

    summary: str
    model: str
    options: ModelOptions = field(default_factory=ModelOptions)
    video: VideoSettings = field(default_factory=VideoSettings)


EMBEDDED_MODEL = "efficientnet-lite0"

# The continuity of the embedded model's whitened components from one frame to the next is .74 and
# more on DAVIS-2016 train, .61 with every second frame left out; of frames of different clips it is
# .49 at most in 99 %.
_CUT_BELOW = 0.55

_DINO = VideoSettings(
    propagation=PropagationSettings(
        n_last_frames=7, radius=12, limit_references=True, topk=5, temperature=0.1
    ),
    mask_encoding="nearest",
    mask_decoding="dift",
    precision="fp32",
)


def _dift(topk: int, temperature: float) -> VideoSettings:
    return VideoSettings(
        propagation=PropagationSettings(
            n_last_frames=28, radius=15, limit_references=True, topk=topk, temperature=temperature
        ),
        mask_encoding="nearest",
        mask_decoding="dift",
        precision="fp32",
    )


def _embedded(summary: str, *, short_side: int | None = None, radius: int = 12) -> Preset:
    """The embedded model for masks; `short_side` None is its own, 480."""
    return Preset(
        summary=summary,
        model=EMBEDDED_MODEL,
        options=ModelOptions(
            layer="2:0.5+4+10+14:0.5", pca=64, whitening=0.3, short_side=short_side
        ),
        video=VideoSettings(
            propagation=PropagationSettings(radius=radius, patch=2, cut_below=_CUT_BELOW),
            mask_decoding="guided",
        ),
    )


PRESETS = {
    "default": _embedded("the same as fast"),
    "best": _embedded("fast on larger frames, in twice the time", short_side=640, radius=16),
    "fast": _embedded("the embedded model with settings chosen on DAVIS-2016 train clips"),
    "keypoints": Preset(
        summary="the embedded model with settings chosen on clips of BADJA and JHMDB and two flies",
        model=EMBEDDED_MODEL,
        options=ModelOptions(layer="2:0.5+4+10+14:2", pca=64, whitening=0.3),
        video=VideoSettings(
            propagation=PropagationSettings(
                n_last_frames=15, topk=10, temperature=0.05, cut_below=_CUT_BELOW
            ),
            keypoints=KeypointSettings(sigma=0.7),
        ),
    ),
    "crw": Preset(
        summary="exact propagation of CRW on JHMDB (320x320, points on whole cells)",
        model=EMBEDDED_MODEL,
        options=ModelOptions(input_size=(320, 320), dtype="fp32"),
        video=VideoSettings(
            propagation=PropagationSettings(
                n_last_frames=20,
                radius=12,
                window="open-circle",
                topk=10,
                ties=False,
                repeat_first=True,
                temperature=0.05,
            ),
            keypoints=KeypointSettings(sigma=0.5, encoding="crw", decoding="crw"),
            precision="fp32",
        ),
    ),
    "dift-adm": Preset(
        summary="exact protocol of DIFT's eval_davis.py with DIFT_adm (ADM, ImageNet 256x256)",
        model="dift-adm",
        options=ModelOptions(t=51, up_ft_index=7, ensemble_size=4, short_side=480, dtype="fp32"),
        video=_dift(topk=10, temperature=0.1),
    ),
    "dift-sd": Preset(
        summary="exact protocol of DIFT's eval_davis.py with DIFT_sd (Stable Diffusion 2.1)",
        model="dift-sd21",
        options=ModelOptions(
            t=51, up_ft_index=2, ensemble_size=8, prompt="", short_side=480, dtype="fp32"
        ),
        video=_dift(topk=15, temperature=0.2),
    ),
    "dino": Preset(
        summary="exact protocol of DINO's eval_video_segmentation.py, on the embedded model",
        model=EMBEDDED_MODEL,
        options=ModelOptions(dtype="fp32"),
        video=_DINO,
    ),
    "dino-vit": Preset(
        summary="the same protocol on DINO's own ViT-B/8, as published",
        model="dino-b8",
        options=ModelOptions(short_side=480, dtype="fp32"),
        video=_DINO,
    ),
}


def preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        InputError: naming the presets there are.
    """
    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}; choose from {', '.join(PRESETS)}.")
    return PRESETS[name]
