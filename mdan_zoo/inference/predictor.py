"""Predictor: a network with its weights, preprocessing and device."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import torch
from PIL import Image
from torch import Tensor

from mdan_zoo._util.locks import ForkSafeLock
from mdan_zoo._util.read_ahead import batches_ahead
from mdan_zoo.errors import (
    CheckpointError,
    ImageError,
    InputError,
    MdanZooError,
    printable,
)
from mdan_zoo.images.load import DEFAULT_OPTIONS, ImageLike, ImageOptions, load_image
from mdan_zoo.images.naming import describe
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.inference.devices import find_device
from mdan_zoo.inference.prediction import (
    Branch,
    Decode,
    Levels,
    Prediction,
    Views,
    check_reading,
    check_views,
    dimension_predictions,
)
from mdan_zoo.inference.views import average_views, split_views
from mdan_zoo.models.base import EmotionOutput
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.weights.checkpoint import Checkpoint, CheckpointSource, open_checkpoint
from mdan_zoo.zoo.configs import DEFAULT_MODEL
from mdan_zoo.zoo.factory import create_model, get_config, load_network, read_released

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

ImageList: TypeAlias = "list[Any] | tuple[Any, ...]"
"""Several images. An array or tensor is a single image."""

WORKERS = 4
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_Loaded: TypeAlias = tuple[str, Tensor | ImageError]
"""Name of an image, and the pixels of its V views, uint8 (V, 3, S, S), or why it is unreadable."""

_Result: TypeAlias = tuple[Prediction, Tensor | MdanZooError]
"""Prediction of one image with its features (C,), or the error in their place."""


class Predictor:
    """Predict the emotions that images evoke. Threads can share one predictor.

    Weights are float32 on `device`, whatever torch's default dtype and default device are.

    Example:
        predictor = Predictor("mdan_fi8_lite0", device="cuda", dtype="bfloat16")
        predictor.predict("photo.jpg")  # Prediction(positive 0.91 > awe 0.74, valence 5.60 ...)
        for prediction in predictor.stream(paths, batch_size=64): ...

    Args:
        name: A model with released weights; by default the model of `checkpoint`, or else
            mdan_fi8_lite0, whose weights are part of the package.
        checkpoint: A checkpoint to use instead of the released one, with its config and hierarchy.
        device: Such as "cpu", "cuda" or "cuda:1". By default CUDA if available, else the CPU.
        dtype: "float32", or "bfloat16" or "float16" for mixed precision by autocast.
        branch: Classifier branch that predictions are read from. Each prediction contains the
            probabilities of all branches.
        decode: How classes are picked; see `mdan_zoo.inference.prediction`.
        image_options: How images are read.
        views: Views of each image that `predict`, `stream` and `embed` average over: "single",
            "flip", "crops" or "flip+crops", for 1, 2, 10 or 20 times the computing time; see
            `mdan_zoo.inference.views`.

    Raises:
        UnknownNameError: The model does not exist.
        WeightsUnavailableError: The model has no released weights; the message says how to train
            them.
        CheckpointError: The checkpoint is damaged or belongs to another model.
        DeviceError: The device is not available; the message lists those that are.
        InputError: The dtype, branch, decoding or `views` do not exist, or `image_options` is not
            an `ImageOptions`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        checkpoint: CheckpointSource | None = None,
        device: str | torch.device | None = None,
        dtype: str = "float32",
        branch: Branch = "overall",
        decode: Decode = "consistent",
        image_options: ImageOptions = DEFAULT_OPTIONS,
        views: Views = "single",
    ) -> None:
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
        if not isinstance(image_options, ImageOptions):
            raise InputError(f"image_options must be ImageOptions, not {image_options!r}")
        check_views(views)
        self.dtype = dtype
        self.views = views
        self.device = find_device(device)
        with torch.device("cpu"):  # not torch's default device
            self.weights, self.config, network = _load_network(name, checkpoint)
        # A custom manifest may list weights under another name than that of their config.
        self.name = (name or DEFAULT_MODEL) if checkpoint is None else self.config.name
        check_reading(self.name, branch, decode, ("overall", *network.branches))
        self.branch = branch
        self.decode = decode
        self.image_options = image_options
        self.hierarchy = network.hierarchy
        self.preprocessing = Preprocessing(self.config.input)
        # The channels-last format is as fast or faster for convolutions, also on CPUs.
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)

    @property
    def batch_size(self) -> int:
        """Default number of images per forward pass: 2 on a CPU, 32 on an accelerator."""
        # Larger batches do not fit the caches of a CPU and take longer per image.
        return 2 if self.device.type == "cpu" else 32

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, device='{self.device}', dtype={self.dtype!r})"

    @overload
    def predict(self, images: ImageLike) -> Prediction: ...
    @overload
    def predict(self, images: ImageList) -> list[Prediction]: ...
    def predict(self, images: ImageLike | ImageList) -> Prediction | list[Prediction]:
        """Predict the emotions that one image, or each image of a list or tuple, evokes.

        Raises:
            ImageError: An image cannot be read. Nothing is returned for the other images of a list
                either; `stream` continues instead.
            InputError: The network's values overflow in the predictor's dtype.
        """
        if not isinstance(images, (list, tuple)):
            return self.predict([images])[0]
        return [prediction for prediction, _ in self._all_results(images)]

    def embed(self, images: ImageLike | ImageList) -> Tensor:
        """Return the pooled last feature map of the backbone; the errors are those of `predict`.

        Returns:
            float32 on the CPU: (C,) for one image, (N, C) for a list or tuple of N.
        """
        if not isinstance(images, (list, tuple)):
            return self.embed([images])[0]
        rows = [features for _, features in self._all_results(images)]
        empty = torch.empty(0, self.network.feature_dim, dtype=torch.float32, device="cpu")
        return torch.stack(rows) if rows else empty

    def stream(
        self,
        images: Iterable[ImageLike],
        *,
        batch_size: int | None = None,
        workers: int = WORKERS,
    ) -> Generator[Prediction, None, None]:
        """Predict any number of images, possibly infinite, in order.

        `images` is iterated in the calling thread, at most two batches ahead of the predictions,
        and decoded in worker threads, so do not modify an image before its prediction is returned.
        If `images` raises, its error follows the predictions of the previous images. The threads
        end with the generator, even if it is closed early.

        Args:
            images: An iterable of images.
            batch_size: Number of images per forward pass; by default `self.batch_size`.
            workers: Number of threads that decode images.

        Returns:
            A generator. For an image that cannot be read, `error` of its prediction is the reason.

        Raises:
            InputError: `images` is a single image, or a number is below 1.
        """
        single = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
        # Rows of an image would pass for grey images. An array of paths has one dimension.
        single |= hasattr(images, "read") or len(getattr(images, "shape", ())) in (2, 3)
        if single or not isinstance(images, Iterable):
            raise InputError(
                "stream needs an iterable of images, not a single one "
                f"({printable(describe(images))}): put it into a list, or use predict"
            )
        batch_size = self.batch_size if batch_size is None else batch_size
        for argument, value in (("batch_size", batch_size), ("workers", workers)):
            if type(value) is not int:
                raise InputError(f"{argument} must be an int, not {value!r}")
            if value < 1:
                raise InputError(f"{argument} must be at least 1, not {value}")
        return self._stream(images, batch_size, workers)

    @torch.no_grad()
    def forward(self, images: ImageList | Tensor, return_maps: bool = False) -> EmotionOutput:
        """Run the network on one batch and return its raw output, of a single view of each image.

        Args:
            images: A list or tuple of images, or a preprocessed batch: a uint8 tensor (N, 3, S, S)
                on any device, where S is `config.input.crop`, stacked from `preprocessing.crop`.
            return_maps: Whether the output contains attention and class activation maps.

        Returns:
            The output for all N images, on the predictor's device; see `to_predictions`.

        Raises:
            ImageError: An image cannot be read.
            InputError: The tensor is not a preprocessed batch, or there are no images.
        """
        if not isinstance(images, Tensor):
            crops = [self.preprocessing.crop(load_image(i, self.image_options)) for i in images]
            images = torch.stack(crops) if crops else torch.empty(0)
        side = self.config.input.crop
        shape = tuple(images.shape)
        if images.dtype != torch.uint8 or not shape[:1] > (0,) or shape[1:] != (3, side, side):
            raise InputError(
                f"forward needs at least one image, or a uint8 tensor (N, 3, {side}, {side}), not "
                f"{images.dtype} {shape}"
            )
        inputs = self.preprocessing.normalise(images.to(self.device))
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        mixed = self.dtype != "float32"
        with torch.autocast(self.device.type, DTYPES[self.dtype] if mixed else None, enabled=mixed):
            output: EmotionOutput = self.network(inputs, return_maps)
        return output

    def to_predictions(self, names: Sequence[str], output: EmotionOutput) -> list[Prediction]:
        """Convert the output of `forward` to one prediction for each of the named images.

        If values overflowed in the predictor's dtype, `error` of the prediction says so.
        """
        # Rounding can raise a probability above 1.
        lists = {
            branch: [level.clamp(max=1).tolist() for level in levels]
            for branch, levels in output.probs.items()
        }
        advice = "" if self.dtype == "float32" else "; use dtype 'float32'"
        ratings = {name: column.tolist() for name, column in output.dimensions.items()}
        overflow = f"the network's values overflow in {self.dtype}{advice}"
        predictions = []
        for i, name in zip(range(len(output.features)), names, strict=True):
            rows = {b: tuple(tuple(level[i]) for level in levels) for b, levels in lists.items()}
            rated = [ratings[scale.name][i] for scale in self.network.dimensions]
            failed = any(math.isnan(p) for level in rows["overall"] for p in level)
            failed |= not all(map(math.isfinite, rated))
            read = self._read(name, {}, overflow) if failed else self._read(name, rows, None, rated)
            predictions.append(read)
        return predictions

    def _read(
        self,
        name: str,
        probabilities: Mapping[Branch, Levels],
        error: str | None = None,
        ratings: Sequence[float] | None = None,
    ) -> Prediction:
        dimensions = dimension_predictions(self.network.dimensions, ratings)
        reading = self.branch, self.decode, error, dimensions
        return Prediction(name, self.name, self.hierarchy, probabilities, *reading)

    def _stream(
        self, images: Iterable[ImageLike], batch_size: int, workers: int
    ) -> Generator[Prediction, None, None]:
        with closing(self._results(images, batch_size, workers)) as results:
            for prediction, _ in results:
                yield prediction

    def _all_results(self, images: ImageList) -> list[tuple[Prediction, Tensor]]:
        found = []
        with closing(self._results(images, self.batch_size, WORKERS)) as results:
            for prediction, features in results:
                if isinstance(features, MdanZooError):
                    raise features
                found.append((prediction, features))
        return found

    def _results(
        self, images: Iterable[ImageLike], batch_size: int, workers: int
    ) -> Generator[_Result, None, None]:
        loading = batches_ahead(self._load, images, batch_size=batch_size, workers=workers)
        with closing(loading) as batches:
            for batch in batches:
                yield from self._run(batch)

    def _load(self, image: ImageLike) -> _Loaded:
        name = describe(image)
        try:
            views = split_views(load_image(image, self.image_options), self.views)
            return name, torch.stack([self.preprocessing.crop(view) for view in views])
        except ImageError as error:
            return name, error

    def _run(self, batch: list[_Loaded]) -> Iterator[_Result]:
        """Run the network on the readable images of a batch."""
        readable = {i: item for i, (_, item) in enumerate(batch) if isinstance(item, Tensor)}
        rows: Iterator[tuple[Prediction, Tensor]] = iter(())
        if readable:
            pixels = torch.stack(list(readable.values()), dim=1)  # (V, N, 3, S, S)
            output = average_views([self.forward(batch) for batch in pixels], self.views)
            predictions = self.to_predictions([batch[i][0] for i in readable], output)
            rows = zip(predictions, output.features.float().cpu(), strict=True)
        for name, loaded in batch:
            if isinstance(loaded, ImageError):
                yield self._read(name, {}, " ".join(loaded.reason.split())), loaded  # one line
                continue
            prediction, features = next(rows)
            if prediction.error is not None:
                yield prediction, InputError(f"{printable(name)}: {prediction.error}")
            else:
                yield prediction, features


@overload
def predict(images: ImageLike, *, model: str = ..., views: Views = ...) -> Prediction: ...
@overload
def predict(images: ImageList, *, model: str = ..., views: Views = ...) -> list[Prediction]: ...
def predict(
    images: ImageLike | ImageList, *, model: str = DEFAULT_MODEL, views: Views = "single"
) -> Prediction | list[Prediction]:
    """Predict the emotions that one image, or each image of a list or tuple, evokes.

    Args:
        images: Paths, URLs, bytes, binary files, PIL images, uint8 arrays or tensors.
        model: A model with released weights, which is cached. Use `Predictor` for other options.
        views: Views of each image to average over; see `Predictor`.

    Raises:
        ImageError: An image cannot be read.
        InputError: There are no such views.
        UnknownNameError: The model does not exist.
        WeightsUnavailableError: The model has no released weights.
    """
    return shared_predictor(model, views).predict(images)


def shared_predictor(model: str, views: Views = "single") -> Predictor:
    """Return the cached predictor of a model with released weights; `views` share its network."""
    get_config(model)  # raises for an unknown name, or a name that is not hashable
    check_views(views)
    with _loading:  # otherwise two threads could load the same model
        predictor = copy.copy(_shared_predictor(model))
    predictor.views = views
    return predictor


_loading = ForkSafeLock()
_shared_predictor = functools.cache(Predictor)


def _load_network(
    name: str | None, source: CheckpointSource | None
) -> tuple[Path, ModelConfig, EmotionModel]:
    if source is None:
        name = DEFAULT_MODEL if name is None else name
        config = get_config(name)
        checkpoint = open_checkpoint(read_released(name))
        network = _in_float32(create_model(name, checkpoint=checkpoint), checkpoint)
        # The mean and the standard deviation are the weights' own.
        return checkpoint.path, dataclasses.replace(config, input=checkpoint.config.input), network
    checkpoint = open_checkpoint(source)
    found = checkpoint.config.name
    if name is not None and name != found:
        get_config(name)  # if there is no such model, that is the error to show
        raise CheckpointError(f"{checkpoint.path} belongs to the model {found}, not to {name}")
    config, network = load_network(checkpoint)
    return checkpoint.path, config, _in_float32(network, checkpoint)


def _in_float32(network: EmotionModel, checkpoint: Checkpoint) -> EmotionModel:
    """Return a network that was built in torch's default dtype, which may have rounded weights."""
    if torch.get_default_dtype() != torch.float32:
        network.float().load_state_dict(checkpoint.tensors)
    return network
