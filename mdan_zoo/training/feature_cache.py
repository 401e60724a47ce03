"""The maps of frozen stages for several views of every image, computed once.

A frozen backbone gives the same maps for the same view in every epoch. With them at hand a network
trains on a laptop's CPU, and cross-validation does not repeat the costly part.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
from mdan_zoo.training.dataset import Key, number_from, random_crop
from mdan_zoo.training.memory import available_memory
from mdan_zoo.training.preflight import raise_unreadable
from mdan_zoo.training.recipe import Recipe


@dataclass(frozen=True)
class PyramidCache:
    """Maps of every view of every image, in float16.

    Attributes:
        maps: C2, C3, C4 and C5, (V, N, C, H, W) each, where view 0 is the image as it is
            tested and view 1 its mirror image. Maps that no network reads are empty.
    """

    maps: tuple[Tensor, Tensor, Tensor, Tensor]

    @property
    def views(self) -> int:
        """V, the number of views of each image."""
        return self.maps[3].shape[0]

    def batch(self, views: Tensor, images: Tensor) -> list[Tensor]:
        """Return C2..C5 (B, C, H, W) in float32 of the given view (B,) of each image (B,)."""
        return [stage[views, images].float() if stage.numel() else stage for stage in self.maps]


class CachedViews(Dataset[tuple[list[Tensor], int]]):
    """One view's maps, drawn at random, of the image that is asked for, with its index.

    Args:
        cache: Maps of every view of every image.
        seed: Draws the views.
    """

    def __init__(self, cache: PyramidCache, seed: int) -> None:
        self.cache = cache
        self.seed = seed

    def __len__(self) -> int:
        return self.cache.maps[3].shape[1]

    def __getitem__(self, key: Key) -> tuple[list[Tensor], int]:
        view = number_from(self.seed, *key) % self.cache.views
        index = key[1]
        return [maps[view, index] if maps.numel() else maps for maps in self.cache.maps], index


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
    """Run the backbone over every view of every image.

    Args:
        backbone: Gives C2..C5; run in evaluation mode.
        samples: The images.
        spec: How an image becomes the network's input.
        recipe: Number and kind of the views, and the seed that draws them.
        stages: Which maps to keep; 0 is C2, 3 is C5.
        device: Where the backbone runs; the maps are kept in the memory beside the CPU.

    Raises:
        ImageError: Images cannot be read.
        InputError: The maps need more memory than there is.
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
        if problems:  # look at the rest only to name them all
            continue
        views = torch.stack(draw_views(image, spec, recipe, seed=number))
        inputs = preprocessing.normalise(views.to(device)).to(memory_format=torch.channels_last)
        # Two views at a time: the tensors of a larger batch are so large that the allocator takes
        # fresh memory for each, which on a CPU costs as much as the convolutions.
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
    return PyramidCache((c2, c3, c4, c5))


def _check_memory(maps: Iterable[Tensor], images: int, views: int) -> None:
    """Refuse to keep the maps of so many images, given those of one, where memory is short."""
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # each of them keeps all maps
    needed = sum(stage.nbytes for stage in maps) * images * local_processes
    there = available_memory()
    if needed > there:
        raise InputError(
            f"keeping {views} views of {images} images needs {needed / 1e9:.1f} GB of memory, "
            f"and {there / 1e9:.1f} GB are there; --set cached_views=0 crops anew in every epoch"
        )


def draw_views(image: Image.Image, spec: InputSpec, recipe: Recipe, seed: int) -> list[Tensor]:
    """Return uint8 views (3, S, S) of one image: plain, mirrored, then random crops.

    Half of the random crops are mirrored. The same seed and recipe give the same views.
    """
    plain = Preprocessing(spec).crop(image)
    crop = random_crop(spec, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((recipe.seed << 32) + seed)
        crops = [tv.pil_to_tensor(crop(image)) for _ in range(recipe.cached_views - 2)]
    mirrored = [view.flip(-1) if number % 2 else view for number, view in enumerate(crops)]
    return [plain, plain.flip(-1), *mirrored]
