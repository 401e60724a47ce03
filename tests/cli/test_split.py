"""`mdan-zoo split`, run as the command line runs it."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
from command_line import call
from dataset_trees import write_images
from oasis_folder import write_oasis

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.registry import read_dataset
from mdan_zoo.datasets.splits import Split, grouped_folds, select
from mdan_zoo.errors import InputError, UnknownNameError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


@pytest.fixture
def folder(tmp_path):
    return write_oasis(tmp_path / "oasis")


run = functools.partial(call, "split")


def test_a_split_is_written_and_described(folder, tmp_path, capsys):
    path = tmp_path / "folds.tsv"
    given = ("OASIS", "--data", folder, "--method", "grouped-3-fold", "--seed", 1)
    assert run(*given, "--output", path) == 0
    split = Split.load(path)
    assert capsys.readouterr().out == (
        f"0: 4 images\n1: 4 images\n2: 4 images\nsha256: {split.sha256}\n"
    )
    assert (split.dataset, split.method) == ("OASIS", "grouped-3-fold, seed 1")
    samples = read_oasis(folder)
    folds = [select(split, samples, folder, part) for part in "012"]
    assert folds == grouped_folds(samples, 3, seed=1)


def test_custom_images_are_split_with_their_hierarchy(tmp_path):
    names = [f"{label}/{number}.jpg" for label in ("joy", "rage") for number in range(5)]
    data = write_images(tmp_path / "images", names)
    Hierarchy.from_nested({"good": ["joy"], "bad": ["rage"]}).save(tmp_path / "tree.toml")
    path = tmp_path / "split.tsv"
    given = ("--data", data, "--method", "80/20", "--output", path)
    assert run("folder", *given, "--hierarchy", tmp_path / "tree.toml") == 0
    split = Split.load(path)
    assert split.dataset == "folder"
    assert sorted(split.images("train") + split.images("test")) == names
    assert {name.split("/")[0] for name in split.images("test")} == {"joy", "rage"}


def test_a_table_is_split_like_its_folder(tmp_path):
    """The table can be named itself, as where two lie in one folder."""
    names = [f"{number}.jpg" for number in range(10)]
    write_images(tmp_path, names)
    table = tmp_path / "labels.csv"
    rows = [f"{name},{'joy' if k % 2 else 'anger'}\n" for k, name in enumerate(names)]
    table.write_text("image,label\n" + "".join(rows))
    (tmp_path / "tree.json").write_text('{"name": "own", "levels": [["joy", "anger"]]}')
    splits = []
    for data, output in ((table, "1.tsv"), (tmp_path, "2.tsv")):
        given = ("--data", data, "--method", "80/20", "--output", tmp_path / output)
        assert run("table", *given, "--hierarchy", tmp_path / "tree.json") == 0
        splits.append(Split.load(tmp_path / output))
    assert splits[0] == splits[1]
    assert sorted(splits[0].images("train") + splits[0].images("test")) == names


def test_custom_images_need_a_hierarchy(tmp_path):
    data = write_images(tmp_path / "images", ["joy/1.jpg", "rage/1.jpg"])
    given = ("folder", "--data", data, "--method", "80/20", "--output", tmp_path / "split.tsv")
    with pytest.raises(InputError, match="no default hierarchy"):
        run(*given)
    with pytest.raises(UnknownNameError, match="did you mean 'mikels8'"):
        run(*given, "--hierarchy", "mikels9")


def test_a_split_is_not_overwritten(folder, tmp_path):
    path = tmp_path / "split.tsv"
    path.write_text("precious")
    with pytest.raises(InputError, match=r"split\.tsv already exists"):
        run("OASIS", "--root", folder, "--method", "80/20", "--output", path)
    assert path.read_text() == "precious"


def test_the_folder_of_the_output_must_exist(folder, tmp_path):
    given = ("OASIS", "--data", folder, "--method", "80/20")
    for path, problem in (
        (tmp_path / "no" / "a.tsv", "there is no folder"),
        (tmp_path, "it is not a file, but a folder"),
    ):
        with pytest.raises(InputError, match=f"no file can be written at {path}: {problem}"):
            run(*given, "--output", path)
    assert not (tmp_path / "no").exists()


def test_a_refused_method_leaves_no_file(folder, tmp_path):
    path = tmp_path / "split.tsv"
    with pytest.raises(InputError, match="not '80:20'"):
        run("OASIS", "--data", folder, "--method", "80:20", "--output", path)
    assert not path.exists()


def test_no_torch_is_loaded():
    modules = ("datasets.registry", "cli.dataset", "datasets.split_methods")
    code = "".join(f"import mdan_zoo.{module}\n" for module in modules)
    code += "import sys; print({'torch', 'PIL'} & set(sys.modules), 'mdan_zoo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "True"]


def test_uncertain_training_images_are_left_out(tiny_model, tmp_path, capsys):
    """The split still has all images, so that a training accepts it, and the same test images."""
    leaves = get_hierarchy("mikels8").leaves
    names = [f"emotion_dataset/{leaf}/{number}.jpg" for leaf in leaves for number in range(5)]
    data = write_images(tmp_path / "fi", names)
    table = tmp_path / "p.csv"
    model = ("--checkpoint", tiny_model, "--device", "cpu")
    assert call("predict", data, *model, "--format", "csv", "--output", table) == 0
    given = ("FI", "--data", data, "--method", "80/20")
    assert run(*given, "--output", tmp_path / "all.tsv") == 0
    capsys.readouterr()
    output = tmp_path / "certain.tsv"
    _make_certain(table, "/0.jpg")
    assert run(*given, "--drop-uncertain", table, "--seed", 0, "--output", output) == 0
    before, after = Split.load(tmp_path / "all.tsv"), Split.load(output)
    assert after.images("test") == before.images("test")
    kept, removed = after.images("train"), after.images("uncertain")
    assert (
        f"train: {len(kept)} images\nuncertain: {len(removed)} images\n" in capsys.readouterr().out
    )
    assert sorted(kept + removed) == sorted(before.images("train"))
    assert removed
    assert not any(name.endswith("/0.jpg") for name in removed)
    select(after, read_dataset("FI", data), data, "train")


def _make_certain(table, ending):
    """Set the probability of a class of some images to 1; a random network has similar ones."""
    header, *rows = (line.split(",") for line in table.read_text().splitlines())
    for row in rows:
        if row[0].endswith(ending):
            first = header.index("emotion:amusement")
            row[first : first + 8] = ["1", *["0"] * 7]
    table.write_text("".join(",".join(row) + "\n" for row in (header, *rows)))
