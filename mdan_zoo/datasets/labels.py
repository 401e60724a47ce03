"""Labels: from the class names of a dataset to samples with the class ids of a hierarchy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mdan_zoo.datasets.files import LOGGER, shown
from mdan_zoo.datasets.sample import Sample
from mdan_zoo.errors import DatasetError, did_you_mean
from mdan_zoo.hierarchy.tree import Hierarchy


@dataclass(frozen=True)
class Labels:
    """The labels of one dataset.

    Attributes:
        hierarchy: The hierarchy that defines the class ids of the samples.
        release: The hierarchy of the dataset. Its aliases are accepted too, so that a custom
            hierarchy does not have to repeat the spellings of the release.
    """

    hierarchy: Hierarchy
    release: Hierarchy | None = None

    def leaf(self, name: str, place: object) -> int:
        """Return the class id of a leaf by its name or alias, ignoring case.

        If the hierarchy has no such leaf, the message of the `DatasetError` begins with `place`.
        """
        path = self.path(name)
        if path is None or len(path) < self.hierarchy.depth:
            raise DatasetError(
                f"{place}: {name!r} is not a leaf of the hierarchy {self.hierarchy.name!r}: "
                + did_you_mean(name, self._known_leaves)
            )
        return path[-1]

    def has(self, name: str) -> bool:
        """Return whether the hierarchy has a leaf with this name or alias."""
        return len(self.path(name) or ()) == self.hierarchy.depth

    def path(self, name: str) -> tuple[int, ...] | None:
        """Return the class ids, coarse to fine, of a name or alias of any level, ignoring case.

        A class of a finer level takes precedence. None if the hierarchy has no such class.
        """
        spelling = name.strip()
        return self._spellings.get(spelling, self._spellings.get(spelling.casefold()))

    def hard(self, image: Path, leaf: int, group: str, split: str = "") -> Sample:
        """Return the sample of an image with one leaf."""
        return self.coarse(image, self.hierarchy.leaf_paths[leaf], group, split)

    def coarse(self, image: Path, path: tuple[int, ...], group: str, split: str = "") -> Sample:
        """Return the sample of an image with one class of any level, given by its path."""
        shares = tuple(float(k == path[-1]) for k in range(self.hierarchy.sizes[len(path) - 1]))
        return Sample(image, path, shares, group, split=split)

    def soft(
        self,
        image: Path,
        shares: Sequence[float],
        group: str,
        *,
        split: str = "",
        preferred: int = -1,
        ratings: tuple[tuple[str, float], ...] = (),
    ) -> Sample:
        """Return the sample of an image with known votes.

        The votes for every leaf are non-negative and not all zero. In a tie, the labels are those
        of the preferred leaf, or else of the first one.
        """
        total = sum(shares)
        leaf = max(range(len(shares)), key=lambda k: (shares[k], k == preferred))
        distribution = tuple(share / total for share in shares)
        labels = self.hierarchy.leaf_paths[leaf]
        return Sample(image, labels, distribution, group, ratings, split)

    def checked(
        self, samples: list[Sample], source: Path, *, every_class: bool = False
    ) -> list[Sample]:
        """Return the samples of a dataset, which must be at least two, of different images.

        A class of the finest labelled level without images is an error if `every_class` is set,
        otherwise a warning.
        """
        if len(samples) < 2:
            raise DatasetError(f"{source} has {len(samples)} image(s); at least two are required")
        name = self.hierarchy.class_name
        first: dict[Path, Sample] = {}
        for sample in samples:
            other = first.setdefault(sample.image, sample)
            if other is not sample:
                classes = dict.fromkeys(name(s.labels) for s in (other, sample))
                raise DatasetError(f"{source} has {sample.image} twice, as {' and '.join(classes)}")
        depths = {len(sample.labels) for sample in samples}
        finest = [sample.labels for sample in samples if len(sample.labels) == max(depths)]
        counts = Counter(map(name, finest))
        known = self.hierarchy.levels[max(depths) - 1]
        single = [c for c in known if counts[c] == 1]
        if single:
            LOGGER.warning(
                f"{source} has only one image of {shown(single, 25)}; a new split puts it either "
                "into the training images or into the test images"
            )
        empty = [c for c in known if not counts[c]]
        if empty:
            message = (
                f"{source} has no image of {shown(empty, 25)}, "
                f"which hierarchy {self.hierarchy.name!r} has"
            )
            if every_class and len(depths) == 1:
                raise DatasetError(f"{message}; add images, or use a hierarchy without it")
            LOGGER.warning(message)
        return samples

    @cached_property
    def _known_leaves(self) -> list[str]:
        leaves = [
            name for name, path in self._spellings.items() if len(path) == self.hierarchy.depth
        ]
        return list(dict.fromkeys([*self.hierarchy.leaves, *leaves]))

    @cached_property
    def _spellings(self) -> dict[str, tuple[int, ...]]:
        """Paths of class ids by name and alias, as written and in lower case."""
        aliases = dict(self.release.aliases if self.release else ()) | dict(self.hierarchy.aliases)
        found: dict[str, tuple[int, ...]] = {}
        for level, names in enumerate(self.hierarchy.levels):
            classes = dict(zip(names, self.hierarchy.paths(level), strict=True))
            known = {alias: classes[name] for alias, name in aliases.items() if name in classes}
            known |= classes
            found |= {name.casefold(): path for name, path in known.items()} | known
        return found
