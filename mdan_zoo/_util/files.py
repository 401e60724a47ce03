"""Files that readers see complete: the old content or the new one, never a part. Needs no torch."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mdan_zoo.errors import InputError

_PREFIX, _SUFFIX = ".mdan_zoo.", ".part"


def check_output(path: Path) -> None:
    """Raise `InputError` unless a file can be at a path: its folder exists, it is not a folder."""
    if not path.parent.is_dir():
        raise InputError(f"no file can be written at {path}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise InputError(
            f"no file can be written at {path}: it is not a file, but a folder or a device"
        )


def refuse_input(output: Path, inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise `InputError` if a file that is to be written is one of those to be read."""
    if not output.exists():
        return
    for path in inputs:
        if os.path.exists(path) and os.path.samefile(path, output):
            raise InputError(f"--output {output} is one of the images; give another name")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file completely or not at all; see `open_atomically`."""
    with open_atomically(path) as file:
        file.write(content)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing, which replaces the old one if the block ends without an error.

    If the path is a link, the file that it points to is replaced. The mode is that of the old file,
    or follows the umask.

    Raises:
        InputError: No file can be at the path: its folder is missing, say, or it is a folder.
        OSError: The file cannot be written for another reason, such as a full disk.
    """
    check_output(path)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(replace_by(temporary, target))
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise InputError(f"no file can be written at {path}: {error.strerror}") from error
        yield file


@contextmanager
def replace_by(temporary: Path, target: Path, resume: bool = False) -> Iterator[BinaryIO]:
    """Create `temporary` for writing; rename it to `target` after the block, or remove it.

    With `resume`, it is open for reading and appending to what is in it, and it stays after an
    error, unless it is empty or cannot be written, such as on a full disk.
    """
    try:  # from before the file exists: an interrupt may come as soon as it does
        file: BinaryIO = temporary.open("a+b") if resume else temporary.open("xb")
        with file:
            with suppress(OSError):  # there is no old file, or the file system has no modes
                shutil.copymode(target, temporary)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            if not resume or isinstance(error, OSError) or not temporary.stat().st_size:
                temporary.unlink()
        raise


def sha256_of(file: BinaryIO) -> str:
    """Return the hexadecimal SHA-256 of the rest of a file, which may exceed the memory."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove the partial files of killed processes from a folder that no process is writing to."""
    for part in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        part.unlink(missing_ok=True)
