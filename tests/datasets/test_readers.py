"""The OASIS reader and grouped splits."""

from __future__ import annotations

from pathlib import Path

import pytest
from oasis_folder import THEMES, write_oasis

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.splits import grouped_folds, split_sha256
from mdan_zoo.errors import DatasetError
from mdan_zoo.hierarchy.builtin import get_hierarchy

SHARED = Path(__file__).parents[3] / "shared" / "data" / "oasis"


@pytest.fixture
def folder(tmp_path):
    return write_oasis(tmp_path / "oasis")


def test_the_published_layout_is_read(folder):
    samples = read_oasis(folder)
    assert len(samples) == 2 * len(THEMES)
    beach, fog = samples[0], samples[2]
    tree = get_hierarchy("circumplex4")
    assert [tree.levels[i][k] for i, k in enumerate(beach.labels)] == ["positive", "excited"]
    assert [tree.levels[i][k] for i, k in enumerate(fog.labels)] == ["negative", "gloomy"]
    assert beach.image == folder / "images" / "Beach 1.jpg"
    assert [sample.group for sample in samples[:4]] == ["beach", "beach", "fog", "fog"]
    assert dict(fog.ratings) == {"valence": 3.4, "arousal": 2.2}


def test_soft_labels_follow_the_raters(folder):
    tree = get_hierarchy("circumplex4")
    for sample in read_oasis(folder):
        assert sum(sample.distribution) == pytest.approx(1)
        assert min(sample.distribution) > 0
    # Fog: valence 3.4 +- 1.1 exceeds 4 for 29.27 % of raters, arousal 2.2 +- 1.6 exceeds 3.73 for
    # 16.94 % (from a table of the normal distribution).
    fog = dict(zip(tree.leaves, read_oasis(folder)[2].distribution, strict=True))
    assert fog["gloomy"] == pytest.approx((1 - 0.2927) * (1 - 0.1694), abs=2e-4)
    assert fog["excited"] == pytest.approx(0.2927 * 0.1694, abs=2e-4)


def test_without_softness_the_labels_are_hard(folder):
    for sample in read_oasis(folder, label_std_scale=0):
        assert sample.distribution[sample.labels[-1]] == pytest.approx(1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "OASIS.csv").unlink(),
            r"/oasis does not have the layout of OASIS: it contains images/; "
            r"expected OASIS\.csv or norms\.csv and images/<theme>\.jpg$",
        ),
        (lambda f: (f / "images" / "Fog 2.jpg").unlink(), r"1 of the 12 .*Fog 2\.jpg"),
        (lambda f: (f / "OASIS.csv").write_text("Theme\nx\n"), "lacks the columns valence_mean"),
        (lambda f: (f / "OASIS.csv").write_text(""), "no rows"),
        (lambda f: replace(f, "Fog 2", "Fog 1"), r"OASIS\.csv has several rows of 'Fog 1'$"),
        (
            lambda f: (replace(f, "Fog 2", "Beach 1"), replace(f, "Garden 2", "Fog 1")),
            r"OASIS\.csv has several rows of 'Beach 1', 'Fog 1'$",
        ),
        (
            lambda f: replace(f, "3.4,1.1", "34,1.1"),
            r"the valence of 'Fog 1' must be a number in 1\.\.7, not '34'",
        ),
        (
            lambda f: replace(f, "3.4,1.1", "high,1.1"),
            r"the valence of 'Fog 1' must be a number in 1\.\.7, not 'high'",
        ),
    ],
)
def test_a_wrong_folder_is_reported(folder, damage, message):
    damage(folder)
    with pytest.raises(DatasetError, match=message):
        read_oasis(folder)


def replace(folder, old, new):
    table = folder / "OASIS.csv"
    table.write_bytes(table.read_bytes().replace(old.encode(), new.encode(), 1))


def test_folds_keep_groups_together(folder):
    samples = read_oasis(folder)
    folds = grouped_folds(samples, 3, seed=1)
    assert sorted(i for fold in folds for i in fold) == list(range(len(samples)))
    groups = [{samples[i].group for i in fold} for fold in folds]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert [len(fold) for fold in folds] == [4, 4, 4]
    assert folds == grouped_folds(samples, 3, seed=1)
    assert folds != grouped_folds(samples, 3, seed=2)


@pytest.mark.parametrize("count", [1, 7])
def test_impossible_numbers_of_folds_are_refused(folder, count):
    with pytest.raises(DatasetError, match=f"{count} folds of 6 groups"):
        grouped_folds(read_oasis(folder), count, seed=0)


def test_the_hash_of_a_split_names_it(folder):
    samples = read_oasis(folder)
    first, second = grouped_folds(samples, 3, seed=1), grouped_folds(samples, 3, seed=2)
    assert split_sha256(samples, first) == split_sha256(samples, first)
    assert split_sha256(samples, first) != split_sha256(samples, second)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the OASIS images are not at ../shared")
def test_the_real_images_have_the_published_counts():
    samples = read_oasis(SHARED)
    tree = get_hierarchy("circumplex4")
    counts = dict.fromkeys(tree.leaves, 0)
    for sample in samples:
        counts[tree.leaves[sample.labels[-1]]] += 1
    assert counts == {"gloomy": 94, "distressed": 139, "serene": 252, "excited": 176}
