"""Images in, predictions out: a network with its weights, its preprocessing and a device.

predictor = Predictor("mdan_oasis4", device="cuda", dtype="bfloat16")
predictor.predict("photo.jpg")
for prediction in predictor.stream(paths, batch_size=64): ...
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import torch
from PIL import Image
from torch import Tensor

from mdan_zoo._util.read_ahead import batches_ahead
from mdan_zoo.errors import CheckpointError, DeviceError, ImageError, InputError, MdanZooError
from mdan_zoo.images.load import DEFAULT_OPTIONS, ImageLike, ImageOptions, describe, load_image
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.inference.prediction import (
    BRANCHES,
    Branch,
    Decode,
    Levels,
    Prediction,
    check_reading,
)
from mdan_zoo.models.base import EmotionOutput
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.weights.checkpoint import CheckpointSource, open_checkpoint
from mdan_zoo.zoo.factory import (
    DEFAULT_MODEL,
    create_model,
    get_config,
    load_network,
    read_released,
)

if TYPE_CHECKING:
    from mdan_zoo.models import EmotionNetwork

ImageList: TypeAlias = "list[Any] | tuple[Any, ...]"
"""Several images. An array or tensor is always one image."""

WORKERS = 4
BATCH_SIZE_CPU = 2
"""On a CPU the tensors of larger batches no longer fit its caches, and take longer an image."""
BATCH_SIZE_ACCELERATOR = 32
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class _Values:
    """What the network says of one image: probabilities and features (C,)."""

    probabilities: Mapping[Branch, Levels]
    features: Tensor


# An image's name, and what came of it so far: something, or the error that stands in its place.
_Loaded: TypeAlias = tuple[str, Tensor | MdanZooError]
_Result: TypeAlias = tuple[str, _Values | MdanZooError]


class Predictor:
    """Predicts which emotions images evoke. Threads can share one predictor.

    Example:
        predictor = Predictor("mdan_oasis4", device="cuda", dtype="bfloat16")
        predictor.predict("photo.jpg")  # Prediction(positive 0.91 > serene 0.74)
        for prediction in predictor.stream(paths, batch_size=64): ...

    Args:
        name: A model with released weights. By default the one whose weights are part of the
            package, or the one that `checkpoint` belongs to.
        checkpoint: A weight file to use instead of the released one; it carries its own config
            and emotion tree.
        device: Such as "cpu", "cuda" or "cuda:1". By default CUDA where there is any, else the CPU.
        dtype: "float32", or "bfloat16" or "float16" for mixed precision by autocast.
        branch: Whose probabilities predictions are read from; each prediction carries all.
        decode: How a path is read from them; see `mdan_zoo.inference.prediction`.
        image_options: How images are read.

    Raises:
        UnknownNameError: There is no model of that name.
        WeightsUnavailableError: The model has no released weights; says how to train them.
        CheckpointError: The weight file is damaged or belongs to another model.
        DeviceError: The device is not there; says which are.
        InputError: The dtype, branch or way to decode does not exist.
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
        # A lab's manifest may list weights under another name than the one in their config.
        self.name = (name or DEFAULT_MODEL) if checkpoint is None else self.config.name
        branches = ("overall", "global") if self.config.architecture == "flat" else BRANCHES
        check_reading(self.name, branch, decode, branches)
        self.branch = branch
        self.decode = decode
        self.image_options = image_options
        self.hierarchy = network.hierarchy
        self.preprocessing = Preprocessing(self.config.input)
        # Convolutions are as fast or faster with the channels last, on CPUs too.
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)

    @property
    def batch_size(self) -> int:
        """How many images the network gets at once unless something else is asked for."""
        return BATCH_SIZE_CPU if self.device.type == "cpu" else BATCH_SIZE_ACCELERATOR

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, device='{self.device}', dtype={self.dtype!r})"

    @overload
    def predict(self, images: ImageLike) -> Prediction: ...
    @overload
    def predict(self, images: ImageList) -> list[Prediction]: ...
    def predict(self, images: ImageLike | ImageList) -> Prediction | list[Prediction]:
        """Predict the emotions of one image, or of each of a list or tuple of images.

        Raises:
            ImageError: An image cannot be read; then nothing is returned, also not for the others
                of a list. `stream` goes on instead.
            InputError: The network's values overflow in the predictor's dtype.
        """
        if not isinstance(images, (list, tuple)):
            return self.predict([images])[0]
        return [self._prediction(name, values) for name, values in self._all_values(images)]

    def embed(self, images: ImageLike | ImageList) -> Tensor:
        """Return the features that the global classifier reads: the backbone's pooled last map.

        Returns:
            float32 on the CPU: (C,) for one image, (N, C) for a list or tuple of N.

        Raises:
            ImageError: An image cannot be read.
            InputError: The network's values overflow in the predictor's dtype.
        """
        if not isinstance(images, (list, tuple)):
            return self.embed([images])[0]
        rows = [values.features for _, values in self._all_values(images)]
        if not rows:
            return torch.empty(0, self.network.global_classifier.in_features)
        return torch.stack(rows)

    def stream(
        self,
        images: Iterable[ImageLike],
        *,
        batch_size: int | None = None,
        workers: int = WORKERS,
    ) -> Generator[Prediction, None, None]:
        """Predict any number of images, in their order; there may be no end of them.

        `images` is read in the calling thread, at most two batches ahead of the predictions, and
        decoded in worker threads. So an image must not be changed before its prediction has come.
        If `images` raises, that error comes after the predictions of the images before. The
        threads end with the generator, also where it is closed early.

        Args:
            images: An iterable of images.
            batch_size: How many images the network gets at once; by default 2 on a CPU, where
                more is slower, and 32 on an accelerator.
            workers: How many threads decode images.

        Returns:
            A generator of one prediction for every image. Where an image cannot be read, the
            prediction's `error` says why.

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

    def _stream(
        self, images: Iterable[ImageLike], batch_size: int, workers: int
    ) -> Generator[Prediction, None, None]:
        with closing(self._results(images, batch_size, workers)) as results:
            for name, values in results:
                yield self._prediction(name, values)

    def _all_values(self, images: ImageList) -> list[tuple[str, _Values]]:
        """Return what the network says of all images, or raise the first error."""
        found = []
        with closing(self._results(images, self.batch_size, WORKERS)) as results:
            for name, values in results:
                if isinstance(values, MdanZooError):
                    raise values
                found.append((name, values))
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
            rgb = load_image(image, self.image_options)
        except ImageError as error:
            return name, error
        return name, self.preprocessing.crop(rgb)

    def _run(self, batch: list[_Loaded]) -> Iterator[_Result]:
        """Run the network on those images of a batch that were loaded."""
        pixels = [loaded for _, loaded in batch if isinstance(loaded, Tensor)]
        rows = iter(_split(self._forward(torch.stack(pixels))) if pixels else ())
        for name, loaded in batch:
            if isinstance(loaded, MdanZooError):
                yield name, loaded
            else:
                values = next(rows)
                yield name, values if _are_numbers(values) else self._overflow_error(name)

    @torch.no_grad()
    def _forward(self, pixels: Tensor, return_maps: bool = False) -> EmotionOutput:
        """Run the network on uint8 pixels (N, 3, S, S)."""
        inputs = self.preprocessing.normalise(pixels.to(self.device))
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        mixed = self.dtype != "float32"
        with torch.autocast(self.device.type, DTYPES[self.dtype] if mixed else None, enabled=mixed):
            output: EmotionOutput = self.network(inputs, return_maps)
        return output

    def _prediction(self, name: str, values: _Values | MdanZooError) -> Prediction:
        error = None
        probabilities: Mapping[Branch, Levels] = {}
        if isinstance(values, MdanZooError):
            error = " ".join(str(values).removeprefix(f"{name}: ").split())  # one line
        else:
            probabilities = values.probabilities
        return Prediction(
            image=name,
            model=self.name,
            hierarchy=self.hierarchy,
            probabilities=probabilities,
            branch=self.branch,
            decode=self.decode,
            error=error,
        )

    def _overflow_error(self, name: str) -> InputError:
        advice = "" if self.dtype == "float32" else "; use dtype 'float32'"
        return InputError(f"{name}: the network's values overflow in {self.dtype}{advice}")


@overload
def predict(images: ImageLike, *, model: str = ...) -> Prediction: ...
@overload
def predict(images: ImageList, *, model: str = ...) -> list[Prediction]: ...
def predict(
    images: ImageLike | ImageList, *, model: str = DEFAULT_MODEL
) -> Prediction | list[Prediction]:
    """Predict the emotions of one image, or of each of a list or tuple of images.

    The model is loaded at the first call and kept. `Predictor` has the device and more to choose.

    Args:
        images: Paths, URLs, bytes, binary files, PIL images, uint8 arrays or tensors.
        model: A model with released weights; see `mdan_zoo.list_models(pretrained=True)`.

    Raises:
        ImageError: An image cannot be read.
        UnknownNameError: There is no model of that name.
        WeightsUnavailableError: The model has no released weights.
    """
    return shared_predictor(model).predict(images)


def shared_predictor(model: str) -> Predictor:
    """Return the predictor of a model with released weights that is loaded once and kept."""
    get_config(model)  # what is no name cannot be looked up among those that are loaded
    with _loading:  # else two threads could both load the model
        return _shared_predictor(model)


_loading = threading.Lock()
_shared_predictor = functools.cache(Predictor)


def find_device(device: str | torch.device | None) -> torch.device:
    """Return a device that is there; by default CUDA where there is any, else the CPU.

    Raises:
        DeviceError: The device is not there; says which are.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()  # raises unless it can hold values
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]  # torch explains at length
        there = ", ".join(_devices())
        raise DeviceError(
            f"there is no device {device!r} ({reason}); there are: {there}"
        ) from error
    return found


def _devices() -> list[str]:
    if not torch.accelerator.is_available():
        return ["cpu"]
    accelerator = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count()
    return ["cpu", *(f"{accelerator}:{index}" for index in range(count))]


def _load_network(
    name: str | None, source: CheckpointSource | None
) -> tuple[Path, ModelConfig, EmotionNetwork]:
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


def _split(output: EmotionOutput) -> Iterator[_Values]:
    """Take a batch's output apart into what it says of every image."""
    branches: dict[Branch, tuple[Tensor, ...]] = {
        "overall": output.overall,
        "local": output.local,
        "global": output.global_,
    }
    # Rounding can lift a probability above 1. A flat network has no local branch.
    lists = {
        branch: [level.clamp(max=1).tolist() for level in levels]
        for branch, levels in branches.items()
        if levels
    }
    for i, features in enumerate(output.features.float().cpu()):
        probabilities = {
            branch: tuple(tuple(level[i]) for level in levels) for branch, levels in lists.items()
        }
        yield _Values(probabilities, features)


def _are_numbers(values: _Values) -> bool:
    return not any(math.isnan(p) for level in values.probabilities["overall"] for p in level)


def _check_several(images: Any) -> None:
    """Raise `InputError` if an argument that should be an iterable of images is just one."""
    single = isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
    # An image's rows would pass for grey images. A list of paths can be an array, too.
    single |= hasattr(images, "read") or len(getattr(images, "shape", ())) in (2, 3)
    if single or not isinstance(images, Iterable):
        raise InputError(
            f"stream reads several images, not one ({describe(images)}): "
            "put it into a list, or use predict"
        )
