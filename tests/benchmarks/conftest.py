"""Fixture of the benchmark tests: what the programs change in their process is restored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Restore the number of threads, which several programs set."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
