"""The registry of datasets."""

from __future__ import annotations

import subprocess
import sys

import pytest
from dataset_trees import write_images
from oasis_folder import write_oasis

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.registry import DATASETS, read_dataset
from mdan_zoo.errors import DatasetError, HierarchyError, InputError, UnknownNameError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.zoo.configs import MODELS


def test_every_model_has_its_data_set_and_hierarchy():
    for config in MODELS.values():
        first, *others = config.dataset.split("+")  # the first one has labels of every level
        assert DATASETS[first].hierarchy == config.hierarchy
        assert set(others) <= set(DATASETS)


def test_every_entry_says_what_a_user_needs():
    for name, reader in DATASETS.items():
        assert reader.name == name
        assert reader.source
        assert reader.splits
        assert len(reader.terms.splitlines()) == 1
        if name not in ("folder", "table"):
            # Datasets of polarity are evaluated at the level of that name of other hierarchies.
            one_level = name in ("Twitter-I", "MVSA-Single", "GAPED")
            tree = get_hierarchy(reader.hierarchy)
            assert tree.level_names == ("polarity",) if one_level else tree.depth >= 2


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_reader_tells_of_an_empty_and_of_a_missing_folder(tmp_path, name):
    tree = None if DATASETS[name].hierarchy else get_hierarchy("mikels8")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DatasetError, match=str(folder)):
            read_dataset(name, folder, tree)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match="'EmoSet118K': did you mean 'EmoSet-118K'"):
        read_dataset("EmoSet118K", ".")


@pytest.mark.parametrize("name", ["folder", "table"])
def test_a_custom_data_set_needs_a_hierarchy(tmp_path, name):
    with pytest.raises(InputError, match=f"{name!r} has no default hierarchy; give one"):
        read_dataset(name, tmp_path)


def test_a_hierarchy_can_be_given(tmp_path):
    tree = Hierarchy.from_nested({"good": ["zest"], "bad": ["shame"]})
    names = ["train/24/1.jpg", "train/20/2.jpg"]
    samples = read_dataset("WEBEmo", str(write_images(tmp_path, names)), tree)
    assert sorted(tree.leaves[sample.labels[-1]] for sample in samples) == ["shame", "zest"]


def test_oasis_has_quadrants_or_its_polarity_in_another_hierarchy(tmp_path):
    folder = write_oasis(tmp_path / "oasis")
    assert read_dataset("OASIS", folder) == read_oasis(folder)
    tree = get_hierarchy("mikels8")  # positive before negative, unlike in circumplex4
    own = get_hierarchy("circumplex4")
    for quadrant, coarse in zip(
        read_oasis(folder), read_dataset("OASIS", folder, tree), strict=True
    ):
        assert len(coarse.labels) == 1
        assert tree.class_name(coarse.labels) == own.class_name(quadrant.labels[:1])
        positive = sum(quadrant.distribution[own.leaves.index(k)] for k in ("serene", "excited"))
        assert coarse.distribution == pytest.approx((positive, 1 - positive))
        assert (coarse.group, coarse.ratings) == (quadrant.group, quadrant.ratings)
    flat = Hierarchy.from_nested(["joy", "anger"])
    with pytest.raises(HierarchyError, match=r"positive and negative, which the hierarchy"):
        read_dataset("OASIS", folder, flat)


def test_no_heavy_library_is_loaded():
    code = "import sys, mdan_zoo.cli.dataset; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "mdan_zoo.datasets.readers.webemo" in loaded
    assert loaded.isdisjoint({"torch", "torchvision", "timm", "numpy", "PIL", "requests"})


@pytest.mark.parametrize("name", ["FI", "UnBiasedEmo"])
def test_a_folder_one_level_too_high_is_told_the_inner_one(tmp_path, name):
    leaves = get_hierarchy(DATASETS[name].hierarchy).leaves
    above = "" if name == "FI" else "images/"
    write_images(tmp_path / "code", ["1.jpg"])
    write_images(tmp_path / "dataset", [f"{above}{leaf}/1.jpg" for leaf in leaves])
    inner = tmp_path / "dataset"
    with pytest.raises(DatasetError, match=f"expected .*; {inner} has this layout: use --data"):
        read_dataset(name, tmp_path)
    assert len(read_dataset(name, inner)) == len(leaves)
