"""What every network of the zoo returns, and the summing of probabilities up the emotion tree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.input_spec import STRIDE


@dataclass(frozen=True)
class EmotionOutput:
    """Predictions for N images and a tree with K_1, ..., K_n classes a level.

    Tuples hold one tensor a level, coarse to fine. Log-probabilities are float32 (or float64)
    also under autocast.

    Attributes:
        local_logits: (N, K_l) each, from the local classifiers (Eq. 1). Empty for a network
            without a local branch; so are `log_local` and `maps`.
        global_logits: (N, K_n), from the classifier on the backbone's last map.
        log_local: log P_L, (N, K_l) each (Eq. 1).
        log_global: log P_G, (N, K_l) each (Eq. 2).
        log_overall: log P_O, (N, K_l) each.
        features: (N, C), the pooled last map of the backbone, which the global classifier reads.
        maps: L-CAM's M at the size of the level's map, (N, H_l, W_l) each; empty unless requested.
        class_maps: Class activation maps m_k, (N, K_l, H_l, W_l) each; empty unless requested. A
            flat network has one entry, the maps of its finest level on the backbone's last map.
    """

    local_logits: tuple[Tensor, ...]
    global_logits: Tensor
    log_local: tuple[Tensor, ...]
    log_global: tuple[Tensor, ...]
    log_overall: tuple[Tensor, ...]
    features: Tensor
    maps: tuple[Tensor, ...] = ()
    class_maps: tuple[Tensor, ...] = ()

    @property
    def local(self) -> tuple[Tensor, ...]:
        """P_L, (N, K_l) each."""
        return tuple(level.exp() for level in self.log_local)

    @property
    def global_(self) -> tuple[Tensor, ...]:
        """P_G, (N, K_l) each. The underscore is there because `global` is a Python keyword."""
        return tuple(level.exp() for level in self.log_global)

    @property
    def overall(self) -> tuple[Tensor, ...]:
        """P_O, (N, K_l) each."""
        return tuple(level.exp() for level in self.log_overall)


_FIELDS = tuple(EmotionOutput.__dataclass_fields__)

# torch.export and torch.func see through the output only when told how to take it apart.
_pytree.register_pytree_node(
    EmotionOutput,
    lambda output: ([getattr(output, name) for name in _FIELDS], None),
    lambda values, _: EmotionOutput(*values),
    serialized_type_name="mdan_zoo.EmotionOutput",
)


class EmotionTree(nn.Module):
    """A hierarchy as masks on the model's device.

    The masks follow from the hierarchy and are therefore no part of the weights.

    Args:
        hierarchy: The emotion tree.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        super().__init__()
        self.depth = hierarchy.depth
        root = torch.ones(1, hierarchy.sizes[0], dtype=torch.bool)
        self.register_buffer("kinship_0", root, persistent=False)
        for level, parents in enumerate(hierarchy.parent_indices, start=1):
            count = hierarchy.sizes[level - 1]
            mask = torch.arange(count)[:, None] == torch.tensor(parents)[None, :]
            self.register_buffer(f"kinship_{level}", mask, persistent=False)

    def kinship(self, level: int) -> Tensor:
        """Return bool (P, K): which class of `level` is a child of which class one level up.

        Level 0 has one parent, the root.
        """
        mask: Tensor = getattr(self, f"kinship_{level}")
        return mask

    def sum_upwards(self, log_leaves: Tensor) -> tuple[Tensor, ...]:
        """Sum leaf probabilities up the tree (Eq. 2), in log space.

        Args:
            log_leaves: (N, K_n), log-probabilities of the finest level.

        Returns:
            Log-probabilities (N, K_l) of every level, coarse to fine.
        """
        levels = [log_leaves]
        for level in range(self.depth - 1, 0, -1):
            strangers = ~self.kinship(level)
            kin = levels[0][:, None, :].masked_fill(strangers, -torch.inf)
            levels.insert(0, kin.logsumexp(dim=2))
        return tuple(levels)


def log_softmax(logits: Tensor) -> Tensor:
    """Return log-probabilities in at least float32, whatever autocast made of the logits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=1)


def check_images(images: Tensor, weights: Tensor) -> None:
    """Raise `InputError` unless `images` is (N, 3, H, W) with sides that are multiples of 32.

    Its values must be of the type of the weights, or be brought to it by autocast.
    """
    if not isinstance(images, Tensor):
        raise InputError(
            f"images must be a tensor (N, 3, height, width), not {type(images).__name__}"
        )
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[0] == 0:
        raise InputError(f"images must be a tensor (N, 3, height, width), not of shape {shape}")
    if not images.is_floating_point():
        raise InputError(f"images must be normalised floating-point values, not {images.dtype}")
    types = {images.dtype, weights.dtype}
    if len(types) > 1 and (torch.float64 in types or not _is_mixed(images)):
        raise InputError(
            f"the images are {images.dtype}, but the network's weights {weights.dtype}; "
            "convert the images with .to(...)"
        )
    height, width = shape[2:]
    if height % STRIDE or width % STRIDE or not height or not width:
        nearest = " x ".join(str(max(STRIDE, round(side / STRIDE) * STRIDE)) for side in shape[2:])
        raise InputError(
            f"the sides of the images must be multiples of {STRIDE}, not {height} x {width}; "
            f"the nearest such size is {nearest}"
        )


def _is_mixed(images: Tensor) -> bool:
    """Tell whether autocast is on, which converts all types but float64."""
    return torch.is_autocast_enabled(images.device.type)
