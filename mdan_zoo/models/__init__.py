"""The networks, as plain `torch.nn.Module`s that know nothing of files, names or downloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TypeAlias

    from mdan_zoo.models.flat import FlatClassifier
    from mdan_zoo.models.mdan.network import MDAN

    EmotionNetwork: TypeAlias = MDAN | FlatClassifier
