"""Options of architectures: frozen dataclasses that can be stored. No torch.

Every architecture has its own class, so that a config cannot hold an option without an effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from mdan_zoo._util.numbers import is_number
from mdan_zoo.errors import InputError


@dataclass(frozen=True)
class ArchitectureOptions:
    """Base class of the options of an architecture."""

    ignored: ClassVar[frozenset[str]] = frozenset()
    """Fields of configs stored by earlier versions that are ignored."""

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

_ROWS = (2, 4, 8)
"""Numbers that the rows of C4, C3 and C2 are multiples of."""

_WIDEST = 1 << 20
"""An upper limit of the number of channels, far above that of any network."""


@dataclass(frozen=True)
class MDANOptions(ArchitectureOptions):
    """Options of MDAN; the defaults are those of the paper.

    Attributes:
        dim: D, the number of channels of the top-down branch.
        alpha: Weight of the local branch in P_O = alpha P_L + (1 - alpha) P_G.
        heads: MHCCA's heads at affective levels 1, 2 and 3, that is for C4, C3 and C2 (Table 4).
        lcam: How the attention map is transformed; see `LCAMMode`.
        normalise_pyramid: Put a BatchNorm between the backbone's maps and the top-down branch, for
            backbones without a closing nonlinearity: the maps of MobileNetV2 have standard
            deviations of 4 to 6, on which the softmax of Eq. 4 saturates. The global classifier
            reads the plain C5 either way.
        dropout: Dropout probability of the classifiers' inputs during training.
    """

    dim: int = 1024
    alpha: float = 0.7
    heads: tuple[int, int, int] = (2, 4, 8)
    lcam: LCAMMode = "plain"
    normalise_pyramid: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if type(self.dim) is not int or not 1 <= self.dim <= _WIDEST:
            raise InputError(f"dim must be a whole number from 1 to {_WIDEST}, not {self.dim!r}")
        three = isinstance(self.heads, (tuple, list)) and len(self.heads) == 3
        if not three or not all(
            type(h) is int and h >= 1 and rows % h == 0
            for h, rows in zip(self.heads, _ROWS, strict=True)
        ):
            raise InputError(
                "heads must be three numbers that divide 2, 4 and 8, so that every head gets whole "
                f"rows, not {self.heads!r}"
            )
        if not is_number(self.alpha) or not 0.0 <= self.alpha <= 1.0:
            raise InputError(f"alpha must lie within 0 and 1, not {self.alpha!r}")
        if self.lcam not in LCAM_MODES:
            raise InputError(f"lcam must be one of {', '.join(LCAM_MODES)}, not {self.lcam!r}")
        if not isinstance(self.normalise_pyramid, bool):
            raise InputError(
                f"normalise_pyramid must be True or False, not {self.normalise_pyramid!r}"
            )
        _check_dropout(self.dropout)


def _check_dropout(dropout: float) -> None:
    if not is_number(dropout) or not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout must be at least 0 and below 1, not {dropout!r}")
