"""How much memory a process can still take."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import psutil

_GROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes that can be taken, of this machine or of the container or job in it."""
    return min([int(psutil.virtual_memory().available), *_group_limits()])


def _group_limits() -> list[int]:
    """Return the limits of the control groups that this process is in; a Linux notion."""
    membership = _read(Path("/proc/self/cgroup"))
    limits = []
    for line in membership.splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            root, name = _GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        path = PurePosixPath(group)
        for folder in (path, *path.parents):  # a limit holds for the groups within, too
            text = _read(root / folder.relative_to("/") / name).strip()
            limits += [int(text)] if text.isdigit() else []  # not "max"
    return limits


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
