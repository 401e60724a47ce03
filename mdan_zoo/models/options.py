"""Options of architectures: frozen dataclasses that can be stored. No torch.

Every architecture has its own class, so that a config cannot hold an option without an effect.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from mdan_zoo._util.numbers import is_number
from mdan_zoo._util.values import convert
from mdan_zoo.errors import InputError, UnknownNameError, did_you_mean


@dataclass(frozen=True)
class ArchitectureOptions:
    """Base class of the options of an architecture."""

    ignored: ClassVar[frozenset[str]] = frozenset()
    """Fields of configs stored by earlier versions that are ignored."""

    added: ClassVar[frozenset[str]] = frozenset()
    """Fields that version 0.1 did not have; they are stored only if they are not the default."""

    def check_crop(self, crop: int) -> None:
        """Raise `InputError` unless the options suit square images of `crop` pixels."""

    def changed(self, changes: Mapping[str, object]) -> ArchitectureOptions:
        """Return the options with changes by name; values may be text, such as "4,3,2".

        Raises:
            UnknownNameError: There is no such option.
            InputError: A value has the wrong type, or contradicts another one.
        """
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise UnknownNameError(
                    f"the architecture has no option {name!r}; {did_you_mean(name, names)}"
                    if names
                    else f"the architecture has no options, so {name!r} cannot be changed"
                )
        types = get_type_hints(type(self))
        values = {name: convert(name, value, types[name]) for name, value in changes.items()}
        return dataclasses.replace(self, **values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ArchitectureOptions:
        """Create options from a mapping; lists become tuples. `TypeError` for unknown fields."""
        kept = {name: value for name, value in values.items() if name not in cls.ignored}
        return cls(**with_tuples(kept))


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values from JSON, with tuples in place of lists."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


@dataclass(frozen=True)
class FlatOptions(ArchitectureOptions):
    """Options of the flat classifier.

    Attributes:
        dropout: Dropout probability of the classifier's inputs during training.
    """

    # Version 0.1 stored all options of MDAN, of which a flat classifier used the dropout alone.
    ignored = frozenset({"dim", "alpha", "heads", "lcam", "normalise_pyramid"})

    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_dropout(self.dropout)


@dataclass(frozen=True)
class ProbeOptions(ArchitectureOptions):
    """Options of the probe.

    Attributes:
        hidden: Number of units of the hidden layer; 0: a linear classifier.
        dropout: Dropout probability of the classifier's inputs during training.
    """

    hidden: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if type(self.hidden) is not int or not 0 <= self.hidden <= _WIDEST:
            raise InputError(
                f"hidden must be a whole number from 0 to {_WIDEST}, not {self.hidden!r}"
            )
        _check_dropout(self.dropout)


LCAMMode = Literal["plain", "detached", "normalised", "bounded", "off"]
"""How the fused map M is transformed before it scales the features.

plain: unchanged, with gradients (the paper's formula, the default).
detached: unchanged, without gradients.
normalised: scaled to 0..1 within each image, as for display.
bounded: tanh(M), so that no position is amplified more than twofold.
off: M = 0, the network without L-CAM (the ablation of Table 5).
"""

LCAM_MODES: tuple[str, ...] = get_args(LCAMMode)

LCAMPooling = Literal["mean+max", "mean", "max"]
"""How the class activation maps are fused into M: their mean plus their maximum, or one of them."""

Fusion = Literal["mhcca", "mhcca_kv", "lateral", "none"]
"""What the top-down branch makes of the backbone's map C.

mhcca: Multi-head Cross Channel Attention, C' of Eq. 4 (the default).
mhcca_kv: Eq. 4 with 1x1 convolutions of C as keys and values.
lateral: a 1x1 convolution of C, as in a feature pyramid network.
none: no top-down branch; the local classifiers read C itself.
"""

Branches = Literal["both", "local", "global"]
"""Branches that the network has; with one of them, P_O is P_L or P_G."""

Value = Literal["band", "all"]
"""The positions of C that a head's attention is applied to: the head's own band, or all of them,
in which case the results of the heads are averaged."""

_WIDEST = 1 << 20
"""An upper limit of the number of channels, far above that of any network."""


@dataclass(frozen=True)
class MDANOptions(ArchitectureOptions):
    """Options of MDAN; the defaults are those of the paper. docs/network.md lists its ablations.

    Attributes:
        dim: D, the number of channels of the top-down branch.
        alpha: Weight of the local branch in P_O = alpha P_L + (1 - alpha) P_G.
        heads: MHCCA's heads for C4, C3 and C2, which are contiguous groups of equally many
            positions in row-major order (Table 4).
        lcam: How the attention map is transformed; see `LCAMMode`.
        normalise_pyramid: Put a BatchNorm between the backbone's maps and the top-down branch, for
            backbones without a closing nonlinearity: the maps of MobileNetV2 have standard
            deviations of 4 to 6, on which the softmax of Eq. 4 saturates. The global classifier
            reads the plain C5 either way.
        dropout: Dropout probability of the classifiers' inputs during training.
        fusion: What the top-down branch makes of a map C; see `Fusion`.
        upsample_add: Add the upsampled map of the level above to C' (the paper's UpsampleAdd).
        lcam_pooling: How L-CAM fuses class activation maps; see `LCAMPooling`.
        semantic_levels: The maps, 5 for C5 and so on, that the local classifiers of affective
            levels 1, 2 and 3 read. At least as many as levels of the hierarchy; the others are
            ignored. The top-down branch runs from C4 to the lowest map read, in any order of
            affective levels.
        branches: Branches that the network has; see `Branches`.
        value: Which positions a head's attention is applied to; see `Value`.

    Raises:
        InputError: An option has no valid value, or contradicts another one.
    """

    added = frozenset(
        {"fusion", "upsample_add", "lcam_pooling", "semantic_levels", "branches", "value"}
    )

    dim: int = 1024
    alpha: float = 0.7
    heads: tuple[int, int, int] = (2, 4, 8)
    lcam: LCAMMode = "plain"
    normalise_pyramid: bool = False
    dropout: float = 0.0
    fusion: Fusion = "mhcca"
    upsample_add: bool = True
    lcam_pooling: LCAMPooling = "mean+max"
    semantic_levels: tuple[int, ...] = (4, 3, 2)
    branches: Branches = "both"
    value: Value = "band"

    def __post_init__(self) -> None:
        _check_dim(self.dim)
        three = isinstance(self.heads, (tuple, list)) and len(self.heads) == 3
        if not three or not all(type(h) is int and h >= 1 for h in self.heads):
            raise InputError(
                f"heads must be three whole numbers, for C4, C3 and C2, not {self.heads!r}"
            )
        if not is_number(self.alpha) or not 0.0 <= self.alpha <= 1.0:
            raise InputError(f"alpha must lie within 0 and 1, not {self.alpha!r}")
        for name, kind in _CHOICES.items():
            if (given := getattr(self, name)) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise InputError(f"{name} must be one of {known}, not {given!r}")
        for name in ("normalise_pyramid", "upsample_add"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be True or False, not {getattr(self, name)!r}")
        _check_dropout(self.dropout)
        self._check_semantic_levels()
        self._check_combination()

    def _check_semantic_levels(self) -> None:
        given = self.semantic_levels
        valid = isinstance(given, (tuple, list)) and all(type(s) is int for s in given)
        if not valid or sorted(given) not in _RUNS:
            raise InputError(
                "semantic_levels must be one to three successive levels of 5, 4, 3 and 2, each "
                f"once, in any order, such as (4, 3, 2), not {given!r}"
            )

    def _check_combination(self) -> None:
        """Raise `InputError` for options that contradict others or would have no effect."""
        alpha = {"local": 1, "global": 0}.get(self.branches, self.alpha)
        if self.alpha != alpha:
            raise InputError(
                f"with branches={self.branches!r}, alpha must be {alpha}, not {self.alpha:g}"
            )
        meaningless: dict[str, Collection[str]] = {
            "branches='global'": self.added - {"branches"} if self.branches == "global" else (),
            f"fusion={self.fusion!r}": () if self._attends else ("upsample_add", "value"),
            "lcam='off'": ("lcam_pooling",) if self.lcam == "off" else (),
        }
        for reason, names in meaningless.items():
            for name in sorted(names):
                given, default = getattr(self, name), getattr(MDANOptions, name)
                if given != default:
                    raise InputError(
                        f"{name}={given!r} cannot be combined with {reason}; use {default!r}"
                    )
        levels, top_down = self.semantic_levels, self.fusion != "none"
        if top_down and 5 in levels:
            raise InputError(
                "the top-down branch starts at C5, so semantic_levels must be of 4, 3 and 2, not "
                f"{levels!r}; fusion='none' allows 5"
            )
        if top_down and self.lcam != "off" and [*levels] != sorted(levels, reverse=True):
            raise InputError(
                "L-CAM needs the prediction of the affective level above, so semantic_levels must "
                f"descend, not be {levels!r}; lcam='off' or fusion='none' allows any order"
            )

    @property
    def _attends(self) -> bool:
        """Whether the network has MHCCA."""
        return self.branches != "global" and self.fusion in ("mhcca", "mhcca_kv")

    def check_crop(self, crop: int) -> None:
        """Raise `InputError` unless heads divide the maps of images of `crop` x `crop` pixels."""
        sizes = [(crop // stride) ** 2 for stride in (16, 8, 4)]
        if self._attends and any(size % h for size, h in zip(sizes, self.heads, strict=True)):
            raise InputError(
                f"heads must divide the numbers of positions of C4, C3 and C2, which are "
                f"{', '.join(map(str, sizes))} at {crop} x {crop} pixels, not {self.heads!r}"
            )


_RUNS = [list(range(low, high + 1)) for low in (2, 3, 4, 5) for high in range(low, min(low + 3, 6))]
"""Sorted semantic levels that `MDANOptions.semantic_levels` may have."""

_CHOICES = {
    "lcam": LCAMMode,
    "fusion": Fusion,
    "lcam_pooling": LCAMPooling,
    "branches": Branches,
    "value": Value,
}


@dataclass(frozen=True)
class FPNOptions(ArchitectureOptions):
    """Options of the feature pyramid network.

    Attributes:
        dim: The number of channels of the pyramid.
        dropout: Dropout probability of the classifier's inputs during training.
    """

    dim: int = 256
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_dim(self.dim)
        _check_dropout(self.dropout)


@dataclass(frozen=True)
class CNNRNNOptions(ArchitectureOptions):
    """Options of the unified CNN-RNN.

    Attributes:
        dim: Width of the projections, and of the two directions of the GRU together; even.
        contrastive_weight: Weight of the contrastive loss.
    """

    dim: int = 512
    contrastive_weight: float = 0.5

    def __post_init__(self) -> None:
        _check_dim(self.dim)
        if self.dim % 2:
            raise InputError(
                f"dim must be even, for the two directions of the GRU, not {self.dim!r}"
            )
        _check_weight("contrastive_weight", self.contrastive_weight)


@dataclass(frozen=True)
class IntensityOptions(ArchitectureOptions):
    """Options of the emotion intensity network.

    Attributes:
        dim: The number of channels of the pyramid.
        intensity_weight: Weight of the loss of the intensity map.
    """

    dim: int = 256
    intensity_weight: float = 1.0

    def __post_init__(self) -> None:
        _check_dim(self.dim)
        _check_weight("intensity_weight", self.intensity_weight)


@dataclass(frozen=True)
class WSCNetOptions(ArchitectureOptions):
    """Options of WSCNet.

    Attributes:
        maps_per_class: k, the number of detection maps of which the map of a class is the mean.
    """

    maps_per_class: int = 4

    def __post_init__(self) -> None:
        if type(self.maps_per_class) is not int or not 1 <= self.maps_per_class <= 64:
            raise InputError(
                f"maps_per_class must be a whole number from 1 to 64, not {self.maps_per_class!r}"
            )


ChannelGate = Literal["double_sigmoid", "sigmoid"]
SpatialPooling = Literal["mean", "sum"]


@dataclass(frozen=True)
class PDANetOptions(ArchitectureOptions):
    """Options of PDANet; the defaults are those of the authors' code.

    Attributes:
        channel_gate: How the gate a of the channels follows from g, the mean over the positions of
            sigmoid(convolution): "double_sigmoid" is 1 + sigmoid(g), "sigmoid" is g.
        spatial_pooling: How the features, weighted by the spatial attention, are pooled: "mean"
            divides by the number of positions although the weights sum to 1, "sum" does not.
        polarity_weight: lambda, by which the loss of an image grows if the polarity of the
            predicted class is not that of the label.
    """

    channel_gate: ChannelGate = "double_sigmoid"
    spatial_pooling: SpatialPooling = "mean"
    polarity_weight: float = 0.5

    def __post_init__(self) -> None:
        for name, kind in (("channel_gate", ChannelGate), ("spatial_pooling", SpatialPooling)):
            if getattr(self, name) not in get_args(kind):
                known = " or ".join(get_args(kind))
                raise InputError(f"{name} must be {known}, not {getattr(self, name)!r}")
        _check_weight("polarity_weight", self.polarity_weight)


def _check_dim(dim: int) -> None:
    if type(dim) is not int or not 1 <= dim <= _WIDEST:
        raise InputError(f"dim must be a whole number from 1 to {_WIDEST}, not {dim!r}")


def _check_weight(name: str, weight: float) -> None:
    if not is_number(weight) or weight < 0:
        raise InputError(f"{name} must be a number of at least 0, not {weight!r}")


def _check_dropout(dropout: float) -> None:
    if not is_number(dropout) or not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout must be at least 0 and below 1, not {dropout!r}")
