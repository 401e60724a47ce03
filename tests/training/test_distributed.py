"""Trainings of several processes, as they are started on one machine and on two."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny_model import OWN_TREE, write_own_data

from mdan_zoo.cli.main import main
from mdan_zoo.training import TrainingConfig, distributed
from mdan_zoo.training.recipe import Recipe

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
SECONDS = 300


@pytest.fixture
def arguments(model, data, tmp_path):
    """Return the arguments of `mdan-zoo` for a training with frozen statistics of BatchNorm."""
    OWN_TREE.save(tmp_path / "tree.toml")

    def arguments(output, *views):
        options = ("--data", data, "--hierarchy", tmp_path / "tree.toml", "--output", output)
        fields = ("epochs=2", "batch_size=8", "freeze_bn=true", *views)
        changes = [part for field in fields for part in ("--set", field)]
        return [str(a) for a in ("train", "--init", model, *options, "--workers", 0, *changes)]

    return arguments


def distance(folder, other):
    one, two = (load_file(path / "model.safetensors") for path in (folder, other))
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes, not the CPU")
@pytest.mark.parametrize(
    ("flags", "precision", "warns"),
    [("avx2 avx512f", "bf16", True), ("avx512f amx_bf16", "bf16", False), ("avx2", "no", False)],
)
def test_bf16_on_a_cpu_without_it_is_called_slow(
    flags, precision, warns, tmp_path, monkeypatch, caplog
):
    (tmp_path / "cpuinfo").write_text(f"model name\t: a CPU\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(distributed, "_CPU_INFO", tmp_path / "cpuinfo")
    config = TrainingConfig(Recipe("mdan_fi8"), tmp_path, tmp_path, precision=precision)
    distributed.warn_slow_precision(config)
    assert ("this CPU has no bf16 instructions" in caplog.text) is warns


SCRIPT = """
import sys
from pathlib import Path
from accelerate import PartialState
from mdan_zoo import Hierarchy
from mdan_zoo.errors import MdanZooError
from mdan_zoo.training import TrainingConfig, fine_tuning_recipe, train
from mdan_zoo.training.distributed import disconnect

model, data, tree, output = map(Path, sys.argv[1:])
recipe = fine_tuning_recipe(str(model), ["epochs=1", "batch_size=8"])
for name in ("first", "second", "third"):
    own_tree, machine = Hierarchy.load(tree), {"workers": 0}
    plan = TrainingConfig(recipe, data, output / name, hierarchy=own_tree, **machine)
    if name == "second" and PartialState().is_main_process:
        plan.output.mkdir(exist_ok=True)
        (plan.output / "test").write_text("where the report is to be written")
    if name == "third" and PartialState().is_main_process:
        (data / "calm" / "3.jpg").write_bytes(b"no image")
    try:
        told = str(train(plan).exists())
    except MdanZooError as error:
        told = f"{type(error).__name__}: {error}"
    Path(output / f"{name}{PartialState().process_index}").write_text(told)
disconnect()
"""


@pytest.mark.slow
def test_all_processes_wait_for_what_the_main_one_does_alone(model, tmp_path):
    """The file is there for all when the training returns, and an error ends it for all."""
    OWN_TREE.save(tmp_path / "tree.toml")
    data = write_own_data(tmp_path / "data")
    (tmp_path / "script.py").write_text(SCRIPT)
    given = (tmp_path / "script.py", model, data, tmp_path / "tree.toml", tmp_path)
    done = subprocess.run(
        [*TORCHRUN, "--standalone", "--nproc_per_node", "2", *map(str, given)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    first, second, third = (
        [(tmp_path / f"{name}{rank}").read_text() for rank in (0, 1)]
        for name in ("first", "second", "third")
    )
    assert first == ["True", "True"]
    assert second[1] == "TrainingError: the main process failed: " + second[0].split(": ", 1)[1]
    assert third[0] == third[1]
    assert third[0].startswith("ImageError: 1 of 24 images cannot be read: ")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("stages", ["", "coarse,fine"])
def test_two_machines_learn_what_one_does(stages, arguments, tmp_path):
    """Two launchers that find each other stand for them."""
    assert main(arguments(tmp_path / "one" / "run", f"stages={stages}")) == 0
    place = f"127.0.0.1:{free_port()}"
    meeting = ("--rdzv_backend", "c10d", "--rdzv_id", "x", "--rdzv_endpoint", place)
    start = [*TORCHRUN, "--nnodes", "2", "--nproc_per_node", "1", *meeting, "-m", "mdan_zoo"]
    start += arguments(tmp_path / "two" / "run", f"stages={stages}")
    pipe = subprocess.PIPE
    launchers = [
        subprocess.Popen(start, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)
        for _ in range(2)
    ]
    for launcher in launchers:
        _, told = launcher.communicate(timeout=SECONDS)
        assert launcher.returncode == 0, told
    report = json.loads((tmp_path / "two" / "run" / "training.json").read_text())
    assert report["machine"]["processes"] == 2
    assert distance(tmp_path / "one" / "run", tmp_path / "two" / "run") < 1e-6


@pytest.mark.slow
def test_accelerate_starts_two_processes_on_a_cpu(arguments, tmp_path):
    """Its name for it is --multi_gpu; without, it takes one process and does not say so.

    Both read the maps that the main one has cached.
    """
    views = ("cached_views=2", "frozen_stages=3", "min_crop_area=0.6")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launch += ["--num_processes", "2", "--main_process_port", str(free_port())]
    done = subprocess.run(
        [*launch, "-m", "mdan_zoo", *arguments(tmp_path / "run", *views)],
        env={**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "training.json").read_text())
    assert report["machine"]["processes"] == 2
    assert done.stderr.count("caching the feature maps") == 1
