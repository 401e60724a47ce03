"""Averages over the views of an image, compared with averages computed by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny_model
import torch
from PIL import Image, ImageOps
from predictions import assert_close, flattened, one_by_one
from random_weights import save_random_weights
from safetensors import safe_open
from safetensors.torch import save_file

import mdan_zoo
from mdan_zoo.errors import ImageError, InputError
from mdan_zoo.inference.prediction import VIEWS
from mdan_zoo.inference.predictor import Predictor, _shared_predictor
from mdan_zoo.inference.views import split_views
from mdan_zoo.models.dimensions import Dimension

RATED = dataclasses.replace(tiny_model.CONFIG, dimensions=(Dimension("valence", 1, 7),))


@pytest.fixture(scope="module", params=["mdan", "flat"])
def weights(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / f"{request.param}.safetensors"
    own = {} if request.param == "mdan" else {"architecture": "flat", "options": None}
    save_random_weights(path, config=dataclasses.replace(RATED, **own))
    return path


@pytest.fixture(scope="module")
def single(weights) -> Predictor:
    return Predictor(checkpoint=weights, device="cpu")


@pytest.fixture(scope="module", params=[views for views in VIEWS if views != "single"])
def several(request, weights) -> Predictor:
    return Predictor(checkpoint=weights, device="cpu", views=request.param)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Three images of 120 x 88 pixels, whose quarters differ."""
    generator = np.random.default_rng(4)
    coarse = [generator.integers(0, 256, (5, 7, 3), np.uint8) for _ in range(3)]
    return [Image.fromarray(c).resize((120, 88), Image.Resampling.BICUBIC) for c in coarse]


def values_of(predictor, image) -> np.ndarray:
    """Return all probabilities, the rating and the features of an image."""
    prediction = predictor.predict(image)
    ratings = [rating.value for rating in prediction.dimensions]
    return np.concatenate([flattened(prediction), ratings, predictor.embed(image).numpy()])


def averaged_by_hand(predictor, image, views) -> np.ndarray:
    boxes = [(x, y, x + 60, y + 44) for y in (0, 22, 44) for x in (0, 30, 60)]
    regions = [image, *map(image.crop, boxes)] if "crops" in views else [image]
    values, confidence = [], []
    for region in regions:
        shown = [region, ImageOps.mirror(region)] if "flip" in views else [region]
        values.append(np.mean([values_of(predictor, view) for view in shown], axis=0))
        finest = [predictor.predict(view).probabilities["overall"][-1] for view in shown]
        confidence.append(np.mean(finest, axis=0).max())
    if len(regions) == 1:
        return values[0]
    best = np.argsort(confidence[1:])[-5:]
    return 0.5 * values[0] + 0.5 * np.mean([values[1 + crop] for crop in best], axis=0)


def test_averages_equal_those_computed_by_hand(several, single, images):
    for image in images[:2]:
        expected = averaged_by_hand(single, image, several.views)
        np.testing.assert_allclose(values_of(several, image), expected, atol=2e-5)
        assert abs(expected - values_of(single, image)).max() > 0.01, "the views are alike"


def test_by_default_nothing_is_averaged(single, images):
    assert single.views == "single"
    (expected,) = single.to_predictions(
        [single.predict(images[0]).image], single.forward(images[:1])
    )
    assert single.predict(images[0]) == expected  # exactly


def test_averages_have_the_structure_of_the_networks_probabilities(several, images):
    prediction, alpha = several.predict(images[0]), several.network.alpha
    coarse, fine = prediction.probabilities["global"]
    sums = np.zeros(len(coarse))
    np.add.at(sums, list(several.hierarchy.parent_indices[0]), fine)
    np.testing.assert_allclose(coarse, sums, atol=1e-6)
    for level, overall in enumerate(prediction.probabilities["overall"]):
        assert sum(overall) == pytest.approx(1, abs=1e-6)
        by_global = np.array(prediction.probabilities["global"][level])
        if alpha is None:
            assert overall == tuple(by_global)
        else:
            by_local = np.array(prediction.probabilities["local"][level])
            fused = alpha * by_local + (1 - alpha) * by_global
            np.testing.assert_allclose(overall, fused, atol=1e-6)


def test_batches_do_not_change_the_prediction(several, images):
    expected = one_by_one(several, images[:2])
    duplicated = [images[0], images[1], images[0]]
    assert_close(list(several.stream(duplicated, batch_size=2)), [*expected, expected[0]])
    assert_close(list(several.stream(duplicated, batch_size=3)), [*expected, expected[0]])


def test_mixed_precision(weights, images):
    exact, mixed = (
        Predictor(checkpoint=weights, device="cpu", dtype=dtype, views="flip")
        for dtype in ("float32", "bfloat16")
    )
    assert_close([mixed.predict(images[0])], [exact.predict(images[0])], tolerance=0.1)
    assert mixed.embed(images[0]).dtype == torch.float32


def test_the_branch_does_not_choose_the_crops(weights, images):
    by_branch = [
        Predictor(checkpoint=weights, device="cpu", views="crops", branch=branch).predict(images[1])
        for branch in ("overall", "global")
    ]
    assert by_branch[0].of("global") == by_branch[1]


def test_an_unreadable_image_does_not_stop_the_others(weights, images):
    predictor = Predictor(checkpoint=weights, device="cpu", views="flip")
    first, bad, last = predictor.stream([images[0], b"", images[1]], batch_size=3)
    assert (bad.error, bad.path) == ("it is empty", ())
    assert_close([first, last], predictor.predict(images[:2]))
    with pytest.raises(ImageError, match="it is empty"):
        predictor.predict(b"")


def test_values_that_overflow_are_an_error(weights, images, tmp_path):
    with safe_open(weights, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors["global_classifier.weight"].fill_(3e38)
    save_file(tensors, tmp_path / "huge.safetensors", metadata)
    huge = Predictor(checkpoint=tmp_path / "huge.safetensors", device="cpu", views="crops")
    with pytest.raises(InputError, match="the network's values overflow in float32"):
        huge.predict(images[0])


# The grid of crops


@pytest.mark.parametrize("size", [(90, 71), (31, 33), (3, 2), (1, 1), (1, 900)])
def test_crops_have_half_the_sides_and_reach_all_edges(size):
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), np.uint8))
    whole, *crops = split_views(image, "crops")
    assert whole is image
    assert {crop.size for crop in crops} == {tuple((side + 1) // 2 for side in size)}
    width, height = crops[0].size
    corners = {0: (0, 0), 2: (size[0] - width, 0), 8: (size[0] - width, size[1] - height)}
    for number, (left, top) in corners.items():
        assert crops[number] == image.crop((left, top, left + width, top + height))
    mirrored = list(split_views(image, "flip+crops"))
    assert mirrored[::2] == [whole, *crops]
    assert mirrored[1::2] == [ImageOps.mirror(view) for view in (whole, *crops)]


@pytest.mark.parametrize("views", VIEWS)
def test_number_of_views(views):
    assert len(list(split_views(Image.new("RGB", (8, 6)), views))) == VIEWS[views]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (2, 100_000)])
def test_images_of_any_shape(weights, size):
    predictor = Predictor(checkpoint=weights, device="cpu", views="flip+crops")
    assert predictor.predict(Image.new("RGB", size, "red")).error is None


# Options


@pytest.mark.parametrize("views", ["mirror", "crops+flip", "", ["flip"], None, True])
def test_views_that_do_not_exist_are_refused(weights, views):
    known = r"'single', 'flip', 'crops', 'flip\+crops'"
    with pytest.raises(InputError, match=f"views must be one of {known}, not ") as caught:
        Predictor(checkpoint=weights, views=views)
    assert str(caught.value).endswith(repr(views))
    with pytest.raises(InputError, match=f"views must be one of {known}, not "):
        mdan_zoo.predict("photo.jpg", views=views)


def test_the_short_way_has_views_and_loads_one_network(images):
    _shared_predictor.cache_clear()
    plain = mdan_zoo.predict(images[0])
    flipped = mdan_zoo.predict(images[0], views="flip")
    assert _shared_predictor.cache_info().misses == 1
    assert mdan_zoo.predict(images[0]) == plain  # the views of one call are not those of the next
    assert flipped == Predictor(device="cpu", views="flip").predict(images[0])
    assert flipped != plain


def test_maps_need_a_single_view(several, images):
    with pytest.raises(InputError, match=r"has views='[a-z+]+'; explain needs views='single'"):
        mdan_zoo.explain(images[0], model=several)
