"""File index: size, SHA-256 and decodability of a dataset's images, each file read once."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mdan_zoo._util.read_ahead import batches_ahead
from mdan_zoo.errors import DatasetError, ImageError


@dataclass(frozen=True)
class IndexedFile:
    """What is known of one file.

    Attributes:
        path: Its path.
        size: Bytes; -1 if it cannot be read.
        sha256: SHA-256 of its content; "" if it cannot be read.
        problem: Why it cannot be read or decoded, beginning with its path; "" if it can, or if the
            index does not decode.
    """

    path: Path
    size: int
    sha256: str
    problem: str = ""


class FileIndex:
    """Reads files on first use, in threads, and remembers what is in them.

    One index is shared by everything that needs to know a dataset's files: the dataset check, the
    search for duplicates, the pre-flight check of a training and its list of training images.

    Args:
        decode: Also decode every file that is read, as an image.
    """

    def __init__(self, decode: bool = False) -> None:
        self.decode = decode
        self._known: dict[Path, IndexedFile] = {}

    def read(self, paths: Sequence[Path]) -> list[IndexedFile]:
        """Return what is known of each file, reading those that have not been read before.

        A progress bar is shown on a terminal if files are decoded.
        """
        from tqdm import tqdm  # keeps the command line fast

        unknown = [path for path in dict.fromkeys(paths) if path not in self._known]
        batches = batches_ahead(self._read, unknown, batch_size=32, workers=os.cpu_count() or 1)
        disable = None if self.decode else True  # None: unless on a terminal
        with tqdm(total=len(unknown), unit="image", disable=disable) as bar:
            for batch in batches:
                self._known.update((file.path, file) for file in batch)
                bar.update(len(batch))
        return [self._known[path] for path in paths]

    def sha256s(self, paths: Sequence[Path]) -> list[str]:
        """Return the SHA-256 of each file.

        Raises:
            DatasetError: A file cannot be read.
        """
        files = self.read(paths)
        for file in files:
            if not file.sha256:
                raise DatasetError(file.problem)
        return [file.sha256 for file in files]

    def duplicates(self, paths: Iterable[Path]) -> list[list[Path]]:
        """Return the groups of two or more files with the same content.

        Only files that share their size with another one are read. Missing and unreadable files
        are left out.
        """
        by_size: dict[int, list[Path]] = {}
        for path in paths:
            if path.is_file():
                by_size.setdefault(path.stat().st_size, []).append(path)
        candidates = [path for same in by_size.values() if len(same) > 1 for path in same]
        by_content: dict[str, list[Path]] = {}
        for file in self.read(candidates):
            if file.sha256:
                by_content.setdefault(file.sha256, []).append(file.path)
        return [same for same in by_content.values() if len(same) > 1]

    def _read(self, path: Path) -> IndexedFile:
        try:
            content = path.read_bytes()
        except OSError as error:
            return IndexedFile(path, -1, "", f"{path}: {error.strerror}")
        problem = _decoding_problem(path, content) if self.decode else ""
        return IndexedFile(path, len(content), hashlib.sha256(content).hexdigest(), problem)


class _NamedBytes(io.BytesIO):
    """The content of a file under its path, which error messages begin with."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(content)
        self.name = str(path)


def _decoding_problem(path: Path, content: bytes) -> str:
    from mdan_zoo.images.load import load_image  # loads Pillow

    try:
        load_image(_NamedBytes(content, path))
    except ImageError as error:
        return str(error)
    return ""
