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
        found = self._find(name)
        if found is None:
            raise DatasetError(
                f"{place}: {name!r} is not a leaf of the hierarchy {self.hierarchy.name!r}: "
                + did_you_mean(name, dict.fromkeys([*self.hierarchy.leaves, *self._spellings]))
            )
        return found

    def has(self, name: str) -> bool:
        """Return whether the hierarchy has a leaf with this name or alias."""
        return self._find(name) is not None

    def hard(self, image: Path, leaf: int, group: str, split: str = "") -> Sample:
        """Return the sample of an image with one class."""
        shares = [k == leaf for k in range(len(self.hierarchy.leaves))]
        return self.soft(image, shares, group, split=split)

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

        A leaf without images is an error if `every_class` is set, otherwise a warning.
        """
        if len(samples) < 2:
            raise DatasetError(f"{source} has {len(samples)} image(s); at least two are required")
        leaves = self.hierarchy.leaves
        first: dict[Path, Sample] = {}
        for sample in samples:
            other = first.setdefault(sample.image, sample)
            if other is not sample:
                classes = dict.fromkeys(leaves[s.labels[-1]] for s in (other, sample))
                raise DatasetError(f"{source} has {sample.image} twice, as {' and '.join(classes)}")
        counts = Counter(sample.labels[-1] for sample in samples)
        single = [name for k, name in enumerate(leaves) if counts[k] == 1]
        if single:
            LOGGER.warning(
                f"{source} has only one image of {shown(single, 25)}; a new split puts it either "
                "into the training images or into the test images"
            )
        empty = [name for k, name in enumerate(leaves) if not counts[k]]
        if empty:
            message = (
                f"{source} has no image of {shown(empty, 25)}, "
                f"which hierarchy {self.hierarchy.name!r} has"
            )
            if every_class:
                raise DatasetError(f"{message}; add images, or use a hierarchy without it")
            LOGGER.warning(message)
        return samples

    def _find(self, name: str) -> int | None:
        spelling = name.strip()
        return self._spellings.get(spelling, self._spellings.get(spelling.casefold()))

    @cached_property
    def _spellings(self) -> dict[str, int]:
        """Leaf ids by name and alias, as written and in lower case."""
        leaves = {name: k for k, name in enumerate(self.hierarchy.leaves)}
        aliases = dict(self.release.aliases if self.release else ()) | dict(self.hierarchy.aliases)
        known = {alias: leaves[name] for alias, name in aliases.items() if name in leaves} | leaves
        return {name.casefold(): leaf for name, leaf in known.items()} | known
