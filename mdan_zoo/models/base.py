"""Base class and output of every network."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.input_spec import STRIDE
from mdan_zoo.models.dimensions import Dimension
from mdan_zoo.models.layers import HierarchyMasks, is_plain, log_softmax
from mdan_zoo.models.options import ArchitectureOptions


@dataclass(frozen=True, eq=False)
class EmotionOutput:
    """Predictions for N images and a hierarchy with K_1, ..., K_n classes per level.

    Tuples have one tensor per level, coarse to fine. Log-probabilities are at least float32.

    Attributes:
        log_probs: Log-probabilities of every branch, (N, K_l) each: "overall", and the network's
            `branches`.
        features: (N, C), the pooled last map of the backbone.
        logits: Logits of the branches' classifiers, (N, K_l) each, for the levels that a classifier
            predicts directly: MDAN's "local" for all levels, its "global" for the finest one.
        auxiliary: Logits, embeddings or maps by name that only the network's `auxiliary_loss` uses.
        dimensions: Continuous predictions by name, such as "valence", (N,) each, in units of the
            rating scale. They can leave the scale.
        maps: Attention maps, (N, H_l, W_l) each, for the levels of `class_maps` or none; empty
            unless requested.
        class_maps: Class activation maps m_k, (N, K_l, H_l, W_l) each, for all levels or only the
            finest ones; empty unless requested.
    """

    log_probs: Mapping[str, tuple[Tensor, ...]]
    features: Tensor
    logits: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)
    dimensions: Mapping[str, Tensor] = field(default_factory=dict)
    maps: tuple[Tensor, ...] = ()
    class_maps: tuple[Tensor, ...] = ()

    @property
    def probs(self) -> dict[str, tuple[Tensor, ...]]:
        """Probabilities of every branch, (N, K_l) each."""
        return {
            branch: tuple(level.exp() for level in levels)
            for branch, levels in self.log_probs.items()
        }


# Without this, torch.export and torch.func do not see the tensors inside.
_pytree.register_pytree_node(
    EmotionOutput,
    lambda output: (list(vars(output).values()), None),
    lambda values, _: EmotionOutput(*values),
    serialized_type_name="mdan_zoo.EmotionOutput",
)


class EmotionModel(nn.Module, abc.ABC):
    """Base class of every network: a backbone, and classifiers for the levels of a hierarchy.

    A subclass is registered with `register_architecture`. It implements `classify`, `classifiers`
    and `card_text`, and may override the other methods.

    Args:
        backbone: Maps images (N, 3, H, W) to the maps C2..C5 at strides 4, 8, 16 and 32.
        channels: The four numbers of channels of C2, C3, C4 and C5. A backbone that returns an
            embedding, (N, C, 1, 1) in place of C5, has 0 channels in the others.
        hierarchy: The emotion hierarchy.
        options: Options of the architecture.

    Attributes:
        branches: Names of the branches besides "overall". A network with one branch has equal
            probabilities in both. The options of an instance may remove branches of the class.
        accepts_embedding: Whether the backbone may return an embedding instead of feature maps.
        frozen_backbone: Whether training must not change the backbone.
        loss_weights: Weights of the cross-entropy losses of the branches in training. The fields
            overall_weight, local_weight and global_weight of a recipe replace them.
        attention_name: What the attention maps are called in figures.
        map_legend: What the maps show, for figures.
    """

    architecture: ClassVar[str]
    branches: tuple[str, ...] = ()
    accepts_embedding: ClassVar[bool] = False
    frozen_backbone: ClassVar[bool] = False
    loss_weights: ClassVar[Mapping[str, float]] = {"overall": 1.0}
    attention_name: ClassVar[str] = "attention"
    map_legend: str = "Class activation: contribution to the logit."

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: ArchitectureOptions,
    ) -> None:
        super().__init__()
        if len(channels) != 4:
            raise InputError(f"channels must be those of C2, C3, C4 and C5, not {channels}")
        self.has_maps = channels[0] > 0
        if not self.has_maps and not self.accepts_embedding:
            raise InputError(
                f"the architecture {self.architecture} reads feature maps, and the backbone "
                "returns only its pooled embedding: remove ':embedding' from its name, or use the "
                "architecture flat or probe"
            )
        self.backbone = backbone
        self.hierarchy = hierarchy
        self.options: Any = options
        self.masks = HierarchyMasks(hierarchy)
        self.feature_dim = channels[3]
        self.dimensions: tuple[Dimension, ...] = ()

    def add_dimensions(self, dimensions: Sequence[Dimension]) -> None:
        """Add a linear head on `features` that predicts continuous dimensions.

        An output of 0 is the middle of the rating scale, and 1 is its upper end.
        """
        self.dimensions = tuple(dimensions)
        if dimensions:
            self.dimension_head = nn.Linear(self.feature_dim, len(dimensions))

    def to_empty(self, *, device: Any, recurse: bool = True) -> EmotionModel:
        """Allocate memory on a device; buffers that no state dict has get their values."""
        super().to_empty(device=device, recurse=recurse)
        for module in self.modules():
            restore = getattr(module, "init_non_persistent_buffers", None)  # of timm's modules
            if restore is not None:
                restore()
        return self

    def forward(self, images: Tensor, return_maps: bool = False) -> EmotionOutput:
        """Predict every level of the hierarchy.

        Args:
            images: (N, 3, H, W), normalised as the backbone expects; H and W multiples of 32.
            return_maps: Whether the output includes attention maps and class activation maps.

        Raises:
            InputError: The shape or the dtype of the images is not supported.
        """
        name = next(iter(self.classifiers()))
        _check_images(images, self.get_submodule(name))
        return self.predict_pyramid(list(self.backbone(images)), return_maps)

    def predict_pyramid(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level and the dimensions from the maps C2, C3, C4 and C5."""
        output = self.classify(pyramid, return_maps)
        if not self.dimensions:
            return output
        values = self.dimension_head(output.features)
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        found = {
            scale.name: (scale.low + scale.high) / 2 + (scale.high - scale.low) / 2 * column
            for scale, column in zip(self.dimensions, values.unbind(dim=1), strict=True)
        }
        return dataclasses.replace(output, dimensions=found)

    @abc.abstractmethod
    def classify(self, pyramid: list[Tensor], return_maps: bool = False) -> EmotionOutput:
        """Predict every level from the maps C2, C3, C4 and C5 of the backbone."""

    @abc.abstractmethod
    def classifiers(self) -> Mapping[str, int]:
        """Return the names of the modules whose parameters have a row per class, and their levels.

        Between hierarchies, such parameters are copied by class name.
        """

    @classmethod
    @abc.abstractmethod
    def card_text(cls, backbone: str) -> str:
        """Return a noun phrase that describes the network, in Markdown, for its model card."""

    @property
    def alpha(self) -> float | None:
        """Weight of "local" if "overall" is alpha * "local" + (1 - alpha) * "global"; else None."""
        return None

    def pyramid_stages(self) -> Sequence[int]:
        """Return which of the maps C2..C5 (0..3) the network reads."""
        return range(4)

    def parameter_groups(self) -> list[tuple[float, list[nn.Parameter]]]:
        """Return the parameters outside the backbone, in groups with a learning-rate factor."""
        named = self.named_parameters()
        return [(1.0, [value for name, value in named if not name.startswith("backbone.")])]

    def auxiliary_loss(self, output: EmotionOutput, targets: Sequence[Tensor]) -> Tensor | None:
        """Return a loss that is added to those of the branches.

        `targets` are the target distributions of every level, (N, K_l), multiplied by the weights
        of the images; at levels finer than the label of an image they are 0.
        """
        return None

    @torch.no_grad()
    def set_priors(self, frequencies: Tensor) -> None:
        """Initialise the finest classifiers to predict class frequencies (K_n,), all positive."""
        for name, level in self.classifiers().items():
            if level == self.hierarchy.depth - 1:
                self.get_parameter(f"{name}.weight").zero_()
                self.get_parameter(f"{name}.bias").copy_(frequencies.log())


class LeafClassifier(EmotionModel):
    """Base class of networks with one linear classifier, of the leaves (the finest level).

    The probabilities of the coarser levels are sums of its probabilities (Eq. 2). A subclass
    implements `classify`, with `predict_leaves`, and `card_text`.

    Args:
        inputs: The number of inputs of the classifier.
        dropout: Their dropout probability during training.
    """

    branches = ("global",)

    def __init__(
        self,
        backbone: nn.Module,
        channels: Sequence[int],
        hierarchy: Hierarchy,
        options: ArchitectureOptions,
        inputs: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(backbone, channels, hierarchy, options)
        self.dropout = nn.Dropout(dropout)
        self.global_classifier = nn.Linear(inputs, hierarchy.sizes[-1])

    def predict_leaves(self, inputs: Tensor, features: Tensor, **fields: Any) -> EmotionOutput:
        """Classify inputs (N, C); return the output with `features` and other `fields`."""
        logits = self.global_classifier(self.dropout(inputs))
        log_global = self.masks.sum_upwards(log_softmax(logits))
        return EmotionOutput(
            log_probs={"overall": log_global, "global": log_global},
            features=features,
            logits={"global": (logits,)},
            **fields,
        )

    def classifiers(self) -> Mapping[str, int]:
        """Return the classifier and its level, the finest."""
        return {"global_classifier": self.hierarchy.depth - 1}


def _check_images(images: Tensor, classifier: nn.Module) -> None:
    needed = "images must be a tensor (N, 3, height, width), not"
    if not isinstance(images, Tensor):
        raise InputError(f"{needed} {type(images).__name__}")
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[0] == 0:
        raise InputError(f"{needed} of shape {shape}")
    if not images.is_floating_point():
        raise InputError(f"images must be normalised floating-point values, not {images.dtype}")
    weight: Any = classifier.weight if is_plain(classifier, nn.Linear) else images
    dtype = weight.dtype
    types = {images.dtype, dtype}
    if len(types) > 1 and (  # autocast converts all dtypes except float64
        torch.float64 in types or not torch.is_autocast_enabled(images.device.type)
    ):
        raise InputError(
            f"the images are {images.dtype}, but the network's weights {dtype}; "
            "convert the images with .to(...)"
        )
    height, width = shape[2:]
    if height % STRIDE or width % STRIDE or not height or not width:
        nearest = " x ".join(str(max(STRIDE, round(side / STRIDE) * STRIDE)) for side in shape[2:])
        raise InputError(
            f"the sides of the images must be multiples of {STRIDE}, not {height} x {width}; "
            f"the nearest such size is {nearest}"
        )
