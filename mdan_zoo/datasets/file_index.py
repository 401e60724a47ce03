"""File index: hashes and decodability of a dataset's images, each file read once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mdan_zoo._util.read_ahead import batches_ahead
from mdan_zoo.errors import DatasetError, ImageError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class IndexedFile:
    """A file and the SHA-256 of its content, "" if it cannot be read.

    `problem` is the reason why it cannot be read or decoded, beginning with its path, or "".
    `dhash` is the perceptual difference hash of the image, 256 bits, or b"" if not computed.
    """

    path: Path
    sha256: str
    problem: str = ""
    dhash: bytes = b""


class FileIndex:
    """Index of files, which are read on first use, in threads.

    `decode` also decodes the images; `dhash` also computes their perceptual hashes, which requires
    ImageHash.
    """

    def __init__(self, decode: bool = False, dhash: bool = False) -> None:
        self.decode, self.dhash = decode or dhash, dhash
        self._known: dict[Path, IndexedFile] = {}

    def read(self, paths: Sequence[Path]) -> list[IndexedFile]:
        """Return the entry of each file; decoding shows its progress."""
        from mdan_zoo._util.progress import progress_bar  # slow to import

        unknown = [path for path in dict.fromkeys(paths) if path not in self._known]
        batches = batches_ahead(self._read, unknown, batch_size=32, workers=os.cpu_count() or 1)
        with progress_bar("reading", total=len(unknown), shown=self.decode) as bar:
            for batch in batches:
                self._known.update((file.path, file) for file in batch)
                bar.update(len(batch))
        return [self._known[path] for path in paths]

    def sha256s(self, paths: Sequence[Path]) -> list[str]:
        """Return the SHA-256 of each file; a `DatasetError` if one cannot be read."""
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
            return IndexedFile(path, "", f"{path}: {error.strerror}")
        problem, dhash = "", b""
        if self.decode:
            from mdan_zoo.images.load import load_image  # loads Pillow

            try:
                image = load_image(content)
                dhash = _difference_hash(image) if self.dhash else b""
            except ImageError as error:
                problem = f"{path}: {error.reason}"
        return IndexedFile(path, hashlib.sha256(content).hexdigest(), problem, dhash)


def _difference_hash(image: Image.Image) -> bytes:
    import imagehash
    import numpy as np

    return np.packbits(imagehash.dhash(image, hash_size=16).hash).tobytes()
