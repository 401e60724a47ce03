"""`mdan-zoo compare`: from the training to the table, an interruption, and wrong input."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from dataset_trees import write_fi
from PIL import Image

from mdan_zoo.cli.main import main
from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.datasets.splits import Split
from mdan_zoo.evaluation.metrics import paired_intervals
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.training.report import read_report

MODELS = "flat_fi8,mdan_fi8:dim=8:alpha=0.5"
FLAT, MDAN = "flat_fi8", "mdan_fi8_dim=8_alpha=0.5"


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A comparison of two systems on a small copy of FI, without models and output."""
    root = tmp_path_factory.mktemp("data")
    torch.manual_seed(0)
    weights = root / "resnet18.pth"
    torch.save(timm.create_model("resnet18").state_dict(), weights)
    given = ["compare", "FI", "--data", write_fi(root / "fi"), "--backbone-weights", weights]
    given += ["--backbone", "resnet18", "--size", 64, "--workers", 0]
    given += ["--set", "epochs=2", "--set", "batch_size=2", "--set", "lr=0.05"]
    return [str(word) for word in given]


@pytest.fixture(scope="module")
def output(command, tmp_path_factory):
    """The folder of the complete comparison; read-only."""
    folder = tmp_path_factory.mktemp("compared") / "out"
    assert main([*command, "--models", MODELS, "--output", str(folder)]) == 0
    return folder


def test_every_system_and_level_has_a_row(output):
    with (output / "comparison.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = [(name, level) for name in MODELS.split(",") for level in ("polarity", "emotion")]
    assert [(row["system"], row["level"]) for row in rows] == expected
    split = Split.load(output / "split.tsv")
    for row in rows:
        folder = output / f"{FLAT if row['system'] == 'flat_fi8' else MDAN}_seed0"
        assert row["split_sha256"] == split.sha256 == read_report(folder)["split_sha256"]
        assert (row["backbone"], row["seed"]) == ("resnet18", "0")
        assert row["input"] == "64 x 64 pixels, cropped after resizing to 73"
        assert row["recipe"] == "mdan_fi8, epochs=2, batch_size=2, lr=0.05"
        content = json.loads((folder / "test" / "evaluation.json").read_text(encoding="utf-8"))
        scores = {
            (score["level"], score["measure"]): score["value"]
            for score in content["scores"]
            if score["branch"] == "overall"
        }
        for measure in ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error"):
            assert float(row[measure]) == pytest.approx(scores[row["level"], measure], abs=1e-6)
        assert float(row["violation_rate"]) == pytest.approx(scores["", "violation_rate"])


def test_the_difference_is_paired_by_image(command, output):
    summary = json.loads((output / "comparison.json").read_text(encoding="utf-8"))
    flat, mdan = summary["systems"]
    assert (summary["control"], summary["images"], summary["seeds"]) == ("flat_fi8", 16, 1)
    stored = [
        np.load(output / f"{name}_seed0" / "test" / "probabilities.npz") for name in (FLAT, MDAN)
    ]
    right = [
        stored[0]["global_emotion"].argmax(axis=1) == stored[0]["labels_emotion"],
        (stored[1]["local_emotion"] + stored[1]["global_emotion"]).argmax(axis=1)
        == stored[1]["labels_emotion"],
    ]
    gain = right[1].astype(float) - right[0]
    found = mdan["levels"]["emotion"]["difference"]
    assert flat["levels"]["emotion"]["difference"] is None
    assert found["value"] == pytest.approx(gain.mean())
    data = Path(command[command.index("--data") + 1])
    samples = read_dataset("FI", data, get_hierarchy("mikels8"))
    groups = {sample.image.relative_to(data).as_posix(): sample.group for sample in samples}
    (ends,) = paired_intervals(gain[None], [groups[name] for name in stored[0]["images"]])
    assert (found["low"], found["high"]) == ends
    assert flat["levels"]["emotion"]["as_printed_in_the_paper"] == "66.16"
    assert mdan["levels"]["emotion"]["as_printed_in_the_paper"] == ""
    assert mdan["options"]["alpha"] == 0.5
    assert 0 < flat["gmacs"] < mdan["gmacs"]
    assert flat["parameters"] == 11_176_512 + 513 * 8


def test_the_table_and_the_figure_are_written(command, output):
    text = (output / "comparison.md").read_text(encoding="utf-8")
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert {line.count("|") for line in rows} == {header.count("|")}
    sha256 = Split.load(output / "split.tsv").sha256
    weights = Path(command[command.index("--backbone-weights") + 1])
    start = hashlib.sha256(weights.read_bytes()).hexdigest()
    for words in ("row of the paper", sha256, "resnet18", "64 x 64", "One seed", "66.16", start):
        assert words in text
    with Image.open(output / "comparison.png") as image:
        assert image.width > 800


def test_a_complete_comparison_is_not_trained_again(command, output, capsys):
    runs = sorted(output.glob("*/*"))
    before = [path.stat().st_mtime_ns for path in runs]
    written = {path: path.read_bytes() for path in output.glob("comparison.*")}
    assert main([*command, "--models", MODELS, "--output", str(output)]) == 0
    assert [path.stat().st_mtime_ns for path in runs] == before
    assert {path: path.read_bytes() for path in output.glob("comparison.*")} == written
    assert "run 1" not in capsys.readouterr().err
    other = [*command, "--set", "epochs=3", "--models", MODELS, "--output", str(output)]
    assert main(other) == 2
    assert "flat_fi8_seed0 was trained by" in capsys.readouterr().err


def test_the_speed_is_measured_again_with_another_number_of_threads(command, output, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(output, folder)
    known = json.loads((folder / f"{FLAT}_seed0" / "speed.json").read_text())
    assert known["predict_machine"].endswith((" thread", " threads"))
    for name, machine in ((FLAT, known["predict_machine"]), (MDAN, "cpu, 99 threads")):
        values = {"predict_images_per_second": 12345.0, "predict_machine": machine}
        (folder / f"{name}_seed0" / "speed.json").write_text(json.dumps(values))
    assert main([*command, "--models", MODELS, "--output", str(folder)]) == 0
    flat, mdan = json.loads((folder / "comparison.json").read_text())["systems"]
    assert (flat["predict_images_per_second"], flat["predict_machine"]) == (
        12345.0,
        known["predict_machine"],
    )
    assert mdan["predict_images_per_second"] != 12345.0
    assert mdan["predict_machine"] == known["predict_machine"]


def test_a_missing_file_of_a_test_is_reported_and_written_again(command, output, tmp_path, capsys):
    folder = tmp_path / "out"
    shutil.copytree(output, folder)
    run = folder / f"{MDAN}_seed0"
    (run / "test" / "probabilities.npz").unlink()
    given = [*command, "--models", MODELS, "--output", str(folder)]
    assert main(given) == 2
    message = f"probabilities.npz is missing; remove {run / 'training.json'} and repeat the command"
    assert message in capsys.readouterr().err
    (run / "training.json").unlink()
    assert main(given) == 0
    assert "which is complete" in capsys.readouterr().err
    assert (folder / "comparison.csv").read_bytes() == (output / "comparison.csv").read_bytes()


@pytest.fixture
def stopping():
    """Return a function that sends SIGTERM to this process once a file exists."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)  # outside training

    def stop_after(path):
        def wait():
            for _ in range(6000):
                if path.exists():
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                time.sleep(0.01)

        threading.Thread(target=wait, daemon=True).start()

    yield stop_after
    signal.signal(signal.SIGTERM, before)


def test_an_interrupted_comparison_resumes_with_equal_weights(
    command, output, stopping, tmp_path, capsys
):
    folder = tmp_path / "out"
    shutil.copytree(output, folder, ignore=shutil.ignore_patterns("comparison.*", "mdan_*"))
    given = [*command, "--models", MODELS, "--output", str(folder)]
    stopping(folder / f"{MDAN}_seed0" / "training_state.pt")  # after the first of two epochs
    assert main(given) == 128 + signal.SIGTERM
    messages = capsys.readouterr().err
    assert "run 2 of 2: mdan_fi8:dim=8:alpha=0.5, seed 0" in messages
    assert re.search(r"stopped after step \d+ of 8; run the same command to resume", messages)
    assert not (folder / "comparison.md").exists()
    assert main(given) == 0
    messages = capsys.readouterr().err
    assert "run 2 of 2: mdan_fi8:dim=8:alpha=0.5, seed 0" in messages
    assert re.search(r"resuming the training in .*, after step \d+, \d+ steps left", messages)
    path = f"{MDAN}_seed0/model.safetensors"
    assert (folder / path).read_bytes() == (output / path).read_bytes()
    assert (folder / "comparison.md").is_file()


@pytest.mark.slow
def test_a_killed_comparison_resumes_in_another_process(command, output, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(output, folder, ignore=shutil.ignore_patterns("comparison.*", "mdan_*"))
    given = [sys.executable, "-m", "mdan_zoo", *command, "--models", MODELS, "--output", folder]
    state = folder / f"{MDAN}_seed0" / "training_state.pt"
    with subprocess.Popen(given, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not state.exists():
            time.sleep(0.01)
        process.kill()  # after the first of two epochs
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (state.parent / "model.safetensors").exists()
    done = subprocess.run(given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"resuming the training in .*, after step 4, 4 steps left", done.stderr)
    path = f"{MDAN}_seed0/model.safetensors"
    assert (folder / path).read_bytes() == (output / path).read_bytes()


@pytest.mark.slow
def test_a_run_that_diverges_is_left_out(command, tmp_path, capsys):
    models = "flat_fi8:dropout=0.1,pdanet_fi8:polarity_weight=1e38"
    given = [*command, "--set", "epochs=1", "--models", models, "--output", str(tmp_path / "out")]
    assert main(given) == 1
    message = "not in the comparison: pdanet_fi8:polarity_weight=1e38, seed 0: "
    assert message in capsys.readouterr().err
    summary = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [system["system"] for system in summary["systems"]] == ["flat_fi8:dropout=0.1"]
    assert summary["not_complete"] == ["pdanet_fi8:polarity_weight=1e38, seed 0"]
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "Not complete: pdanet_fi8:polarity_weight=1e38, seed 0." in text


@pytest.mark.slow
def test_several_processes_compare(command, tmp_path):
    given = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m"]
    given += ["mdan_zoo", *command, "--set", "epochs=1", "--models", MODELS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*given, "--output", tmp_path / "out"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("run 2 of 2") == 1
    summary = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [system["system"] for system in summary["systems"]] == MODELS.split(",")


@pytest.mark.slow
def test_folds_are_pooled_and_seeds_summarised(command, tmp_path):
    given = [*command, "--set", "epochs=1", "--set", "split=5-fold", "--seeds", "2"]
    given += ["--models", "flat_fi8", "--output", str(tmp_path / "out")]
    assert main(given) == 0
    summary = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    (flat,) = summary["systems"]
    assert (summary["images"], flat["seeds"]) == (24, [0, 1])
    accuracy = flat["levels"]["emotion"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(np.mean(accuracy["by_seed"]))
    assert accuracy["sd"] == pytest.approx(np.std(accuracy["by_seed"], ddof=1))
    assert all(value * 24 == pytest.approx(round(value * 24)) for value in accuracy["by_seed"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give the systems to compare with --models or --preset"),
        (["--models", "flat_fi8", "--option", "dropout"], "an option has the form NAME=VALUE"),
        (
            ["--models", "mdan_fi8", "--option", "dim=8", "--option", "dim=4"],
            "an option is given twice: --option dim=8 --option dim=4",
        ),
        (["--models", "flat_fi8", "--set", "epoch=3"], "a recipe has no field 'epoch'"),
        (["--models", "mdan_fi8:heads=3,4,8"], "heads must divide the numbers of positions"),
        (["--models", "flat_fi8", "--seeds", "0"], "seeds must be at least 1, not 0"),
    ],
)
def test_wrong_input_is_refused_before_any_work(words, message, command, tmp_path, capsys):
    assert main([*command, *words, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
