"""Progress in the log of a job, which has no terminal."""

from __future__ import annotations

import re
import time

from mdan_zoo._util import progress
from mdan_zoo._util.progress import progress_bar


def test_a_job_log_has_lines_with_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.05)
    with progress_bar("training", total=8, unit_scale=16) as bar:
        for _ in range(4):
            time.sleep(0.1)
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(", ")[0] for line in lines] == [
        f"training: {16 * step} of 128 images" for step in range(1, 5)
    ]
    assert all(re.fullmatch(r".*, [\d.]+image/s, 00:0\d left", line) for line in lines), lines


def test_short_work_leaves_no_lines(capsys):
    for _ in progress_bar("reading", iterable=range(3), total=3):
        pass
    assert capsys.readouterr().err == ""
