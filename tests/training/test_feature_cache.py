"""Cached feature maps: the file that they are in, and what happens where it cannot be written."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from tiny_model import CONFIG, OWN_TREE, write_own_data

from mdan_zoo.backbones.pyramid import stages_after
from mdan_zoo.errors import InputError, TrainingError
from mdan_zoo.images.load import load_image
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.training import TrainingConfig, prepare, train
from mdan_zoo.training.losses import TrainingStep
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.weights.checkpoint import save_checkpoint
from mdan_zoo.zoo.factory import build_network

VIEWS = {"cached_views": 2, "frozen_stages": 3, "min_crop_area": 0.6}
BYTES = (128 * 8 * 8 + 256 * 4 * 4) * 2
"""Size of C3 and C4 of a view in float16."""


def plan(model, data, output, cache=None, **changes):
    values = {"batch_size": 8, "epochs": 1, "split": "all", **VIEWS, **changes}
    recipe = Recipe("mdan_fi8", init=str(model), **values)
    return TrainingConfig(recipe, data, output, hierarchy=OWN_TREE, workers=0, cache=cache)


def file_of(folder):
    (file,) = folder.glob("feature_cache-*.bin")
    return file


@pytest.mark.slow
def test_the_file_has_the_maps_of_the_training_images_only(model, data, tmp_path):
    whole = prepare(plan(model, data, tmp_path / "whole")).data
    assert file_of(tmp_path / "whole").stat().st_size == 24 * 2 * BYTES
    run = prepare(plan(model, data, tmp_path / "run", split="80/20"))
    trained = set(range(24)) - {
        n
        for n, s in enumerate(run.samples)
        if s.image.relative_to(data).as_posix() in run.sources[0].split.images("test")
    }
    assert set(run.data.rows) == trained
    assert file_of(tmp_path / "run").stat().st_size == len(trained) * 2 * BYTES
    for index in trained:
        for epoch in range(3):
            (maps, _), (expected, _) = run.data[epoch, index], whole[epoch, index]
            assert all(one.equal(other) for one, other in zip(maps, expected, strict=True))


@pytest.mark.slow
def test_the_maps_are_those_of_the_backbone(model, data, tmp_path):
    run = prepare(plan(model, data, tmp_path / "run"))
    network = run.network(0).eval()
    preprocessing = Preprocessing(run.model.input)
    plain = preprocessing.crop(load_image(run.samples[5].image))[None]
    with torch.inference_mode():
        expected = network.backbone(preprocessing.normalise(plain))
    for found, stage in zip(run.data.maps[1:3], expected[1:3], strict=True):
        torch.testing.assert_close(found[0, 5].float(), stage[0], rtol=1e-3, atol=1e-3)
    assert not run.data.maps[0].numel(), "the network does not read C2"
    assert not run.data.maps[3].numel(), "the last stage is trained"


def test_views_have_the_training_size(model, data, tmp_path):
    run = prepare(plan(model, data, tmp_path / "run", train_size=32))
    assert [maps.shape[-1] for maps in run.data.maps[1:3]] == [4, 2]
    assert run.model.input.crop == 64


@pytest.mark.parametrize("frozen", [1, 2, 3, 4])
def test_the_loss_on_cached_maps_is_that_on_images(frozen, model, data, tmp_path):
    run = prepare(plan(model, data, tmp_path / "run", frozen_stages=frozen))
    network = run.network(0).eval()
    preprocessing = Preprocessing(run.model.input)
    step = TrainingStep(network, preprocessing, run.config.recipe)
    image = preprocessing.crop(load_image(run.samples[5].image))[None]
    targets = [level[5:6] for level in run.targets]
    cached = step([maps[:1, 5] if maps.numel() else maps for maps in run.data.maps], targets, None)
    expected = step(image, targets, None)
    torch.testing.assert_close(cached, expected, rtol=1e-3, atol=1e-3)
    network.zero_grad()
    cached.backward()
    trained = stages_after(network.backbone, frozen) if frozen < 4 else torch.nn.Identity()
    reached = {id(p) for p in network.backbone.parameters() if p.grad is not None}
    assert reached == {id(parameter) for parameter in trained.parameters()}


CACHING = """
import sys
from pathlib import Path
from mdan_zoo import Hierarchy
from mdan_zoo.training import TrainingConfig, feature_cache, prepare
from mdan_zoo.training.recipe import Recipe

model, data, tree, output = map(Path, sys.argv[1:])
views = dict(cached_views=12, frozen_stages=3, min_crop_area=0.6)
recipe = Recipe("mdan_fi8", init=str(model), batch_size=8, split="all", **views)
feature_cache._CHUNK = 1
prepare(TrainingConfig(recipe, data, output, hierarchy=Hierarchy.load(tree), workers=0))
"""


@pytest.mark.slow
def test_a_killed_process_is_continued_where_it_stopped(model, data, tree, tmp_path):
    def start(output):
        command = [sys.executable, "-c", CACHING, model, data, tree, output]
        return subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    _, told = (process := start(undisturbed)).communicate()
    assert process.returncode == 0, told
    process = start(killed)
    while not list(killed.glob("*.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with file_of(killed).open("ab") as file:
        file.write(b"a record that was written in part")
    _, told = (process := start(killed)).communicate()
    assert process.returncode == 0, told
    complete = int(told.split(" images complete")[0].split()[-1])
    assert 1 <= complete < 24
    assert file_of(killed).name == file_of(undisturbed).name
    size = 24 * 12 * BYTES
    assert file_of(killed).read_bytes()[:size] == file_of(undisturbed).read_bytes()[:size]


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_file_completed_later(model, data, tmp_path, monkeypatch):
    """The limit of a process on file sizes stands for the disk."""
    monkeypatch.setattr("mdan_zoo.training.feature_cache._CHUNK", 1)
    given = plan(model, data, tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * 2 * BYTES + 1, before[1]))
    try:
        with pytest.raises(
            TrainingError, match=r"2 views of 24 images in .*too large.*same command continues"
        ):
            prepare(given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file_of(tmp_path / "run").with_suffix(".json").read_text() == '{"images": 10}'
    completed = prepare(given).data.maps
    expected = prepare(plan(model, data, tmp_path / "other")).data.maps
    assert all(one.equal(other) for one, other in zip(completed, expected, strict=True))


def test_a_disk_that_is_too_small_is_reported_before_the_work(model, data, tmp_path):
    needed = 24 * 10**9 * BYTES / 1e9
    told = rf"images in .*run.* need {needed:.2f} GB of disk space, and [\d.]+ GB are free"
    with pytest.raises(InputError, match=told):
        prepare(plan(model, data, tmp_path / "run", cached_views=10**9))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "[]"])
def test_a_damaged_progress_file_starts_over(content, model, data, tmp_path):
    expected = prepare(plan(model, data, tmp_path / "run")).data.maps[2].clone()
    file = file_of(tmp_path / "run")
    file.write_bytes(bytes(file.stat().st_size))
    file.with_suffix(".json").write_text(content)
    assert prepare(plan(model, data, tmp_path / "run")).data.maps[2].equal(expected)


@pytest.mark.slow
def test_other_images_views_and_weights_have_files_of_their_own(model, tmp_path):
    data = write_own_data(tmp_path / "data")
    cache = tmp_path / "cache"
    cache.mkdir()

    def names(start=model, **changes):
        prepare(plan(start, data, tmp_path / "run", cache, **changes))
        return {file.name for file in cache.glob("*.bin")}

    first = names()
    assert names(lr=0.5, epochs=2, batch_size=4) == first
    found = [first, names(seed=1), names(cached_views=3), names(min_crop_area=0.5)]
    torch.manual_seed(12)
    save_checkpoint(tmp_path / "other.safetensors", build_network(CONFIG), CONFIG)
    found.append(names(tmp_path / "other.safetensors"))
    (data / "awe" / "0.jpg").write_bytes((data / "calm" / "0.jpg").read_bytes() + b".")
    found.append(names())
    assert [len(files) for files in found] == [1, 2, 3, 4, 5, 6]
    moved = data.rename(tmp_path / "moved")
    prepare(plan(model, moved, tmp_path / "run", cache))
    assert len(list(cache.glob("*.bin"))) == 6, "the folder of the dataset may change"


@pytest.mark.slow
def test_the_file_is_removed_after_training_unless_it_is_in_the_cache(
    model, data, tmp_path, capsys
):
    (tmp_path / "cache").mkdir()
    kept = train(plan(model, data, tmp_path / "run", tmp_path / "cache"))
    before = file_of(tmp_path / "cache").stat().st_mtime_ns
    assert "caching the feature maps of 2 views of 24 images" in capsys.readouterr().err
    again = train(plan(model, data, tmp_path / "again" / "run", tmp_path / "cache"))
    assert "reusing the feature maps of 2 views of 24 images" in capsys.readouterr().err
    assert file_of(tmp_path / "cache").stat().st_mtime_ns == before
    assert not list((tmp_path / "run").glob("feature_cache*"))
    removed = train(plan(model, data, tmp_path / "output" / "run"))
    assert not list(removed.parent.glob("feature_cache*"))
    assert kept.read_bytes() == again.read_bytes() == removed.read_bytes()


def test_maps_are_read_from_the_file_when_they_are_needed(model, data, tmp_path):
    """A memory-mapped file needs no memory of its own."""
    maps = prepare(plan(model, data, tmp_path / "run")).data.maps
    records = np.memmap(file_of(tmp_path / "run"), "<f2", "r+")
    records[: 128 * 8 * 8] = 7
    assert maps[1][0, 0].eq(7).all()
