"""Locks between processes."""

from __future__ import annotations

import threading

import pytest

from mdan_zoo._util import locks
from mdan_zoo._util.locks import process_lock


def test_who_waits_is_told_why_and_goes_on_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.05)
    path, order, waiting = tmp_path / "new" / "a.lock", [], threading.Event()

    def warn(*given):
        order.append(given)
        waiting.set()

    def wait():
        with process_lock(path, "has it"):
            order.append("second")

    def hold():
        with process_lock(path, "has it"):
            thread.start()
            assert waiting.wait(30)
            order.append("first")
            raise ValueError("in the block")

    monkeypatch.setattr(locks._LOGGER, "warning", warn)
    thread = threading.Thread(target=wait)
    with pytest.raises(ValueError, match="in the block"):
        hold()
    thread.join(30)
    assert order == [("waiting for another process that %s", "has it"), "first", "second"]
