"""The weight files that the manifest names: found and verified. Needs no torch.

Loading them into a network is `mdan_zoo.checkpoint`'s work.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from mdan_zoo.errors import CheckpointError, WeightsUnavailableError
from mdan_zoo.manifest import ManifestEntry, Source

_PACKAGE = Path(__file__).parent


def find_weights(entry: ManifestEntry) -> Path:
    """Return the path of a model's verified weight file.

    Args:
        entry: A released entry of the manifest.

    Raises:
        WeightsUnavailableError: No source of the entry has the file.
        CheckpointError: The file is there, but it is not the one that was released.
    """
    for source in entry.sources:
        path = _from_package(source) if source.type == "package" else None
        if path is not None:
            verify_file(path, entry)
            return path
    raise WeightsUnavailableError(
        f"the weights of {entry.name} ({entry.file}) are in none of their sources: "
        + ", ".join(str(source) for source in entry.sources)
    )


def _from_package(source: Source) -> Path | None:
    path = _PACKAGE / source.path
    return path if path.is_file() else None


def verify_file(path: Path, entry: ManifestEntry) -> None:
    """Raise `CheckpointError` unless the file has the size and SHA-256 of the entry."""
    size = path.stat().st_size
    if size != entry.size:
        raise CheckpointError(
            f"{path} has {size:,} bytes, the released {entry.file} has {entry.size:,}: "
            "the file is damaged; install mdan-zoo again"
        )
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise CheckpointError(
            f"{path} has SHA-256 {digest.hexdigest()}, the released {entry.file} has "
            f"{entry.sha256}: the file is damaged; install mdan-zoo again"
        )
