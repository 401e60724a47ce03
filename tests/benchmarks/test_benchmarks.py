"""The benchmarks run; what they measure on this machine does not matter here."""

from __future__ import annotations

import csv
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import top_down_cost  # noqa: E402 - the folder is no package
from top_down_cost import Case, Measurements, Stepper, Worker  # noqa: E402


def case(batch: int = 1, mode: str = "forward") -> Case:
    return Case("mdan_fi8", 2, 64, batch, "cpu", 1, "float32", False, False, mode)


@pytest.mark.slow
def test_top_down_cost_writes_a_row_for_every_variant(tmp_path, capsys):
    output = tmp_path / "new folder" / "cost.csv"
    options = "--models mdan_fi8 --size 64 --batches 2 --modes training --repeats 2 --threads 1"
    top_down_cost.main([*options.split(), "--output", str(output)])
    assert str(output) in capsys.readouterr().out

    with output.open(newline="", encoding="utf-8") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["naive", "fast", "bare"]
    for row in rows.values():
        assert row["status"] == "measured"
        assert (row["model"], row["levels"], row["size"]) == ("mdan_fi8", "2", "64")
        assert (row["mode"], row["batch"], row["repeats"]) == ("training", "2", "2")
        assert (row["device"], row["threads"], row["dtype"]) == ("cpu", "1", "float32")
        q1, median, q3 = (float(row[f"seconds_{name}"]) for name in ("q1", "median", "q3"))
        assert 0 < q1 <= median <= q3
        assert float(row["images_per_second"]) == pytest.approx(2 / median, rel=0.01)
        bare = rows["bare"]
        ratio = median / float(bare["seconds_median"])
        assert float(row["time_ratio"]) == pytest.approx(ratio, abs=0.01)
        ratio = int(row["peak_bytes"]) / int(bare["peak_bytes"])
        assert float(row["memory_ratio"]) == pytest.approx(ratio, abs=0.01)


@pytest.mark.slow
def test_the_variants_are_of_one_network():
    """Naive and fast are the same function, and bare has their backbone."""
    steppers = {variant: Stepper(case(), variant) for variant in top_down_cost.VARIANTS}
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        for stepper in steppers.values():
            stepper.network.double()
        naive, fast = (steppers[variant].forward(images) for variant in ("naive", "fast"))
        deepest = [stepper.network.backbone(images)[-1] for stepper in steppers.values()]
    assert len(naive) == 2
    for a, b in zip(naive, fast, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert deepest[0].equal(deepest[1])
    assert deepest[0].equal(deepest[2])


def test_the_peak_counts_what_is_allocated_at_one_time():
    def work():
        first = torch.zeros(3_000, dtype=torch.uint8)
        second = torch.zeros(1_000, dtype=torch.uint8)
        del first
        return second, torch.zeros(2_000, dtype=torch.uint8)

    assert top_down_cost.peak_on_cpu(work) == 4_000


@pytest.mark.slow
def test_the_peak_of_a_training_step_holds_the_gradients_and_is_the_same_again():
    stepper = Stepper(case(mode="training"), "fast")
    gradients = sum(4 * parameter.numel() for parameter in stepper.network.parameters())
    peak = stepper.peak_bytes()
    assert gradients < peak < 2 * gradients
    assert stepper.peak_bytes() == peak


def test_a_refused_allocation_is_distinguished_from_other_errors():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert top_down_cost.is_out_of_memory(refused.value)
    with pytest.raises(RuntimeError) as other:
        torch.zeros(2) @ torch.zeros(3)
    assert not top_down_cost.is_out_of_memory(other.value)


@pytest.mark.slow
def test_a_worker_without_memory_says_so():
    worker = Worker(case(batch=10**9), "bare")  # 49 terabytes of images
    with pytest.raises(MemoryError):
        worker.ask()
    worker.close()


def test_a_worker_that_is_killed_is_out_of_memory():
    worker = Worker(case(), "bare")
    os.kill(worker.process.pid, signal.SIGKILL)  # as the kernel does when memory runs out
    with pytest.raises(MemoryError):
        worker.ask()
    worker.close()


def test_a_worker_that_fails_otherwise_stops_the_benchmark():
    worker = Worker(case(), "bare")
    os.kill(worker.process.pid, signal.SIGTERM)
    with pytest.raises(RuntimeError, match=f"status -{signal.SIGTERM:d}"):
        worker.ask()
    worker.close()


def test_out_of_memory_leaves_the_figures_empty():
    measured = {"fast": Measurements(600, [2.0, 4.0]), "bare": Measurements(300, [2.0])}
    naive, fast, bare = top_down_cost.summarise(measured, batch=6)
    assert (naive.variant, naive.status, naive.repeats) == ("naive", "out of memory", 0)
    assert naive.seconds_median is naive.peak_bytes is naive.time_ratio is None
    assert (fast.seconds_q1, fast.seconds_median, fast.seconds_q3) == (2.5, 3.0, 3.5)
    assert (fast.peak_bytes, fast.time_ratio, fast.memory_ratio) == (600, 1.5, 2.0)
    assert (fast.images_per_second, bare.time_ratio) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--size 100", "multiple of 32 from 64 on, not 100"),
        ("--size 32", "multiple of 32 from 64 on, not 32"),
        ("--repeats 0", "whole number from 1 on, not '0'"),
        ("--models mdan_oasis4", "mdan_fi8"),
        ("--compile", "--device cuda"),
    ],
)
def test_bad_options_are_refused(option, message, capsys):
    with pytest.raises(SystemExit):
        top_down_cost.parse(option.split())
    assert message in capsys.readouterr().err
