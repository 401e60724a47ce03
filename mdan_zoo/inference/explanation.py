"""What a network looked at: its attention and class activation maps, of the same forward pass.

explanation = mdan_zoo.explain("photo.jpg")
explanation.prediction  # what the same model's predict says
explanation.on_image("polarity")  # L-CAM's M over the image, (height, width)
explanation.on_image("quadrant", "serene")  # the class activation map of one class
explanation.plot("explained.png")

Every affective level of an MDAN has two kinds of map (section 4.2 of the paper):

* m_k(x) = w_k . X(x), the class activation map of class k: what position x says for that class,
  with X the level's features before L-CAM and w_k the class's row of the level's local classifier.
* M, L-CAM's attention, which amplifies every position by 1 + M(x). It is fused from the m_k of the
  children of one class, the one that the local classifier of the level above finds most likely.

They add up to the score that the level's local classifier has for class k, before the softmax:
b_k + mean over x of (1 + M(x)) m_k(x). Values are as the network has them: m_k is scaled to no
range, and M neither, unless the model says so. Released mdan_oasis4 has lcam="normalised", by which
M is scaled to 0..1 in every image.

A flat network has no attention and one classifier, on the backbone's last map C5. Its maps are
those of its finest level alone, the classic CAM m_k(x) = w_k . C5(x) of Zhou et al. (2016).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import torch
from PIL import Image
from torch import Tensor

from mdan_zoo._util.read_ahead import batches_ahead
from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.geometry import Map, Region, lay_over, seen_region
from mdan_zoo.images.load import ImageLike, describe, load_image
from mdan_zoo.inference.prediction import Prediction
from mdan_zoo.inference.predictor import (
    WORKERS,
    ImageList,
    Predictor,
    _are_numbers,
    _split,
    shared_predictor,
)
from mdan_zoo.models.base import EmotionOutput
from mdan_zoo.zoo.factory import DEFAULT_EXPLAINED_MODEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class LevelMaps:
    """Where a network looked at one affective level.

    Attributes:
        name: The level's name.
        labels: The level's classes, in the order of `class_maps`.
        attention: L-CAM's M, float32 (H, W) at the size of the level's features; 0..1 in every
            image where the model's options say lcam="normalised". None for a flat network.
        class_maps: m_k of every class, float32 (K, H, W).
        parent: The class one level up whose children's maps make up `attention`. It is the local
            classifiers' choice, which the prediction need not share. None at the first level,
            where all classes take part, and for a flat network.
    """

    name: str
    labels: tuple[str, ...]
    attention: Map | None
    class_maps: Map
    parent: str | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """A prediction and the maps that belong to it.

    Attributes:
        prediction: What the model says of the image.
        image: The image as it was read: RGB and upright.
        region: The part of `image` that the network saw, in its pixels.
        levels: The maps of every level that has any, coarse to fine.
    """

    prediction: Prediction
    image: Image.Image
    region: Region
    levels: tuple[LevelMaps, ...]

    def __repr__(self) -> str:
        return f"Explanation({self.prediction})"

    def level(self, level: int | str) -> LevelMaps:
        """Return the maps of a level that is given by its 0-based position or by its name.

        Raises:
            UnknownNameError: The tree has no such level.
            InputError: The network has no maps there.
        """
        tree = self.prediction.hierarchy
        name = tree.level_names[tree.level_index(level)]
        for maps in self.levels:
            if maps.name == name:
                return maps
        raise InputError(
            f"{self.prediction.model} is a flat network, whose one classifier has maps at level "
            f"{self.levels[-1].name!r} but none at {name!r}; an MDAN has maps at every level"
        )

    def on_image(self, level: int | str, label: str | None = None) -> Map:
        """Return a map interpolated bilinearly to the pixels of `image`.

        Args:
            level: Position or name of the level.
            label: A class of the level, for its class activation map; without it, L-CAM's M.

        Returns:
            float32 (height, width); NaN where a pixel lies outside `region`, so that the network
            did not see it.

        Raises:
            UnknownNameError: The tree has no such level or class.
            InputError: The network has no such map.
        """
        return lay_over(self.find_map(level, label), self.region, self.image.size)

    def find_map(self, level: int | str, label: str | None = None) -> Map:
        """Return the same map as `on_image` at the size of the level's features."""
        maps = self.level(level)
        if label is not None:
            class_map: Map = maps.class_maps[self.prediction.hierarchy.index(level, label)]
            return class_map
        if maps.attention is None:
            raise InputError(
                f"{self.prediction.model} is a flat network and has no attention map; name a class "
                f"of level {maps.name!r} for its class activation map, or use an MDAN such as "
                f"{DEFAULT_EXPLAINED_MODEL}"
            )
        return maps.attention

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        level: int | str | None = None,
        label: str | None = None,
    ) -> Figure:
        """Draw the image, maps over the part that the network saw, and the tree.

        Args:
            path: Also write the figure to this file, whole or not at all; its suffix says how.
            level: Draw the attention of this level and the maps of all its classes. By default,
                at every level, the attention and the map of the class that the prediction names.
            label: Draw the map of this class alone beside the attention, of `level` or of the
                finest level that has the class.

        Raises:
            UnknownNameError: The tree has no such level or class.
            InputError: The network has no such map, or no file can be written at `path`.
            MdanZooError: matplotlib is not installed.
        """
        from mdan_zoo.plots.explanation import draw_explanation
        from mdan_zoo.plots.figures import finish

        return finish(draw_explanation(self, level, label), path)


@dataclass(frozen=True)
class _Loaded:
    name: str
    image: Image.Image
    pixels: Tensor


@overload
def explain(images: ImageLike, *, model: str | Predictor = ...) -> Explanation: ...
@overload
def explain(images: ImageList, *, model: str | Predictor = ...) -> list[Explanation]: ...
def explain(
    images: ImageLike | ImageList, *, model: str | Predictor = DEFAULT_EXPLAINED_MODEL
) -> Explanation | list[Explanation]:
    """Predict one image, or each of a list or tuple of images, and keep the network's maps.

    Every explanation holds its image at full size, and those of a list are all there at the end.
    Explain many large images one by one, and keep of each what you need.

    Args:
        images: Paths, URLs, bytes, binary files, PIL images, uint8 arrays or tensors.
        model: A model with released weights, which is loaded at the first call and kept; or a
            `Predictor`, which has the checkpoint, device and more to choose.

    Raises:
        ImageError: An image cannot be read.
        UnknownNameError: There is no model of that name.
        WeightsUnavailableError: The model has no released weights.
        InputError: The network's values overflow in the predictor's dtype.
    """
    if not isinstance(images, (list, tuple)):
        return explain([images], model=model)[0]
    if isinstance(model, str):
        model = shared_predictor(model)
    if not isinstance(model, Predictor):
        raise InputError(
            f"model must be a name or a mdan_zoo.Predictor, not {type(model).__name__}"
        )
    return list(_explain_all(model, images))


def _explain_all(predictor: Predictor, images: ImageList) -> Iterator[Explanation]:
    def load(image: ImageLike) -> _Loaded:
        rgb = load_image(image, predictor.image_options)
        return _Loaded(describe(image), rgb, predictor.preprocessing.crop(rgb))

    size = predictor.batch_size
    with closing(batches_ahead(load, images, batch_size=size, workers=WORKERS)) as batches:
        for batch in batches:
            yield from _explain_batch(predictor, batch)


def _explain_batch(predictor: Predictor, batch: list[_Loaded]) -> Iterator[Explanation]:
    output = predictor._forward(torch.stack([loaded.pixels for loaded in batch]), return_maps=True)
    levels = _maps_by_image(output, predictor.hierarchy)
    for loaded, values, maps in zip(batch, _split(output), levels, strict=True):
        if not _are_numbers(values):
            raise predictor._overflow_error(loaded.name)
        yield Explanation(
            prediction=predictor._prediction(loaded.name, values),
            image=loaded.image,
            region=seen_region(loaded.image.size, predictor.config.input),
            levels=maps,
        )


def _maps_by_image(output: EmotionOutput, tree: Hierarchy) -> list[tuple[LevelMaps, ...]]:
    """Take a batch's output apart into the maps of every image, coarse to fine."""
    first = tree.depth - len(output.class_maps)  # a flat network has maps of its last level alone
    by_level = [_maps_at(output, tree, level) for level in range(first, tree.depth)]
    return list(zip(*by_level, strict=True))


def _maps_at(output: EmotionOutput, tree: Hierarchy, level: int) -> Iterator[LevelMaps]:
    """Yield the maps of every image at one level."""
    class_maps = output.class_maps[level - tree.depth].float().cpu().numpy()
    attention = output.maps[level].float().cpu().numpy() if output.maps else None
    has_parent = level > 0 and attention is not None and "local" in output.logits
    parents = output.logits["local"][level - 1].argmax(dim=1).tolist() if has_parent else None
    for i in range(len(class_maps)):
        yield LevelMaps(
            name=tree.level_names[level],
            labels=tree.levels[level],
            attention=None if attention is None else attention[i].copy(),  # not the whole batch
            class_maps=class_maps[i].copy(),
            parent=None if parents is None else tree.levels[level - 1][parents[i]],
        )
