"""Labels: from the class names of a dataset to samples with the class ids of a hierarchy."""

from __future__ import annotations

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
    """The labels of one data set.

    Attributes:
        hierarchy: The tree whose class ids the samples get.
        release: The data set's own tree. Its aliases are understood too, so that a tree of one's
            own need not repeat the spellings of a release.
    """

    hierarchy: Hierarchy
    release: Hierarchy | None = None

    def leaf(self, name: str, place: object) -> int:
        """Return the class id of a leaf by its name or alias; capitals do not matter.

        Args:
            name: The class, as the data set spells it.
            place: Where it stands, for the message.

        Raises:
            DatasetError: The tree has no such leaf.
        """
        found = self._find(name)
        if found is None:
            raise DatasetError(
                f"{place}: {name!r} is no leaf of hierarchy {self.hierarchy.name!r}: "
                + did_you_mean(name, dict.fromkeys([*self.hierarchy.leaves, *self._spellings]))
            )
        return found

    def has(self, name: str) -> bool:
        """Tell whether the tree has a leaf of that name or alias."""
        return self._find(name) is not None

    def hard(self, image: Path, leaf: int, group: str, split: str = "") -> Sample:
        """Return the sample of an image of which only the class is known."""
        distribution = tuple(float(k == leaf) for k in range(len(self.hierarchy.leaves)))
        labels = self.hierarchy.leaf_paths[leaf]
        return Sample(image, labels, distribution, group, split=split)

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

        Args:
            image: Its file.
            shares: Votes for every leaf, not negative and not all zero.
            group: See `Sample`.
            split: See `Sample`.
            preferred: The leaf that gives the labels where it is among several with most votes;
                otherwise the first of these does.
            ratings: See `Sample`.
        """
        total = sum(shares)
        leaf = max(range(len(shares)), key=lambda k: (shares[k], k == preferred))
        distribution = tuple(share / total for share in shares)
        labels = self.hierarchy.leaf_paths[leaf]
        return Sample(image, labels, distribution, group, ratings, split)

    def checked(
        self, samples: list[Sample], source: Path, *, every_class: bool = False
    ) -> list[Sample]:
        """Return the samples of a data set if they can be used.

        Args:
            samples: All of them.
            source: The folder or table, for the messages.
            every_class: A leaf without images is an error; otherwise it is only warned of.

        Raises:
            DatasetError: There are fewer than two images, one is there twice, or a leaf has none.
        """
        if len(samples) < 2:
            raise DatasetError(f"{source} has {len(samples)} image(s), and needs at least two")
        self._refuse_repeated(samples, source)
        used = {sample.labels[-1] for sample in samples}
        empty = [name for k, name in enumerate(self.hierarchy.leaves) if k not in used]
        if empty:
            message = (
                f"{source} has no image of {shown(empty, 25)}, "
                f"which hierarchy {self.hierarchy.name!r} has"
            )
            if every_class:
                raise DatasetError(f"{message}; add images or use a tree without it")
            LOGGER.warning(message)
        return samples

    def _refuse_repeated(self, samples: Sequence[Sample], source: Path) -> None:
        first: dict[Path, Sample] = {}
        for sample in samples:
            other = first.setdefault(sample.image, sample)
            if other is not sample:
                leaves = [self.hierarchy.leaves[s.labels[-1]] for s in (other, sample)]
                classes = " and ".join(dict.fromkeys(leaves))
                raise DatasetError(f"{source} has {sample.image} twice, as {classes}")

    def _find(self, name: str) -> int | None:
        spelling = name.strip()
        for known in (spelling, spelling.casefold()):
            if known in self._spellings:
                return self._spellings[known]
        return None

    @cached_property
    def _spellings(self) -> dict[str, int]:
        """The leaf for every name and alias, as written and in small letters."""
        leaves = {name: k for k, name in enumerate(self.hierarchy.leaves)}
        aliases = dict(self.hierarchy.aliases)
        if self.release is not None:
            aliases = {**dict(self.release.aliases), **aliases}
        known = {alias: leaves[name] for alias, name in aliases.items() if name in leaves}
        known.update(leaves)
        return {name.casefold(): leaf for name, leaf in known.items()} | known
