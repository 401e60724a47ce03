"""Crops, views and the order of images: random, and the same for everybody who repeats them."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.training.dataset import ImageDataset, Steps, needed_side
from mdan_zoo.training.feature_cache import draw_views
from mdan_zoo.training.recipe import Recipe

SPEC = InputSpec(resize=96, crop=64)
CROPS = Recipe("mdan_fi8", batch_size=4, epochs=3)
RESIZED_CROPS = Recipe("mdan_fi8", batch_size=4, epochs=3, min_crop_area=0.6)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    found = []
    for number in range(11):
        image = Image.radial_gradient("L").resize((400, 300)).convert("RGB")
        image.paste((20 * number, 255 - 20 * number, 90), (30 * number, 0, 30 * number + 60, 200))
        image.save(folder / f"{number}.jpg")
        found.append(Sample(folder / f"{number}.jpg", (0, 0), (1.0, 0.0), str(number)))
    return found


@pytest.mark.parametrize("recipe", [CROPS, RESIZED_CROPS])
def test_crops_differ_between_epochs_and_are_repeatable(samples, recipe):
    images = ImageDataset(samples, SPEC, recipe)
    first, index = images[0, 3]
    assert index == 3
    assert first.shape == (3, 64, 64)
    assert first.dtype == torch.uint8
    assert first.equal(ImageDataset(samples, SPEC, recipe)[0, 3][0])
    assert not first.equal(images[1, 3][0])


def test_both_halves_of_a_coin_mirror_an_image(tmp_path):
    image = Image.new("RGB", (64, 64), "black")
    image.paste("white", (0, 0, 20, 64))
    image.save(tmp_path / "left.png")
    sample = Sample(tmp_path / "left.png", (0,), (1.0,), "")
    images = ImageDataset([sample], InputSpec(resize=64, crop=64), CROPS)
    white_left = [bool(images[epoch, 0][0][0, 0, 0]) for epoch in range(200)]
    assert 70 <= sum(white_left) <= 130  # 4.2 standard deviations around 100


def test_worker_processes_change_nothing(samples):
    images = ImageDataset(samples, SPEC, CROPS)
    loaded = []
    for workers in (0, 2):
        steps = Steps(range(11), CROPS)
        loaded.append(list(DataLoader(images, batch_sampler=steps, num_workers=workers)))
    for (one, ids), (other, other_ids) in zip(*loaded, strict=True):
        assert ids.equal(other_ids)
        assert one.equal(other)


GROWING = dataclasses.replace(CROPS, start_size=32, epochs=5)


def test_crops_grow_to_the_input_size_in_the_last_epoch(samples):
    spec = InputSpec(resize=240, crop=160)
    images = ImageDataset(samples, spec, GROWING)
    sides = [images[epoch, 3][0].shape[-1] for epoch in range(10)]
    assert sides == [32, 64, 96, 128, 160] * 2  # keys from 5 on are of images drawn again
    short, long = (dataclasses.replace(GROWING, epochs=epochs) for epochs in (1, 9))
    assert images.for_recipe(short)[0, 3][0].shape == (3, 160, 160)
    sides = [images.for_recipe(long)[epoch, 3][0].shape[-1] for epoch in range(9)]
    assert sides == [32, 32, 64, 64, 96, 96, 128, 128, 160]
    whole = ImageDataset(samples, spec, dataclasses.replace(GROWING, start_size=0))
    assert images[4, 3][0].equal(whole[4, 3][0])


def test_small_crops_show_the_same_share_of_the_image(tmp_path):
    """Not a part of the resized image that a crop of the full size would be cut from."""
    Image.linear_gradient("L").resize((240, 240)).convert("RGB").save(tmp_path / "0.png")
    sample = Sample(tmp_path / "0.png", (0, 0), (1.0, 0.0), "0")
    images = ImageDataset([sample], InputSpec(resize=160, crop=160), GROWING)
    small, large = (images[epoch, 0][0].float() for epoch in (0, 4))
    assert (torch.nn.functional.avg_pool2d(large, 5) - small).abs().max() < 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("weights", [None, torch.rand(11)], ids=["once", "sampling"])
def test_a_batch_of_growing_crops_has_one_size(samples, workers, weights):
    images = ImageDataset(samples, InputSpec(resize=160, crop=160), GROWING)
    steps = Steps(range(11), GROWING, weights=weights, start=3)
    batches = list(DataLoader(images, batch_sampler=steps, num_workers=workers))
    sides = [pixels.shape[-1] for pixels, _ in batches]
    assert sides == [64, 96, 96, 128, 128, 160, 160]


def test_a_start_size_above_the_input_size_is_reported(samples):
    with pytest.raises(InputError, match="at most the input size of the model, 64, not 96"):
        ImageDataset(samples, SPEC, dataclasses.replace(CROPS, start_size=96))


def test_an_image_smaller_than_the_crop_is_enlarged(tmp_path):
    Image.new("RGB", (20, 30), "red").save(tmp_path / "tiny.png")
    images = ImageDataset([Sample(tmp_path / "tiny.png", (0,), (1.0,), "")], SPEC, CROPS)
    assert images[0, 0][0].shape == (3, 64, 64)


def test_an_unreadable_image_is_reported(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    images = ImageDataset([Sample(tmp_path / "broken.jpg", (0,), (1.0,), "")], SPEC, CROPS)
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        images[0, 0]


def test_resized_crops_are_enlarged_by_a_tenth_at_most():
    assert needed_side(SPEC, CROPS) == 96
    assert needed_side(SPEC, Recipe("mdan_fi8", min_crop_area=0.25)) == 117  # 64 / 0.5 / 1.1


def test_the_cache_gives_nearly_the_same_crops_from_smaller_files(samples, tmp_path):
    plain, cached = ImageDataset(samples, SPEC, CROPS), ImageDataset(samples, SPEC, CROPS, tmp_path)
    for _ in range(2):  # written, then read
        difference = (plain[0, 3][0].float() - cached[0, 3][0].float()).abs().mean()
        assert difference < 6
        (kept,) = tmp_path.iterdir()
        with Image.open(kept) as image:
            assert min(image.size) == 96


def test_the_cache_notices_that_an_image_has_changed(tmp_path):
    file, cache = tmp_path / "image.png", tmp_path / "cache"
    cache.mkdir()
    images = ImageDataset([Sample(file, (0,), (1.0,), "")], SPEC, CROPS, cache)
    Image.new("RGB", (100, 100), "red").save(file)
    assert images[0, 0][0][0].float().mean() > 250
    Image.new("RGB", (100, 101), "blue").save(file)
    assert images[0, 0][0][0].float().mean() < 5


def test_the_cache_takes_an_image_that_is_longer_than_a_jpeg_can_be(tmp_path):
    Image.new("RGB", (66_000, 20), "red").save(tmp_path / "line.png")
    (tmp_path / "cache").mkdir()
    samples = [Sample(tmp_path / "line.png", (0,), (1.0,), "")]
    plain, cached = (
        ImageDataset(samples, SPEC, CROPS, cache) for cache in (None, tmp_path / "cache")
    )
    assert cached[0, 0][0].shape == plain[0, 0][0].shape


def test_the_largest_seed_draws_views(samples):
    recipe = Recipe("m", cached_views=3, frozen_stages=3, min_crop_area=0.6, seed=2**32 - 1)
    with Image.open(samples[4].image) as image:
        assert len(draw_views(image.convert("RGB"), SPEC, recipe, seed=2**32 - 1)) == 3


def test_every_epoch_takes_each_image_once_but_for_the_rest():
    steps = list(Steps([5, 6, 7, 8, 9, 10, 11], Recipe("m", batch_size=3, epochs=4)))
    assert len(steps) == 4 * 2
    by_epoch = [[key for step in steps[2 * e : 2 * e + 2] for key in step] for e in range(4)]
    for epoch, keys in enumerate(by_epoch):
        assert {key[0] for key in keys} == {epoch}
        assert len({key[1] for key in keys}) == 6
        assert {key[1] for key in keys} <= {5, 6, 7, 8, 9, 10, 11}
    orders = [[index for _, index in keys] for keys in by_epoch]
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("start", [1, 2, 3, 7])
def test_steps_go_on_from_anywhere(start):
    recipe = Recipe("m", batch_size=4, epochs=4)
    everything = list(Steps(range(11), recipe))
    assert list(Steps(range(11), recipe, start=start)) == everything[start:]
    assert len(Steps(range(11), recipe, start=start)) == len(everything) - start


def test_parts_hold_the_same_images_as_whole_steps():
    recipe = Recipe("m", batch_size=4, epochs=2)
    whole, halves = list(Steps(range(11), recipe)), list(Steps(range(11), recipe, parts=2))
    assert [a + b for a, b in zip(halves[::2], halves[1::2], strict=True)] == whole


def test_a_step_is_no_larger_than_the_data_set():
    (step,) = Steps(range(5), Recipe("m", batch_size=64, epochs=1))
    assert sorted(index for _, index in step) == [0, 1, 2, 3, 4]


def test_sampling_draws_heavier_images_more_often():
    weights = torch.tensor([1.0, 1.0, 8.0])
    recipe = Recipe("m", batch_size=3, epochs=400)
    drawn = Counter(key[1] for step in Steps([0, 1, 2], recipe, weights=weights) for key in step)
    assert drawn[2] / sum(drawn.values()) == pytest.approx(0.8, abs=0.05)  # 4.3 sd of 1200 draws


def test_an_image_that_is_drawn_twice_is_cropped_differently():
    recipe = Recipe("m", batch_size=8, epochs=3)
    weights = torch.tensor([1.0] * 7 + [50.0])
    keys = [key for step in Steps(range(8), recipe, weights=weights) for key in step]
    assert len(keys) == len(set(keys)) == 3 * 8
    assert Counter(index for _, index in keys)[7] > 3


def test_views_are_the_image_its_mirror_image_and_repeatable_crops(samples):
    with Image.open(samples[4].image) as image:
        image = image.convert("RGB")
    recipe = Recipe("mdan_oasis4", cached_views=6, frozen_stages=3, min_crop_area=0.6)
    views = torch.stack(draw_views(image, SPEC, recipe, seed=1))
    assert views.shape == (6, 3, 64, 64)
    assert views.dtype == torch.uint8
    assert views[1].equal(views[0].flip(-1))
    assert views.equal(torch.stack(draw_views(image, SPEC, recipe, seed=1)))
    other = torch.stack(draw_views(image, SPEC, recipe, seed=2))
    assert other[0].equal(views[0])
    assert not other[2].equal(views[2])
