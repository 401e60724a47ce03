"""The benchmark of training runs; what it measures on this machine does not matter here."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import training_tables  # noqa: E402 - the folder is no package
import training_throughput  # noqa: E402
from training_bench import Bench, InputTrainer, Job, StepTrainer, Turn, build, config_of  # noqa: E402
from training_images import synthetic, write_images  # noqa: E402

SMALL = "--models mdan_fi8 --input-of mdan_fi8 --backbone resnet18 --size 64 --batch 2"
QUICK = f"{SMALL} --images 3 --image-sizes 200x160 --steps 1 --repeats 2 --threads 1"
STEP = Job("mdan_fi8", "resnet18", "fast", 64, 2, "cpu", 1, "no", False, False, "step")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "photos"
    path.mkdir()
    for number in range(4):
        synthetic((90, 60), number).save(path / f"{number}.png")
    return path


@pytest.fixture
def bench(folder, tmp_path):
    return Bench(write_images(folder, [(300, 240)], 4, tmp_path), tmp_path, steps=2)


def reading(measured: str, decoding: str = "draft", workers: int = 0) -> Job:
    name = "photos, resampled to 300 x 240"
    return dataclasses.replace(
        STEP, measured=measured, images=name, decoding=decoding, workers=workers
    )


def run_benchmark(code: str) -> subprocess.CompletedProcess[str]:
    """Run code with the benchmark imported, as one process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", f"import training_throughput\n{code}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- the whole script


@pytest.mark.slow
def test_every_job_has_a_row(folder, tmp_path):
    output = tmp_path / "rows.csv"
    options = f"{QUICK} --naive --workers 1 --decoding draft cache --data {folder}"
    code = f"training_throughput.main({[*options.split(), '--output', str(output)]})"
    run = run_benchmark(code)
    assert run.returncode == 0, run.stderr
    assert str(output) in run.stdout

    rows = rows_of(output)
    assert [(row["network"], row["measured"]) for row in rows[:2]] == [
        ("fast", "step"),
        ("naive", "step"),
    ]
    assert [(row["decoding"], row["workers"], row["measured"]) for row in rows[2:]] == [
        (decoding, "1", measured)
        for decoding in ("draft", "cache")
        for measured in ("input", "training")
    ]
    for row in rows:
        assert (row["status"], row["repeats"], row["peak_bytes"]) == ("measured", "2", "")
        assert (row["backbone"], row["size"], row["batch"]) == ("resnet18", "64", "2")
        q1, median, q3 = (float(row[f"seconds_{name}"]) for name in ("q1", "median", "q3"))
        assert 0 < q1 <= median <= q3
        assert float(row["images_per_second"]) == pytest.approx(2 / median, rel=0.01)
        assert bool(row["loss_to_input_percent"]) == (row["measured"] == "training")
        assert bool(row["images"]) == (row["measured"] != "step")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_refused_memory_becomes_a_row(tmp_path):
    """The first run loads all that a run needs; the first map of the second is above the limit."""
    output = tmp_path / "rows.csv"
    options = f"{QUICK} --naive --output {output}".replace("--input-of mdan_fi8", "--input-of")
    code = f"""
import re, resource
training_throughput.main({options.split()})
taken = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (taken + 600 * 10**6,) * 2)
print("second run")
training_throughput.main({[*options.split(), "--size", "2048", "--batch", "4"]})
"""
    run = run_benchmark(code)
    assert run.returncode == 0, run.stderr
    rows = rows_of(output)
    assert [row["network"] for row in rows] == ["fast", "naive"]
    for row in rows:
        assert (row["status"], row["repeats"], row["seconds_median"]) == ("out of memory", "0", "")
    turns = run.stdout.partition("second run")[2]
    assert turns.count("out of memory") == 2, "a job has no turn after memory was refused"


@pytest.mark.slow
def test_no_turn_begins_after_the_limit(bench):
    turns = defaultdict(list)
    taken = training_throughput.take_turns(bench, [STEP], turns, repeats=2, deadline=0)
    assert list(taken) == []
    taken = training_throughput.take_turns(bench, [STEP], turns, repeats=2, deadline=math.inf)
    assert list(taken) == [STEP, STEP]
    assert len(turns[STEP]) == 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--size 100", "multiple of 32 from 64 on, not 100"),
        ("--image-sizes 10x0", "such as 1024x768, not '10x0'"),
        ("--image-sizes own", "goes with --data"),
        ("--models mdan_fi9", "mdan_fi8"),
    ],
)
def test_bad_options_are_refused(option, message, capsys):
    with pytest.raises(SystemExit):
        training_throughput.parse(option.split())
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_gpu_that_does_not_exist_is_reported(capsys):
    with pytest.raises(SystemExit):
        training_throughput.parse(["--device", "cuda"])
    assert "cuda" in capsys.readouterr().err


def test_compiled_steps_come_after_the_others_the_fast_ones_first():
    options = ["--models", "mdan_webemo25", "mdan_fi8", "--naive", "--compile", "--input-of"]
    given = training_throughput.parse(options)
    found = [
        [(job.model, job.network, job.compiled) for job in group]
        for group in training_throughput.groups(given, [])
    ]
    assert found == [
        [("mdan_webemo25", "fast", False), ("mdan_webemo25", "naive", False)],
        [("mdan_fi8", "fast", False), ("mdan_fi8", "naive", False)],
        [("mdan_webemo25", "fast", True)],
        [("mdan_fi8", "fast", True)],
        [("mdan_webemo25", "naive", True)],
        [("mdan_fi8", "naive", True)],
    ]


# --- what is measured


def test_the_step_alone_takes_the_same_batch_every_time(bench):
    trainer = bench._trainer(StepTrainer, STEP)
    steps = trainer.steps()
    batches = list(trainer.loader(steps))
    assert len(batches) == len(steps) == 2 * 2
    assert batches[0][0].shape == (2, 3, 64, 64)
    assert all(batch is batches[0] for batch in batches)


def test_the_input_alone_is_the_trainers_own(bench):
    trainer = bench._trainer(InputTrainer, reading("input"))
    loader = trainer.loader(trainer.steps())
    assert [images.shape for images, _ in loader] == [(2, 3, 64, 64)] * 6


def test_a_worker_has_a_whole_batch_to_read_in_every_epoch(bench):
    trainer = bench._trainer(InputTrainer, reading("input", workers=5))
    assert len(list(trainer.loader(trainer.steps()))) == 3 * 5


@pytest.mark.slow
def test_training_is_distinguished_from_its_step_in_the_same_turn(bench):
    turn = bench.turn(reading("training"))
    assert turn.seconds > 0
    assert turn.step_seconds > 0
    assert turn.peak_bytes is None
    assert bench.turn(STEP).step_seconds is None


def test_the_ways_to_decode(bench, tmp_path):
    sides = {}
    for decoding in ("full", "draft", "cache"):
        dataset = bench.dataset(config_of(STEP), "photos, resampled to 300 x 240", decoding)
        sides[decoding] = min(dataset.load(0).size)
    # The recipe needs 74 pixels of the shorter side; a half of 240 is enough, a quarter is not.
    assert sides == {"full": 240, "draft": 120, "cache": 74}
    assert len(list(tmp_path.glob("*.jpg"))) == 4


@pytest.mark.slow
def test_cached_views_are_trained_on_as_the_recipe_says(bench):
    (name,) = bench.images
    job = Job("mdan_oasis4", "mobilenetv2_100", "fast", 64, 2, "cpu", 1, "no", False, False, "")
    job = dataclasses.replace(job, images=name, decoding="views", workers=0)
    assert bench.dataset(config_of(job), name, "views").views == 12
    assert bench.turn(dataclasses.replace(job, measured="training")).step_seconds > 0
    assert bench.turn(dataclasses.replace(job, measured="input")).seconds > 0


def test_cached_views_are_read_where_a_recipe_has_them(folder):
    parse = training_throughput.parse
    arguments = parse(["--data", str(folder), "--decoding", "draft", "views", "--workers", "1"])
    ways = training_throughput.ways_to_read
    assert ways(arguments, "mdan_oasis4") == [("draft", 1), ("views", 0)]
    assert ways(arguments, "mdan_fi8") == [("draft", 1)]


def test_naive_and_fast_are_one_function():
    networks = [build(config_of(STEP), network).double().eval() for network in ("fast", "naive")]
    networks[1].load_state_dict(networks[0].state_dict())
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        fast, naive = (network(images) for network in networks)
    for branch in ("local", "global", "overall"):
        for a, b in zip(fast.log_probs[branch], naive.log_probs[branch], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_the_loss_is_the_median_over_turns():
    turns = [Turn(2.0, step_seconds=1.0), Turn(4.0, step_seconds=3.0), Turn(5.0, step_seconds=4.5)]
    result = training_throughput.summarise(reading("training"), turns)
    assert (result.seconds_median, result.images_per_second) == (4.0, 0.5)
    assert result.loss_to_input_percent == 25
    refused = training_throughput.summarise(STEP, [Turn(2.0), None])
    assert (refused.status, refused.repeats, refused.seconds_median) == ("out of memory", 0, None)


# --- images


def test_images_are_resampled_or_taken_as_they_are(folder, tmp_path):
    (name, files), *_ = write_images(folder, [(64, 32), (32, 64)], 3, tmp_path).items()
    assert (name, len(files)) == ("photos, resampled to 64 x 32", 3)
    with Image.open(files[0]) as image:
        assert (image.size, image.format) == ((64, 32), "JPEG")
    as_they_are = write_images(folder, [None], 3, tmp_path)
    assert as_they_are == {"photos, as they are": sorted(folder.iterdir())[:3]}


def test_made_up_images_differ_and_are_the_same_again(tmp_path):
    ((name, files),) = write_images(None, [(64, 48)], 2, tmp_path).items()
    assert name == "synthetic, 64 x 48"
    assert files[0].read_bytes() != files[1].read_bytes()
    assert synthetic((64, 48), 1).tobytes() == synthetic((64, 48), 1).tobytes()


# --- the table of the document


def step_row(**changes: str) -> dict[str, str]:
    row = {"model": "mdan_fi8", "measured": "step", "network": "fast", "status": "measured"}
    row |= {"backbone": "resnet101", "size": "448", "batch": "64", "compiled": "False"}
    return row | {"images_per_second": "100", "peak_bytes": "50000000000"} | changes


def test_hours_are_images_by_epochs_by_rate():
    step = step_row()
    assert training_tables.gpu_hours("mdan_fi8", step) == f"{23308 * 0.8 * 30 / 100 / 3600:.2f}"
    assert training_tables.gpu_hours("mdan_artphoto8", step) == f"{806 * 5 * 30 / 100 / 3600:.2f}"
    assert training_tables.gpu_memory(step) == "50 GB"
    assert training_tables.gpu_hours("mdan_fi8", None) == "not measured"
    assert training_tables.gpu_memory(None) == "not measured"


def test_the_rate_is_the_fastest_of_an_equal_network():
    compiled = step_row(compiled="True", images_per_second="120")
    others = [
        step_row(model="mdan_webemo25", images_per_second="900"),  # three levels, not two
        step_row(network="naive", images_per_second="900"),
        step_row(measured="input", images_per_second="900"),
        step_row(size="224", images_per_second="900"),
        step_row(batch="8", images_per_second="900"),
        step_row(backbone="resnet18", images_per_second="900"),
        step_row(status="out of memory", images_per_second=""),
    ]
    rows = [*others, step_row(), compiled]
    assert training_tables.fastest_step("mdan_fi8", rows) is compiled
    assert training_tables.fastest_step("mdan_emotion6", rows) is compiled
    assert training_tables.fastest_step("mdan_oasis4", rows) is None
    assert training_tables.fastest_step("mdan_webemo25", rows) is others[0]


def test_compiled_steps_are_listed_with_the_others_once_they_are_measured(monkeypatch):
    naive = step_row(network="naive", images_per_second="80", peak_bytes="60000000000")
    compiled = step_row(compiled="True", images_per_second="120", peak_bytes="40000000000")
    monkeypatch.setattr(training_tables, "throughput", lambda: [step_row(), naive, compiled])
    assert training_tables.gpu_steps().splitlines()[2:] == [
        "| `mdan_fi8` | fast | 100 | 50.0 GB | 120 | 40.0 GB |",
        "| `mdan_fi8` | naive | 80 | 60.0 GB | not measured | not measured |",
    ]


@pytest.mark.parametrize(
    ("split", "times"), [("all", 1), ("80/20", 0.8), ("official", 0.8), ("grouped-5-fold", 5)]
)
def test_how_often_a_split_trains_on_an_image(split, times):
    assert training_tables.times_trained(split) == times
