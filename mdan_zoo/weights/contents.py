"""Contents of checkpoint files: each file is opened and read once, within limits. Needs no torch.

Size, SHA-256, header and tensors come from the same bytes in memory, so the bytes that were
verified are the bytes that are loaded. A memory map would show later changes of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mdan_zoo.errors import CheckpointError, InputError

MAX_HEADER_BYTES = 1 << 20  # a header names a few hundred tensors in some 50 kB
MAX_FILE_BYTES = 8 << 30  # forty times the size of the paper's network


@dataclass(frozen=True)
class FileContents:
    """Path, bytes and hexadecimal SHA-256 of a checkpoint file that was read into memory."""

    path: Path
    data: bytes = field(repr=False)
    sha256: str

    def metadata(self) -> Mapping[str, Any]:
        """Return the metadata of the safetensors header; `CheckpointError` if it is malformed."""
        end = 8 + check_header_size(self.path, self.data[:8])
        return _metadata(self.path, self.data[8:end])


def read_contents(path: str | os.PathLike[str]) -> FileContents:
    """Read a file into memory.

    `CheckpointError` if it cannot be read, is not a regular file, or exceeds `MAX_FILE_BYTES`.
    """
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise CheckpointError(
                f"{path} has {size:,} bytes; a checkpoint has at most {MAX_FILE_BYTES:,}"
            )
        data = file.read()
    return FileContents(Path(path), data, hashlib.sha256(data).hexdigest())


def read_metadata(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Return the metadata of a safetensors file, of which only the header is read."""
    with _open(path) as file:
        return _metadata(path, file.read(check_header_size(path, file.read(8))))


def check_header_size(path: str | os.PathLike[str], start: bytes) -> int:
    """Return the size of a safetensors header, in a file's first eight bytes, or raise an error."""
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path} is not a safetensors checkpoint")
    return size


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"a checkpoint is given by its path, not {path!r}")
    try:
        if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
            raise CheckpointError(f"{path} is not a file")  # opening a pipe could take forever
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}") from error


def _metadata(path: str | os.PathLike[str], header: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(header).get("__metadata__", {})
    except (ValueError, RecursionError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a safetensors checkpoint: {error}") from error
    return found if isinstance(found, Mapping) else {}
