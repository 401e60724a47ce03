"""Figure of a comparison: one panel per level, with the measured and the printed accuracies."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import assert_nothing_overlaps

from mdan_zoo.plots.comparison import draw_comparison

NAMES = ("flat_fi8", "mdan_fi8:dim=8:alpha=0.5:lcam=off", "wscnet_fi8", "pdanet_fi8")


def summary(*printed):
    systems = [
        {
            "system": name,
            "levels": {
                "polarity": {
                    "accuracy": {"mean": 0.8 + number / 100, "sd": 0.01 if number else None},
                    "as_printed_in_the_paper": text,
                },
                "emotion": {
                    "accuracy": {"mean": 0.5 + number / 100, "sd": 0.02},
                    "as_printed_in_the_paper": "",
                },
            },
        }
        for number, (name, text) in enumerate(zip(NAMES[: len(printed)], printed, strict=True))
    ]
    return {"systems": systems, "control": "flat_fi8"}


def test_means_printed_numbers_and_the_control_are_drawn():
    figure = draw_comparison(summary("85.92", ""))
    figure.canvas.draw()
    polarity, emotion = figure.axes
    assert (polarity.get_title(), emotion.get_title()) == ("polarity", "emotion")
    assert polarity.containers[0].lines[0].get_xdata().tolist() == pytest.approx([80, 81])
    (diamonds,) = (c for c in polarity.collections if c.get_label().startswith("as printed"))
    np.testing.assert_allclose(diamonds.get_offsets(), [[85.92, 0]])
    (empty,) = (c for c in emotion.collections if c.get_label().startswith("as printed"))
    assert len(empty.get_offsets()) == 0
    assert [line.get_xdata() for line in emotion.lines if line.get_linestyle() == ":"] == [[50, 50]]
    labels = [label.get_text() for label in polarity.get_yticklabels()]
    assert labels == ["flat_fi8", "mdan_fi8\ndim=8:alpha=0.5\nlcam=off"]
    assert polarity.get_ylim()[0] > polarity.get_ylim()[1], "the first system is at the top"


def test_no_text_overlaps():
    assert_nothing_overlaps(draw_comparison(summary("85.92", "91.08", "86.74", "")))
