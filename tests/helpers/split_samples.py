"""Samples that need no files, to be divided."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.datasets.sample import Sample

FOLDER = Path("images")


def make_sample(name: str, leaf: int = 0, group: str = "", split: str = "") -> Sample:
    return Sample(FOLDER / name, (0, leaf), (), group or name, split=split)


def make_samples(count: int, classes: int = 4) -> list[Sample]:
    return [make_sample(f"joy/{i:03}.jpg", i % classes, f"group {i // 2}") for i in range(count)]
