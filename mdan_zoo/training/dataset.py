"""Training dataset and batch sampler: random crops of images, in a reproducible order.

All randomness depends only on the seed, the epoch and the image, not on workers or GPUs.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate
from torchvision.transforms import v2

from mdan_zoo._util.files import write_atomically
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.images.input_spec import STRIDE, InputSpec
from mdan_zoo.images.load import ImageOptions, load_image
from mdan_zoo.images.preprocessing import without_far_ends
from mdan_zoo.training.distributed import in_main_process
from mdan_zoo.training.recipe import Recipe

Key = tuple[int, int]
"""Epoch and index of an image."""

_ASPECTS = (0.8, 1.25)
"""Width to height of random crops, before they are made square."""

_CACHE_QUALITY = 95
_MOST_ENLARGED = 1.1
_SHOWN = 5


def random_crop(spec: InputSpec, recipe: Recipe) -> v2.Transform:
    """Return the recipe's random crop of a PIL image, as a PIL image of the size `spec.crop`."""
    interpolation = v2.InterpolationMode(spec.interpolation)
    if recipe.min_crop_area:
        return v2.RandomResizedCrop(
            spec.crop,
            scale=(recipe.min_crop_area, 1.0),
            ratio=_ASPECTS,
            interpolation=interpolation,
        )
    return v2.Compose([v2.Resize(spec.resize_to, interpolation), v2.RandomCrop(spec.crop)])


def crop_size(spec: InputSpec, recipe: Recipe, epoch: int) -> int:
    """Return the side of the crops in an epoch of a key, in pixels; see `Recipe.start_size`."""
    sizes = training_sizes(spec, recipe)
    if len(sizes) == 1 or recipe.epochs == 1:
        return sizes[-1]
    done = epoch % recipe.epochs  # images that are drawn again have the keys of later epochs
    size = sizes[0] + (sizes[-1] - sizes[0]) * done // (recipe.epochs - 1)
    return size // STRIDE * STRIDE


def training_sizes(spec: InputSpec, recipe: Recipe) -> range:
    """Return the sides of the crops in all epochs, ascending.

    Raises:
        InputError: `Recipe.start_size` is larger than the last one.
    """
    last = recipe.train_size or spec.crop
    first = recipe.start_size or last
    if first > last:
        name = "train_size" if recipe.train_size else "the input size of the model"
        raise InputError(f"start_size must be at most {name}, {last}, not {first}")
    return range(first, last + 1, STRIDE)


def needed_side(spec: InputSpec, recipe: Recipe) -> int:
    """Return the size in pixels that the shorter side of an image must have.

    The smallest crops are enlarged by up to a tenth, so that JPEG files of 1024 x 768 pixels can be
    decoded at half their size.
    """
    if not recipe.min_crop_area:
        return round(spec.resize * max(1, recipe.train_size / spec.crop))
    smallest = (recipe.train_size or spec.crop) / math.sqrt(recipe.min_crop_area)
    return max(spec.resize, math.ceil(smallest / _MOST_ENLARGED))


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Random crops, half of them mirrored, uint8 (3, S, S), with the index of the image.

    `cache` is a folder for JPEG copies at the size that training needs; None keeps no copies.
    """

    def __init__(
        self, samples: Sequence[Sample], spec: InputSpec, recipe: Recipe, cache: Path | None = None
    ) -> None:
        self.files = [sample.image for sample in samples]
        self.spec = spec
        self.recipe = recipe
        self.side = needed_side(spec, recipe)
        self.options = ImageOptions(shrink_to=self.side)
        self.cache = cache
        self.transforms = {}
        for size in training_sizes(spec, recipe):
            smaller = dataclasses.replace(
                spec, crop=size, resize=round(spec.resize * size / spec.crop)
            )
            self.transforms[size] = v2.Compose(
                [random_crop(smaller, recipe), v2.RandomHorizontalFlip(), v2.PILToTensor()]
            )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        epoch, index = key
        image = without_far_ends(self.load(index))
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed GPUs that are initialised later.
            torch.default_generator.manual_seed(number_from(self.recipe.seed, epoch, index))
            pixels: Tensor = self.transforms[crop_size(self.spec, self.recipe, epoch)](image)
        return pixels, index

    def __getitems__(self, keys: list[Key]) -> list[tuple[Tensor, int]] | ImageError:
        """Return a batch, or the error of an image, which a worker cannot raise unchanged."""
        try:
            return [self[key] for key in keys]
        except ImageError as error:
            return error.with_traceback(None)

    def for_recipe(self, recipe: Recipe) -> ImageDataset:
        """Return the dataset with the seed and epochs of a recipe that is otherwise the same."""
        dataset = copy.copy(self)
        dataset.recipe = recipe
        return dataset

    def load(self, index: int) -> Image.Image:
        """Return an image, from the cache if there is one."""
        file = self.files[index]
        if self.cache is None:
            return load_image(file, self.options)
        status = file.stat()
        about = f"{file.resolve()}\t{status.st_size}\t{status.st_mtime_ns}\t{self.side}"
        kept = self.cache / f"{hashlib.sha256(about.encode()).hexdigest()[:32]}.jpg"
        if not kept.exists():
            image = without_far_ends(load_image(file, self.options))  # JPEG has a longest side
            scale = min(1.0, self.side / min(image.size))
            image.thumbnail((round(image.width * scale), round(image.height * scale)))
            content = io.BytesIO()
            image.save(content, "JPEG", quality=_CACHE_QUALITY, subsampling=0)
            write_atomically(kept, content.getvalue())
        return load_image(kept)


class Steps(Sampler[list[Key]]):
    """Batch sampler from a given step to the last; drops the incomplete last batch of an epoch.

    A step is divided into `parts` for gradient accumulation, and each part among `processes`.
    `weights` are sampling weights of `indices`; None takes each image once per epoch. `shares` are
    numbers of images per epoch and the positions in `indices` that they are taken from. `stage` is
    that of the recipe that ends with the last step.
    """

    drop_last = True

    def __init__(
        self,
        indices: Sequence[int],
        recipe: Recipe,
        parts: int = 1,
        processes: int = 1,
        start: int = 0,
        weights: Tensor | None = None,
        shares: Sequence[tuple[int, Tensor]] | None = None,
        stage: int = -1,
    ) -> None:
        self.indices = torch.tensor(indices)
        self.shares = shares
        length = sum(count for count, _ in shares) if shares else len(indices)
        self.recipe = recipe
        unit = parts * processes
        size = min(recipe.batch_size, length)
        if size < unit:
            raise InputError(
                f"a step of {size} images cannot be divided among {processes} processes with "
                f"{parts} parts each; raise batch_size"
            )
        self.step_size = size // unit * unit
        self.batch_size = self.step_size // parts
        self.parts = parts
        self.start = start
        self.weights = weights
        self.per_epoch = length // self.step_size
        self.end = recipe.stage_ends[stage] * self.per_epoch

    def __len__(self) -> int:
        return (self.end - self.start) * self.parts

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start, self.end):
            epoch, number = divmod(step, self.per_epoch)
            if number == 0 or step == self.start:
                order = self._order(epoch)
            begin = number * self.step_size
            for first in range(begin, begin + self.step_size, self.batch_size):
                yield order[first : first + self.batch_size]

    def _order(self, epoch: int) -> list[Key]:
        """Return the images of an epoch; one that is drawn again gets another epoch's crop."""
        generator = torch.Generator().manual_seed(number_from(self.recipe.seed, epoch, -1))
        count = len(self.indices)
        if self.shares is not None:
            order = self._mixed(generator)
        elif self.weights is None:
            order = torch.randperm(count, generator=generator)
        else:
            order = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        drawn: Counter[int] = Counter()
        keys = []
        for index in self.indices[order].tolist():
            keys.append((epoch + drawn[index] * self.recipe.epochs, index))
            drawn[index] += 1
        return keys

    def _mixed(self, generator: torch.Generator) -> Tensor:
        """Return positions in `indices`, each as often as its share requires, up to one more."""
        drawn = []
        for count, positions in self.shares or ():
            times, rest = divmod(count, len(positions))
            order = torch.randperm(len(positions), generator=generator)
            drawn += [positions.repeat(times), positions[order[:rest]]]
        mixed = torch.cat(drawn)
        return mixed[torch.randperm(len(mixed), generator=generator)]


def number_from(*parts: Any) -> int:
    """Return a seed that depends on all of `parts`, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def check_images(samples: Sequence[Sample], files: FileIndex) -> None:
    """Check in the main process that images can be decoded; all processes raise `ImageError`."""

    def find() -> list[str]:
        found = files.read([sample.image for sample in samples])
        return [file.problem for file in found if file.problem]

    problems = in_main_process(find)
    if problems:
        more = len(problems) - _SHOWN
        raise ImageError(
            None,
            f"{len(problems)} of {len(samples)} images cannot be read: "
            + "; ".join(problems[:_SHOWN])
            + (f"; and {more} more, which mdan-zoo dataset lists" if more > 0 else ""),
        )


def collate(batch: Any) -> Any:
    """Collate a batch; the error of an unreadable image is passed through."""
    return batch if isinstance(batch, ImageError) else default_collate(batch)
