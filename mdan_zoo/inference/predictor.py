"""Predictor: a network with its weights, preprocessing and device."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import torch
from PIL import Image
from torch import Tensor

from mdan_zoo._util.read_ahead import batches_ahead
from mdan_zoo.errors import CheckpointError, ImageError, InputError, MdanZooError
from mdan_zoo.images.load import DEFAULT_OPTIONS, ImageLike, ImageOptions, load_image
from mdan_zoo.images.naming import describe
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.inference.devices import find_device
from mdan_zoo.inference.prediction import Branch, Decode, Levels, Prediction, check_reading
from mdan_zoo.models.base import EmotionOutput
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.weights.checkpoint import CheckpointSource, open_checkpoint
from mdan_zoo.zoo.configs import DEFAULT_MODEL
from mdan_zoo.zoo.factory import create_model, get_config, load_network, read_released

if TYPE_CHECKING:
    from mdan_zoo.models.base import EmotionModel

ImageList: TypeAlias = "list[Any] | tuple[Any, ...]"
"""Several images. An array or tensor is a single image."""

WORKERS = 4
BATCH_SIZE_CPU = 2
"""Larger batches do not fit the caches of a CPU and take longer per image."""
BATCH_SIZE_ACCELERATOR = 32
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


# Name of an image, and its pixels or the reason why it cannot be read.
_Loaded: TypeAlias = tuple[str, Tensor | ImageError]


@dataclass(frozen=True)
class _Result:
    """Prediction of one image with its features (C,), or the error in their place."""

    prediction: Prediction
    features: Tensor | None = None
    error: MdanZooError | None = None


class Predictor:
    """Predict the emotions that images evoke. Threads can share one predictor.

    Example:
        predictor = Predictor("mdan_oasis4", device="cuda", dtype="bfloat16")
        predictor.predict("photo.jpg")  # Prediction(positive 0.91 > serene 0.74)
        for prediction in predictor.stream(paths, batch_size=64): ...

    Args:
        name: A model with released weights. By default the model whose weights are part of the
            package, or the model of `checkpoint`.
        checkpoint: A checkpoint to use instead of the released one; it contains its own config and
            hierarchy.
        device: Such as "cpu", "cuda" or "cuda:1". By default CUDA if available, else the CPU.
        dtype: "float32", or "bfloat16" or "float16" for mixed precision by autocast.
        branch: Classifier branch that predictions are read from; each prediction contains the
            probabilities of all branches.
        decode: How classes are picked; see `mdan_zoo.inference.prediction`.
        image_options: How images are read.

    Raises:
        UnknownNameError: The model does not exist.
        WeightsUnavailableError: The model has no released weights; the message says how to train
            them.
        CheckpointError: The checkpoint is damaged or belongs to another model.
        DeviceError: The device is not available; the message lists those that are.
        InputError: The dtype, branch or decoding does not exist.
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
    ) -> None:
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise InputError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
        if not isinstance(image_options, ImageOptions):
            raise InputError(f"image_options must be ImageOptions, not {image_options!r}")
        self.dtype = dtype
        self.device = find_device(device)
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
        """Default number of images per forward pass."""
        return BATCH_SIZE_CPU if self.device.type == "cpu" else BATCH_SIZE_ACCELERATOR

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, device='{self.device}', dtype={self.dtype!r})"

    @overload
    def predict(self, images: ImageLike) -> Prediction: ...
    @overload
    def predict(self, images: ImageList) -> list[Prediction]: ...
    def predict(self, images: ImageLike | ImageList) -> Prediction | list[Prediction]:
        """Predict the emotions that one image, or each image of a list or tuple, evokes.

        Raises:
            ImageError: An image cannot be read. Nothing is returned for the other images of a
                list either; `stream` continues instead.
            InputError: The network's values overflow in the predictor's dtype.
        """
        if not isinstance(images, (list, tuple)):
            return self.predict([images])[0]
        return [result.prediction for result in self._all_results(images)]

    def embed(self, images: ImageLike | ImageList) -> Tensor:
        """Return the pooled last feature map of the backbone, the input of the global classifier.

        Returns:
            float32 on the CPU: (C,) for one image, (N, C) for a list or tuple of N.

        Raises:
            ImageError: An image cannot be read.
            InputError: The network's values overflow in the predictor's dtype.
        """
        if not isinstance(images, (list, tuple)):
            return self.embed([images])[0]
        rows = [r.features for r in self._all_results(images) if r.features is not None]
        if not rows:
            return torch.empty(0, self.network.feature_dim)
        return torch.stack(rows)

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
            batch_size: Number of images per forward pass; by default 2 on a CPU, where larger
                batches are slower, and 32 on an accelerator.
            workers: Number of threads that decode images.

        Returns:
            A generator with one prediction for every image. If an image cannot be read, `error` of
            its prediction is the reason.

        Raises:
            InputError: `images` is a single image, or a number is below 1.
        """
        _check_several(images)
        if batch_size is None:
            batch_size = self.batch_size
        for argument, value in (("batch_size", batch_size), ("workers", workers)):
            if type(value) is not int:
                raise InputError(f"{argument} must be an int, not {value!r}")
            if value < 1:
                raise InputError(f"{argument} must be at least 1, not {value}")
        return self._stream(images, batch_size, workers)

    @torch.no_grad()
    def forward(self, images: ImageList | Tensor, return_maps: bool = False) -> EmotionOutput:
        """Run the network on one batch and return its raw output.

        Args:
            images: Either a list or tuple of images of any supported kind, which are loaded and
                preprocessed, or a preprocessed batch: a uint8 tensor (N, 3, S, S) on any device,
                where S is `config.input.crop`, stacked from `preprocessing.crop`.
            return_maps: Whether the output contains attention and class activation maps.

        Returns:
            The output for all N images, on the predictor's device. `to_predictions` converts it to
            predictions.

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
        """Convert the output of `forward` to predictions.

        Args:
            names: Names of the images.
            output: The output for these images, in the same order.

        Returns:
            One prediction per image. If values overflowed in the predictor's dtype, its `error`
            says so.
        """
        return [
            self._failed(name, self._overflow)
            if any(math.isnan(p) for level in probabilities["overall"] for p in level)
            else self._prediction(name, probabilities)
            for name, probabilities in zip(names, _split(output), strict=True)
        ]

    @property
    def _overflow(self) -> str:
        advice = "" if self.dtype == "float32" else "; use dtype 'float32'"
        return f"the network's values overflow in {self.dtype}{advice}"

    def _prediction(
        self, name: str, probabilities: Mapping[Branch, Levels], error: str | None = None
    ) -> Prediction:
        return Prediction(
            image=name,
            model=self.name,
            hierarchy=self.hierarchy,
            probabilities=probabilities,
            branch=self.branch,
            decode=self.decode,
            error=error,
        )

    def _failed(self, name: str, reason: str) -> Prediction:
        return self._prediction(name, {}, " ".join(reason.split()))  # one line

    def _stream(
        self, images: Iterable[ImageLike], batch_size: int, workers: int
    ) -> Generator[Prediction, None, None]:
        with closing(self._results(images, batch_size, workers)) as results:
            for result in results:
                yield result.prediction

    def _all_results(self, images: ImageList) -> list[_Result]:
        """Return the results of all images, or raise the first error."""
        found = []
        with closing(self._results(images, self.batch_size, WORKERS)) as results:
            for result in results:
                if result.error is not None:
                    raise result.error
                found.append(result)
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
            return name, self.preprocessing.crop(load_image(image, self.image_options))
        except ImageError as error:
            return name, error

    def _run(self, batch: list[_Loaded]) -> Iterator[_Result]:
        """Run the network on the readable images of a batch."""
        readable = [(name, loaded) for name, loaded in batch if isinstance(loaded, Tensor)]
        rows: Iterator[tuple[Prediction, Tensor]] = iter(())
        if readable:
            output = self.forward(torch.stack([pixels for _, pixels in readable]))
            predictions = self.to_predictions([name for name, _ in readable], output)
            rows = zip(predictions, output.features.float().cpu(), strict=True)
        for name, loaded in batch:
            if isinstance(loaded, ImageError):
                yield _Result(self._failed(name, loaded.reason), error=loaded)
                continue
            prediction, features = next(rows)
            overflow = prediction.error and InputError(f"{name}: {prediction.error}")
            yield _Result(prediction, features, overflow or None)


@overload
def predict(images: ImageLike, *, model: str = ...) -> Prediction: ...
@overload
def predict(images: ImageList, *, model: str = ...) -> list[Prediction]: ...
def predict(
    images: ImageLike | ImageList, *, model: str = DEFAULT_MODEL
) -> Prediction | list[Prediction]:
    """Predict the emotions that one image, or each image of a list or tuple, evokes.

    The model is loaded at the first call and cached. Use `Predictor` to choose the device and
    other options.

    Args:
        images: Paths, URLs, bytes, binary files, PIL images, uint8 arrays or tensors.
        model: A model with released weights; see `mdan_zoo.list_models(pretrained=True)`.

    Raises:
        ImageError: An image cannot be read.
        UnknownNameError: The model does not exist.
        WeightsUnavailableError: The model has no released weights.
    """
    return shared_predictor(model).predict(images)


def shared_predictor(model: str) -> Predictor:
    """Return the cached predictor of a model with released weights."""
    get_config(model)  # raises for an unknown name, or a name that is not hashable
    with _loading:  # otherwise two threads could load the same model
        return _shared_predictor(model)


_loading = threading.Lock()
_shared_predictor = functools.cache(Predictor)


def _load_network(
    name: str | None, source: CheckpointSource | None
) -> tuple[Path, ModelConfig, EmotionModel]:
    """Return the checkpoint's path, the config that it belongs to, and the loaded network."""
    if source is None:
        name = DEFAULT_MODEL if name is None else name
        config = get_config(name)
        checkpoint = open_checkpoint(read_released(name))
        network = create_model(name, checkpoint=checkpoint)
        # The mean and the standard deviation are the weights' own.
        config = dataclasses.replace(config, input=checkpoint.config.input)
        return checkpoint.path, config, network
    checkpoint = open_checkpoint(source)
    found = checkpoint.config.name
    if name is not None and name != found:
        get_config(name)  # if there is no such model, that is the error to show
        raise CheckpointError(f"{checkpoint.path} belongs to the model {found}, not to {name}")
    return checkpoint.path, *load_network(checkpoint)


def _split(output: EmotionOutput) -> Iterator[Mapping[Branch, Levels]]:
    """Yield the probabilities of every image of a batch."""
    # Rounding can raise a probability above 1.
    lists = {
        branch: [level.clamp(max=1).tolist() for level in levels]
        for branch, levels in output.probs.items()
    }
    for i in range(len(output.features)):
        yield {branch: tuple(tuple(level[i]) for level in rows) for branch, rows in lists.items()}


def _check_several(images: Any) -> None:
    """Raise `InputError` if `images` is a single image instead of an iterable of images."""
    single = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
    # Rows of an image would pass for grey images. An array of paths has one dimension.
    single |= hasattr(images, "read") or len(getattr(images, "shape", ())) in (2, 3)
    if single or not isinstance(images, Iterable):
        raise InputError(
            f"stream needs an iterable of images, not a single one ({describe(images)}): "
            "put it into a list, or use predict"
        )
