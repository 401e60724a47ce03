"""Explanations: a prediction with the attention and class activation maps of its forward pass.

explanation = mdan_zoo.explain("photo.jpg")
explanation.prediction  # equals the prediction of the same model
explanation.on_image("polarity")  # attention M of L-CAM at image size, (height, width)
explanation.on_image("emotion", "awe")  # class activation map of one class
plot(explanation, "explained.png")

MDAN has two kinds of map at every level (section 4.2 of the paper):

* m_k(x) = w_k . X(x), the class activation map of class k: X is the feature map of the level before
  L-CAM, and w_k is the row of class k in the local classifier of the level.
* M, the attention of L-CAM, fused from the m_k of the children of one class: the most likely class
  of the local classifier one level up. The logit of class k is b_k + mean of (1 + M(x)) m_k(x).

Maps are not normalised, except for M if the model has the option lcam="normalised", like every
released MDAN: it scales M to 0..1 in every image. A flat network only has the class activation maps
of its finest level, m_k(x) = w_k . C5(x), where C5 is the last map of the backbone (CAM, Zhou et
al., 2016). Those of the other networks, and their attention, are defined in their modules.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias, overload

import torch
from PIL import Image
from torch import Tensor

from mdan_zoo._util.read_ahead import batches_ahead
from mdan_zoo.errors import InputError, printable
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.geometry import Map, Region, lay_over, seen_region
from mdan_zoo.images.load import ImageLike, load_image
from mdan_zoo.images.naming import describe
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.inference.predictor import WORKERS, ImageList, Predictor, shared_predictor
from mdan_zoo.models.base import EmotionOutput
from mdan_zoo.zoo.configs import DEFAULT_MODEL


@dataclass(frozen=True, eq=False)
class LevelMaps:
    """Maps of one level.

    Attributes:
        labels: Classes of the level, in the order of `class_maps`.
        attention: Attention map, M of L-CAM for an MDAN, float32 (H, W) at the size of the feature
            map of the level. None for a network without attention. For an MDAN with
            lcam="normalised" in 0..1 for every image.
        class_maps: m_k of every class, float32 (K, H, W).
        parent: The class one level up whose children's maps are fused into `attention`: the most
            likely class of the local classifier, which can differ from the predicted class. None
            for other networks than MDAN, without attention, and at the first level, where the maps
            of all classes are fused.
    """

    name: str
    labels: tuple[str, ...]
    attention: Map | None
    class_maps: Map
    parent: str | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """A prediction and its maps.

    Attributes:
        image: The loaded image, RGB and upright.
        region: The part of `image` that the network saw, in pixels.
        levels: Maps of the levels that have maps, coarse to fine.
        attention_name: What the attention maps are called, such as "L-CAM".
        legend: What the maps show, as one or more sentences.
    """

    prediction: Prediction
    image: Image.Image
    region: Region
    levels: tuple[LevelMaps, ...]
    attention_name: str
    legend: str

    def __repr__(self) -> str:
        return f"Explanation({self.prediction})"

    def level(self, level: int | str) -> LevelMaps:
        """Return the maps of a level, given by its position or name; see `on_image` for errors."""
        tree = self.prediction.hierarchy
        name = tree.level_names[tree.level_index(level)]
        for maps in self.levels:
            if maps.name == name:
                return maps
        known = ", ".join(repr(maps.name) for maps in self.levels)
        raise InputError(
            f"{self.prediction.model} has no maps at level {name!r}, only at {known}; an "
            f"MDAN such as {DEFAULT_MODEL} has maps at every level"
        )

    def on_image(self, level: int | str, label: str | None = None) -> Map:
        """Return a map, bilinearly interpolated to the pixels of `image`.

        Args:
            level: 0-based position or name of the level.
            label: A class of the level for its class activation map; None for the attention map.

        Returns:
            float32 (height, width); NaN outside `region`.

        Raises:
            UnknownNameError: The hierarchy has no such level or class.
            InputError: The network has no such map.
        """
        return lay_over(self.find_map(level, label), self.region, self.image.size)

    def find_map(self, level: int | str, label: str | None = None) -> Map:
        """Return the map of `on_image` at the size of the level's feature map."""
        maps = self.level(level)
        if label is not None:
            class_map: Map = maps.class_maps[self.prediction.hierarchy.index(level, label)]
            return class_map
        if maps.attention is None:
            raise InputError(
                f"{self.prediction.model} has no attention map; give a class of level "
                f"{maps.name!r}, or use an MDAN such as {DEFAULT_MODEL}"
            )
        return maps.attention


# Name, image at full size, and preprocessed pixels.
_Loaded: TypeAlias = tuple[str, Image.Image, Tensor]


@overload
def explain(
    images: ImageLike, *, model: str | Predictor = ..., require_maps: bool = ...
) -> Explanation: ...
@overload
def explain(
    images: ImageList, *, model: str | Predictor = ..., require_maps: bool = ...
) -> list[Explanation]: ...
def explain(
    images: ImageLike | ImageList,
    *,
    model: str | Predictor = DEFAULT_MODEL,
    require_maps: bool = True,
) -> Explanation | list[Explanation]:
    """Predict one image, or each image of a list or tuple, and return the network's maps too.

    Every explanation holds its image at full size, so explain large images one at a time.

    Args:
        images: Paths, URLs, bytes, binary files, PIL images, uint8 arrays or tensors.
        model: A model with released weights, which is cached, or a `Predictor`.
        require_maps: Whether a network without maps is an error. Otherwise, its explanations have
            no `levels`.

    Raises:
        ImageError: An image cannot be read.
        UnknownNameError: The model does not exist.
        WeightsUnavailableError: The model has no released weights.
        InputError: The network has no maps, and they are required; its values overflow in the
            predictor's dtype; or the predictor averages over several views, because maps are those
            of one.
    """
    if not isinstance(images, (list, tuple)):
        return explain([images], model=model, require_maps=require_maps)[0]
    if isinstance(model, str):
        model = shared_predictor(model)
    if not isinstance(model, Predictor):
        given = type(model).__name__
        raise InputError(f"model must be a name or a mdan_zoo.Predictor, not {given}")
    predictor = model
    if predictor.views != "single":
        raise InputError(
            f"maps are those of a single view, but the predictor has views={predictor.views!r}; "
            "explain needs views='single'"
        )

    def load(image: ImageLike) -> _Loaded:
        rgb = load_image(image, predictor.image_options)
        return describe(image), rgb, predictor.preprocessing.crop(rgb)

    size = predictor.batch_size
    with closing(batches_ahead(load, images, batch_size=size, workers=WORKERS)) as batches:
        return [
            found for batch in batches for found in _explain_batch(predictor, batch, require_maps)
        ]


def _explain_batch(
    predictor: Predictor, batch: list[_Loaded], require_maps: bool
) -> Iterator[Explanation]:
    output = predictor.forward(torch.stack([pixels for _, _, pixels in batch]), return_maps=True)
    if require_maps and not output.class_maps:
        raise InputError(f"{predictor.name} cannot be explained: it has no class activation maps")
    predictions = predictor.to_predictions([name for name, _, _ in batch], output)
    depth = predictor.hierarchy.depth
    with_maps = range(depth - len(output.class_maps), depth)
    for row, ((_, image, _), prediction) in enumerate(zip(batch, predictions, strict=True)):
        if prediction.error is not None:
            raise InputError(f"{printable(prediction.image)}: {prediction.error}")
        yield Explanation(
            prediction=prediction,
            image=image,
            region=seen_region(image.size, predictor.config.input),
            levels=tuple(_maps_at(output, predictor.hierarchy, n, row) for n in with_maps),
            attention_name=predictor.network.attention_name,
            legend=predictor.network.map_legend,
        )


def _maps_at(output: EmotionOutput, tree: Hierarchy, level: int, row: int) -> LevelMaps:
    found = output.maps[level - tree.depth][row] if output.maps else None
    attention = None if found is None or not found.any() else found  # M is 0 without L-CAM
    parent = None
    if level > 0 and attention is not None and "local" in output.logits:
        winner = output.logits["local"][level - 1][row].argmax()
        parent = tree.levels[level - 1][int(winner)]
    return LevelMaps(
        name=tree.level_names[level],
        labels=tree.levels[level],
        attention=None if attention is None else _to_numpy(attention),
        class_maps=_to_numpy(output.class_maps[level - tree.depth][row]),
        parent=parent,
    )


def _to_numpy(values: Tensor) -> Map:
    # A copy, because a view would keep the maps of the whole batch in memory.
    copied: Map = values.float().cpu().numpy().copy()
    return copied
