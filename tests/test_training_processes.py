"""Trainings of several processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tiny_model import OWN_TREE, write_own_data, write_tiny_model

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
SECONDS = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


SCRIPT = """
import sys
from pathlib import Path
from accelerate import PartialState
from mdan_zoo import Hierarchy
from mdan_zoo.errors import MdanZooError
from mdan_zoo.training import Machine, Plan, fine_tuning_recipe, train

model, data, tree, output = map(Path, sys.argv[1:])
recipe = fine_tuning_recipe(str(model), ["epochs=1", "batch_size=8"])
for name in ("first", "second", "third"):
    own_tree, machine = Hierarchy.load(tree), Machine(workers=0)
    plan = Plan(recipe, data, output / name, hierarchy=own_tree, machine=machine)
    if name == "second" and PartialState().is_main_process:
        plan.output.mkdir(exist_ok=True)
        (plan.output / "test").write_text("where the report is to be written")
    if name == "third" and PartialState().is_main_process:
        (data / "calm" / "3.jpg").write_bytes(b"no picture")
    try:
        told = str(train(plan).exists())
    except MdanZooError as error:
        told = f"{type(error).__name__}: {error}"
    Path(output / f"{name}{PartialState().process_index}").write_text(told)
"""


def test_all_processes_wait_for_what_the_main_one_does_alone(model, tmp_path):
    """The file is there for all when the training returns, and an error ends it for all."""
    OWN_TREE.save(tmp_path / "tree.toml")
    data = write_own_data(tmp_path / "data")
    (tmp_path / "script.py").write_text(SCRIPT)
    given = (tmp_path / "script.py", model, data, tmp_path / "tree.toml", tmp_path)
    done = subprocess.run(
        [*TORCHRUN, "--nproc_per_node", "2", *map(str, given)],
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
    assert (
        second[1]
        == "TrainingError: the main process could not go on: " + second[0].split(": ", 1)[1]
    )
    assert third[0] == third[1]
    assert third[0].startswith("ImageError: 1 of 24 pictures cannot be read: ")
