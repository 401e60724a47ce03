"""Feature cache: maps of the frozen stages for several views of every image, computed once.

Cached maps make training fast enough for a CPU. They are in a memory-mapped file, so they need
disk space instead of memory, and processes and the folds of a cross-validation share them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as tv

from mdan_zoo._util.files import write_atomically
from mdan_zoo._util.progress import progress_bar
from mdan_zoo.backbones.pyramid import leading_maps
from mdan_zoo.datasets.file_index import FileIndex
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import InputError, TrainingError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.load import load_image
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.training.dataset import Key, number_from, random_crop
from mdan_zoo.training.distributed import in_main_process
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.state import hash_of_start

_PREFIX = "feature_cache-"
_CHUNK = 20  # images between two updates of the progress file


@dataclass(frozen=True)
class PyramidCache(Dataset[tuple[list[Tensor], int]]):
    """Dataset of the cached maps of a random view of each image, with the image's index.

    Attributes:
        maps: C2, C3, C4 and C5, (V, N, C, H, W) each, in float16. View 0 is the image with the
            preprocessing of inference, view 1 its mirror image. Maps that the network does not
            read are empty.
        seed: Seed of the random views.
        rows: Position in `maps` by index of the image, for images that have maps. None: all have.
    """

    maps: tuple[Tensor, Tensor, Tensor, Tensor]
    seed: int = 0
    rows: Mapping[int, int] | None = None

    @property
    def views(self) -> int:
        """Number of views of each image, V."""
        return self._kept.shape[0]

    @property
    def _kept(self) -> Tensor:
        return next(maps for maps in self.maps if maps.numel())

    def __len__(self) -> int:
        return self._kept.shape[1]

    def __getitem__(self, key: Key) -> tuple[list[Tensor], int]:
        view = number_from(self.seed, *key) % self.views
        index = key[1]
        row = index if self.rows is None else self.rows[index]
        return [maps[view, row] if maps.numel() else maps for maps in self.maps], index

    def for_recipe(self, recipe: Recipe) -> PyramidCache:
        """Return the dataset with the random views of a recipe."""
        return replace(self, seed=recipe.seed)

    def with_stages(self, stages: Sequence[int]) -> PyramidCache:
        """Return the dataset without the maps that are not among `stages`; 0 is C2, 3 is C5."""
        c2, c3, c4, c5 = (
            maps if stage in stages else torch.empty(0) for stage, maps in enumerate(self.maps)
        )
        return replace(self, maps=(c2, c3, c4, c5))


def compute_pyramids(
    backbone: nn.Module,
    samples: Sequence[Sample],
    spec: InputSpec,
    recipe: Recipe,
    folder: Path,
    *,
    stages: Sequence[int] = (1, 2, 3),
    indices: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    files: FileIndex | None = None,
) -> PyramidCache:
    """Compute the feature maps of every view of every image, or of the images at `indices`.

    They are kept in a file in `folder`. Its name identifies the images by their contents, views,
    input, maps and weights of the backbone; an existing file is completed and reused. `stages` are
    the maps to keep; 0 is C2, 3 is C5. `files` is an index of the image files.

    Raises:
        ImageError: An image cannot be read.
        InputError: The file needs more disk space than is free.
        TrainingError: The file cannot be written.
    """
    indices = range(len(samples)) if indices is None else indices
    backbone = backbone.eval()
    views = (recipe.seed_of_views, recipe.cached_views, recipe.min_crop_area)
    hashes = (files or FileIndex()).sha256s([samples[index].image for index in indices])
    images = list(zip(indices, hashes, strict=True))
    about = (hash_of_start(backbone.state_dict(), spec), tuple(stages), views, images)
    path = folder / f"{_PREFIX}{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}.bin"
    backbone = backbone.to(device).to(memory_format=torch.channels_last)
    preprocessing = Preprocessing(spec)
    with torch.inference_mode():
        blank = torch.zeros(1, 3, spec.crop, spec.crop, device=device)
        pyramid = leading_maps(backbone, blank, stages[-1] + 1)
    shapes = [tuple(pyramid[stage].shape[1:]) for stage in stages]
    names = [f"C{stage + 2}" for stage in stages]
    record = np.dtype([(name, "<f2", shape) for name, shape in zip(names, shapes, strict=True)])

    @torch.inference_mode()
    def compute(index: int) -> bytes:
        views = torch.stack(draw_views(load_image(samples[index].image), spec, recipe, seed=index))
        inputs = preprocessing.normalise(views.to(device)).to(memory_format=torch.channels_last)
        # Two views at a time: for larger tensors, the allocator requests new memory each time,
        # which on a CPU takes as long as the convolutions.
        parts = [leading_maps(backbone, pair, stages[-1] + 1) for pair in torch.split(inputs, 2)]
        records = np.empty(len(views), record)
        for stage, name in zip(stages, names, strict=True):
            records[name] = torch.cat([part[stage] for part in parts]).half().cpu().numpy()
        return records.tobytes()

    size = recipe.cached_views * record.itemsize
    in_main_process(lambda: _complete(path, size, indices, recipe.cached_views, compute))
    backbone.cpu()
    # "c", copy on write: the file may be read-only, and torch warns about read-only arrays.
    records = np.memmap(path, record, "c", shape=(len(indices), recipe.cached_views))
    kept = {name: torch.from_numpy(records[name]).transpose(0, 1) for name in names}
    c2, c3, c4, c5 = (kept.get(name, torch.empty(0)) for name in ("C2", "C3", "C4", "C5"))
    rows = {index: row for row, index in enumerate(indices)}
    return PyramidCache((c2, c3, c4, c5), recipe.seed, rows)


def _complete(
    path: Path, size: int, indices: Sequence[int], views: int, compute: Callable[[int], bytes]
) -> None:
    """Append the records of the images that a file lacks; `size` is that of an image, in bytes.

    The number of complete images is in a second file, which is replaced after the records have
    reached the disk, so records that are written only in part do not count.
    """
    progress, count = path.with_suffix(".json"), len(indices)
    done = _complete_images(path, progress, size)
    what = f"feature maps of {views} views of {count:,} images in {path}"
    missing = size * count - (path.stat().st_size if path.exists() else 0)
    _check_space(path.parent, missing, what)
    about = f"{size * count / 1e9:.2f} GB, {done:,} images complete"
    print(f"{'reusing' if done == count else 'caching'} the {what}: {about}", file=sys.stderr)
    if done == count:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        bar = progress_bar("caching", total=count, initial=done)
        with path.open("r+b") as file, bar:
            file.seek(done * size)
            for number, index in enumerate(indices[done:], done + 1):
                file.write(compute(index))
                bar.update()
                if number % _CHUNK == 0 or number == count:
                    file.flush()
                    os.fsync(file.fileno())
                    write_atomically(progress, json.dumps({"images": number}).encode())
    except OSError as error:
        raise TrainingError(
            f"the {what} cannot be written: {error.strerror}. Once this is resolved, the same "
            "command continues after the last complete images"
        ) from error


def _complete_images(path: Path, progress: Path, size: int) -> int:
    try:
        done = int(json.loads(progress.read_bytes())["images"])
        return min(done, path.stat().st_size // size)
    except (OSError, ValueError, TypeError, KeyError):  # missing or damaged: start over
        return 0


def _check_space(folder: Path, needed: int, what: str) -> None:
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"the {what} need {needed / 1e9:.2f} GB of disk space, and {free / 1e9:.2f} GB are "
            "free; --cache DIR puts them on another disk, a lower cached_views needs less, and "
            "--set cached_views=0 draws new crops in every epoch instead"
        )


def remove_caches(folder: Path) -> None:
    """Remove all cached feature maps from a folder."""
    for file in folder.glob(f"{_PREFIX}*"):
        file.unlink(missing_ok=True)


def draw_views(image: Image.Image, spec: InputSpec, recipe: Recipe, seed: int) -> list[Tensor]:
    """Return views of an image, uint8 (3, S, S): plain, mirrored, random crops.

    Every second crop is mirrored.
    """
    plain = Preprocessing(spec).crop(image)
    crop = random_crop(spec, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((recipe.seed_of_views << 32) + seed)
        crops = [tv.pil_to_tensor(crop(image)) for _ in range(recipe.cached_views - 2)]
    mirrored = [view.flip(-1) if number % 2 else view for number, view in enumerate(crops)]
    return [plain, plain.flip(-1), *mirrored]
