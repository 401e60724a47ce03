"""Several images: lists, and streams that are read ahead of the network."""

from __future__ import annotations

import io
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from predictions import assert_close, one_by_one

from mdan_zoo._util.read_ahead import batches_ahead
from mdan_zoo.errors import (
    ImageError,
    InputError,
)


@pytest.fixture(scope="module")
def singly(predictor, photos):
    """The predictions of the photos, one at a time."""
    return one_by_one(predictor, photos)


def test_a_list_equals_its_images_one_by_one(predictor, photos, singly):
    assert_close(predictor.predict(photos), singly)
    assert_close(predictor.predict(tuple(photos)), singly)
    assert predictor.predict([]) == []


def test_a_bad_image_in_a_list_raises(predictor, photos):
    with pytest.raises(ImageError, match="3 bytes: ") as caught:
        predictor.predict([photos[0], b"abc", photos[1]])
    assert not isinstance(caught.value.__cause__, AssertionError)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 1), (2, 4), (3, 1), (7, 3), (100, 2)])
def test_stream_keeps_the_order(predictor, photos, singly, batch_size, workers):
    stream = predictor.stream(iter(photos), batch_size=batch_size, workers=workers)
    assert_close(list(stream), singly)


def test_stream_goes_on_after_bad_images(predictor, photos, singly):
    bad = [b"", "absent.png"]
    given = [bad[0], photos[0], bad[1], bad[0], photos[1]]
    predictions = list(predictor.stream(given, batch_size=2))
    assert_close([predictions[1], predictions[4]], singly[:2])
    assert [p.error for p in predictions if p.error] == [
        "it is empty",
        "No such file or directory",
        "it is empty",
    ]
    assert predictions[2].to_dict() == {
        "image": "absent.png",
        "model": "mdan_oasis4",
        "path": [],
        "levels": [],
        "error": "No such file or directory",
    }


def test_batches_are_full_but_the_last():
    batches = batches_ahead(str, range(7), batch_size=3, workers=2)
    assert list(batches) == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


def test_a_single_image_needs_no_thread():
    (found,) = batches_ahead(lambda _: threading.current_thread(), [1], batch_size=8, workers=2)
    assert found == [threading.current_thread()]


def test_stream_without_images(predictor):
    assert list(predictor.stream([])) == []


def test_stream_reads_an_endless_iterable_a_bounded_distance_ahead(predictor, photos):
    read = 0

    def endless():
        nonlocal read
        for photo in itertools.cycle(photos):
            read += 1
            yield photo

    stream = predictor.stream(endless(), batch_size=3)
    assert read == 0
    for given in range(1, 14):
        assert next(stream).error is None
        assert given < read <= given + 2 * 3
    stream.close()


def worker_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("mdan_zoo_")]


def test_threads_end_when_the_consumer_stops(predictor, photos):
    images = itertools.cycle(photos)
    stream = predictor.stream(images, batch_size=2, workers=3)
    next(stream)
    assert worker_threads()
    stream.close()
    assert not worker_threads()
    assert next(images)


def test_stopping_leaves_the_callers_generator_open(predictor, photos):
    generator = (photo for photo in photos)
    stream = predictor.stream(generator, batch_size=1)
    next(stream)
    stream.close()
    assert next(generator) in photos


def test_an_error_of_the_iterable_comes_after_the_images_before_it(predictor, photos, singly):
    def breaking():
        yield from photos[:5]
        raise KeyError("the list is broken")

    stream = predictor.stream(breaking(), batch_size=2)
    assert_close(list(itertools.islice(stream, 5)), singly[:5])
    with pytest.raises(KeyError, match="the list is broken"):
        next(stream)
    assert not worker_threads()


def test_threads_end_after_a_bad_image_in_a_list(predictor, photos):
    with pytest.raises(ImageError):
        predictor.predict([b"abc", *photos])
    assert not worker_threads()


@pytest.mark.parametrize(
    "single",
    [
        "photo.jpg",
        Path("photo.jpg"),
        b"abc",
        io.BytesIO(b"abc"),
        Image.new("RGB", (2, 2)),
        np.zeros((4, 4, 3), np.uint8),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        7,
    ],
    ids=lambda single: type(single).__name__,
)
def test_stream_refuses_a_single_image(predictor, single):
    with pytest.raises(InputError, match="stream needs an iterable of images, not a single one"):
        predictor.stream(single)


def test_stream_takes_an_array_of_paths(predictor, photos, singly):
    assert_close(list(predictor.stream(np.array([str(photo) for photo in photos]))), singly)


@pytest.mark.parametrize("argument", ["batch_size", "workers"])
def test_stream_refuses_numbers_below_one(predictor, argument):
    with pytest.raises(InputError, match=f"{argument} must be at least 1, not 0"):
        predictor.stream([], **{argument: 0})


@pytest.mark.parametrize("argument", ["batch_size", "workers"])
@pytest.mark.parametrize("value", [True, 2.5, "3", float("nan")])
def test_stream_refuses_what_is_no_int(predictor, argument, value):
    with pytest.raises(InputError, match=f"{argument} must be an int, not {value!r}"):
        predictor.stream([], **{argument: value})


def test_threads_can_share_a_predictor(predictor, photos, singly):
    with ThreadPoolExecutor(4) as pool:
        assert_close(list(pool.map(predictor.predict, photos)), singly)
