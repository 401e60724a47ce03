"""Feature cache: maps of the frozen stages for several views of every image, computed once.

Cached maps make training fast enough for a CPU and are shared by the folds of a cross-validation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as tv
from tqdm import tqdm

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.load import load_image
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.training.dataset import Key, number_from, raise_unreadable, random_crop
from mdan_zoo.training.recipe import Recipe

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class PyramidCache(Dataset[tuple[list[Tensor], int]]):
    """Dataset of the cached maps of a random view of each image, with the image's index.

    Attributes:
        maps: C2, C3, C4 and C5, (V, N, C, H, W) each, in float16. View 0 is the image with the
            preprocessing of inference, view 1 its mirror image. Maps that the network does not
            read are empty.
        seed: Seed of the random views.
    """

    maps: tuple[Tensor, Tensor, Tensor, Tensor]
    seed: int = 0

    @property
    def views(self) -> int:
        """Number of views of each image, V."""
        return self.maps[3].shape[0]

    def __len__(self) -> int:
        return self.maps[3].shape[1]

    def __getitem__(self, key: Key) -> tuple[list[Tensor], int]:
        view = number_from(self.seed, *key) % self.views
        index = key[1]
        return [maps[view, index] if maps.numel() else maps for maps in self.maps], index


@torch.inference_mode()
def compute_pyramids(
    backbone: nn.Module,
    samples: Sequence[Sample],
    spec: InputSpec,
    recipe: Recipe,
    *,
    stages: Sequence[int] = (1, 2, 3),
    device: torch.device | str = "cpu",
) -> PyramidCache:
    """Compute the feature maps of every view of every image; they are kept in main memory.

    `stages` are the maps to keep; 0 is C2, 3 is C5.

    Raises:
        ImageError: Images cannot be read.
        InputError: The maps need more memory than is available.
    """
    backbone = backbone.eval().to(device).to(memory_format=torch.channels_last)
    preprocessing = Preprocessing(spec)
    kept: dict[int, Tensor] = {}
    problems: list[str] = []
    for number, sample in enumerate(tqdm(samples, desc="images", disable=None)):
        try:
            image = load_image(sample.image)
        except ImageError as error:
            problems.append(str(error))
        if problems:  # only look for more unreadable images
            continue
        views = torch.stack(draw_views(image, spec, recipe, seed=number))
        inputs = preprocessing.normalise(views.to(device)).to(memory_format=torch.channels_last)
        # Two views at a time: for larger tensors, the allocator requests new memory each time,
        # which on a CPU takes as long as the convolutions.
        parts = [list(backbone(pair)) for pair in torch.split(inputs, 2)]
        pyramid = {stage: torch.cat([part[stage] for part in parts]).half() for stage in stages}
        if not kept:
            _check_memory(pyramid.values(), len(samples), recipe.cached_views)
            for stage, maps in pyramid.items():
                shape = (recipe.cached_views, len(samples), *maps.shape[1:])
                kept[stage] = torch.empty(shape, dtype=maps.dtype)
        for stage, maps in pyramid.items():
            kept[stage][:, number] = maps
    raise_unreadable(problems, len(samples))
    backbone.cpu()
    c2, c3, c4, c5 = (kept.get(stage, torch.empty(0)) for stage in range(4))
    return PyramidCache((c2, c3, c4, c5), recipe.seed)


def _check_memory(maps: Iterable[Tensor], images: int, views: int) -> None:
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # each keeps all maps
    needed = sum(stage.nbytes for stage in maps) * images * local_processes
    available = available_memory()
    if needed > available:
        raise InputError(
            f"caching {views} views of {images} images needs {needed / 1e9:.1f} GB of memory, and "
            f"{available / 1e9:.1f} GB are available; --set cached_views=0 draws new crops in "
            "every epoch"
        )


def draw_views(image: Image.Image, spec: InputSpec, recipe: Recipe, seed: int) -> list[Tensor]:
    """Return views of an image, uint8 (3, S, S): plain, mirrored, random crops.

    Every second crop is mirrored.
    """
    plain = Preprocessing(spec).crop(image)
    crop = random_crop(spec, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((recipe.seed << 32) + seed)
        crops = [tv.pil_to_tensor(crop(image)) for _ in range(recipe.cached_views - 2)]
    mirrored = [view.flip(-1) if number % 2 else view for number, view in enumerate(crops)]
    return [plain, plain.flip(-1), *mirrored]


def available_memory() -> int:
    """Return the available memory in bytes, of the machine, container or job."""
    limits = [int(psutil.virtual_memory().available)]
    for line in _read_text(Path("/proc/self/cgroup")).splitlines():  # Linux
        _, controllers, group = line.split(":", 2)
        if not controllers:
            root, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        path = PurePosixPath(group)
        for folder in (path, *path.parents):  # limits apply to nested groups
            text = _read_text(root / folder.relative_to("/") / name).strip()
            limits += [int(text)] if text.isdigit() else []  # not "max"
    return min(limits)


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # missing, or not readable for this user
        return ""
