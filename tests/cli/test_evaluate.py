"""`mdan-zoo evaluate`: reports, parts and splits, and arguments that are refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from dataset_trees import write_fi, write_images
from random_weights import CONFIG, save_random_weights

from mdan_zoo.datasets.readers.oasis import read_oasis
from mdan_zoo.datasets.split_methods import make_split
from mdan_zoo.datasets.splits import Split
from mdan_zoo.errors import (
    CheckpointError,
    DatasetError,
    ImageError,
    InputError,
    UnknownNameError,
    WeightsUnavailableError,
)
from mdan_zoo.evaluation import find_samples
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.weights.manifest import load_manifest

MIKELS = get_hierarchy("mikels8")


@pytest.fixture(scope="module")
def folder(oasis_folder) -> Path:
    return oasis_folder


@pytest.fixture(scope="module")
def fi(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of FI with its own split, and random weights for its hierarchy."""
    weights = tmp_path_factory.mktemp("weights") / "model.safetensors"
    config = dataclasses.replace(CONFIG, name="mdan_fi8", hierarchy="mikels8", dataset="FI")
    save_random_weights(weights, config=config)
    return write_fi(tmp_path_factory.mktemp("fi")), weights


run = functools.partial(call, "evaluate")


@pytest.mark.slow
def test_the_command_writes_numbers_report_and_figures(folder, tmp_path, capsys):
    output = tmp_path / "report"
    given = ("--data", folder, "--output", output, "--device", "cpu", "--bootstrap", 200)
    assert run("mdan_oasis4", *given, "--seed", 3) == 0
    names = {"confusion_polarity.png", "confusion_quadrant.png", "reliability.png", "alpha.png"}
    names |= {"confusion_polarity_local.png", "confusion_quadrant_local.png"}
    names |= {"evaluation.json", "evaluation.md", "probabilities.npz"}
    assert {path.name for path in output.iterdir()} == names
    numbers = json.loads((output / "evaluation.json").read_text())
    assert numbers["weights_sha256"] == load_manifest()["mdan_oasis4"].sha256
    assert (numbers["dataset"], numbers["images"]) == ("OASIS", 12)
    about = {"resamples": 200, "seed": 3, "interval": 0.95, "groups": 6}
    assert numbers["bootstrap"] == about
    assert numbers["calibration_bins"] == 15
    scores = {(s["branch"], s["level"], s["measure"]): s["value"] for s in numbers["scores"]}
    assert len(scores) == 3 * (2 * 5 + 2 + 3)
    with np.load(output / "probabilities.npz", allow_pickle=False) as arrays:
        assert arrays["images"][0] == "images/Beach 1.jpg"
        predicted = arrays["local_quadrant"].argmax(axis=1)
        right = np.mean(predicted == arrays["labels_quadrant"])
    assert scores["local", "quadrant", "accuracy"] == pytest.approx(right)
    report = (output / "evaluation.md").read_text()
    assert f"sha256 `{numbers['weights_sha256']}`" in report
    assert f"{100 * right:.2f} (" in report
    assert all(f"]({name})" in report for name in names if name.endswith(".png"))
    # What is printed is the report without its figures.
    printed = capsys.readouterr().out
    assert printed.startswith("# mdan_oasis4 on OASIS\n")
    assert "![" not in printed


def test_the_paper_stands_apart(fi, capsys):
    folder, weights = fi
    assert run(weights, "--data", folder, "--bootstrap", 100, "--device", "cpu") == 0
    ours, _, others = capsys.readouterr().out.partition("## Results of the paper (not reproduced)")
    theirs, _, elsewhere = others.partition("## Results from other sources (not reproduced)")
    assert "mdan_fi8 on FI" in ours
    assert "76.41" not in ours
    assert "| MDAN | emotion | overall | 76.41 | Table 1, Ours |" in theirs
    assert "95 %" not in theirs
    assert "70 to 74" not in ours + theirs
    assert "| models of later papers | emotion | 70 to 74 | later papers |" in elsewhere
    assert "| majority class | polarity | 70.5 | class counts |" in elsewhere


def test_the_official_test_part_is_the_default(fi, capsys):
    folder, weights = fi
    samples, source = find_samples("FI", folder, MIKELS)
    assert {sample.split for sample in samples} == {"test"}
    assert (source.split, source.part, len(samples)) == ("official", "test", 16)
    assert find_samples("FI", folder, MIKELS, part="train")[1].part == "train"
    run(weights, "--data", folder, "--bootstrap", 100, "--device", "cpu")
    assert f"| split | official, sha256 `{source.split_sha256}` |" in capsys.readouterr().out


def test_a_split_file_says_what_is_evaluated(folder, tmp_path, capsys):
    samples = read_oasis(folder)
    split = make_split("OASIS", samples, folder, "80/20")
    path = tmp_path / "split.tsv"
    split.save(path)
    output = tmp_path / "report"
    given = ("--data", folder, "--bootstrap", 100, "--device", "cpu", "--split", path)
    assert run("mdan_oasis4", *given, "--output", output) == 0
    with np.load(output / "probabilities.npz") as arrays:
        assert tuple(arrays["images"]) == tuple(f"images/{name}" for name in split.images("test"))
    assert f"| split | 80/20, seed 0, sha256 `{split.sha256}` |" in capsys.readouterr().out


def test_excluded_images_are_not_evaluated(fi, tmp_path, capsys):
    folder, weights = fi
    path = tmp_path / "exclude.tsv"
    path.write_text("FI/test/awe/0.jpg\nFI/test/fear/1.jpg\n")
    given = (weights, "--data", folder, "--bootstrap", 100, "--device", "cpu")
    assert run(*given, "--exclude", path) == 0
    assert "| images | 14 in" in capsys.readouterr().out
    path.write_text("FI/test/awe/2.jpg\n")
    with pytest.raises(DatasetError, match=r"not among the 24 images .*: 'FI/test/awe/2\.jpg'"):
        run(*given, "--exclude", path)


def test_a_part_is_enough_for_a_data_set_that_comes_divided(fi, tmp_path, capsys, monkeypatch):
    folder, weights = fi
    given = (weights, "--data", folder, "--bootstrap", 100, "--device", "cpu")
    for part, images in (("train", 8), ("test", 16)):
        assert run(*given, "--split", part) == 0
        printed = capsys.readouterr().out
        assert f"| part | {part} |" in printed
        assert f"| images | {images} in" in printed
    with pytest.raises(InputError, match="--split train and --part test are two parts"):
        run(*given, "--split", "train", "--part", "test")
    monkeypatch.chdir(tmp_path)
    Path("test").write_text("no split")
    with pytest.raises(DatasetError, match="a split begins with"):
        run(*given, "--split", "test")


@pytest.mark.slow
def test_a_part_is_that_of_the_split_next_to_the_weights(fi, tmp_path, capsys):
    folder, weights = fi
    beside = tmp_path / "model.safetensors"
    shutil.copy(weights, beside)
    samples = find_samples("FI", folder, MIKELS, part="train")[0]
    samples += find_samples("FI", folder, MIKELS, part="test")[0]
    split = make_split("FI", samples, folder, "50/50")
    split.save(tmp_path / "split.tsv")
    given = (beside, "--data", folder, "--bootstrap", 100, "--device", "cpu")
    assert run(*given, "--split", "test") == 0
    assert f"| split | 50/50, seed 0, sha256 `{split.sha256}` |" in capsys.readouterr().out
    Split.from_parts("other", "mine", ".", dict(split.parts)).save(tmp_path / "split.tsv")
    assert run(*given, "--split", "test") == 0
    assert "| split | official, sha256" in capsys.readouterr().out


def test_other_class_names_are_compared_with_a_label_map(tmp_path, capsys):
    data = write_images(tmp_path / "data", ["happy/1.jpg", "happy/2.jpg", "sad/3.jpg", "odd/4.jpg"])
    (tmp_path / "map.csv").write_text("label,class\nhappy,positive\nsad,negative\nodd,\n")
    given = ("--dataset", "folder", "--data", data, "--bootstrap", 100, "--device", "cpu")
    assert run("mdan_oasis4", *given, "--label-map", tmp_path / "map.csv") == 0
    printed = capsys.readouterr().out
    assert "| levels compared | polarity |" in printed
    classes = "| classes of the model by class of the dataset | happy: positive, sad: negative |"
    assert classes in printed
    assert "| images left out | 1, of odd: 1 |" in printed
    assert "## polarity: 2 classes" in printed
    assert "## quadrant" not in printed
    with pytest.raises(InputError, match=r"'positive', which is no class .*: available: gloomy"):
        run("mdan_oasis4", *given, "--label-map", tmp_path / "map.csv", "--level", "quadrant")
    with pytest.raises(DatasetError, match=r"happy, odd, sad, is a class .*; give a label map"):
        run("mdan_oasis4", *given)


@pytest.mark.slow
def test_the_level_can_be_given(fi, folder, capsys):
    fi_folder, weights = fi
    given = ("--bootstrap", 100, "--device", "cpu")
    assert run(weights, "--data", fi_folder, *given, "--level", "polarity") == 0
    coarse = capsys.readouterr().out
    assert "| images left out | none |" in coarse
    assert "## emotion" not in coarse
    assert run(weights, "--data", fi_folder, *given) == 0
    whole = capsys.readouterr().out
    assert "levels compared" not in whole
    sections = [text.partition("## polarity")[2].partition("\n## ")[0] for text in (coarse, whole)]
    assert sections[0] == sections[1] != ""
    assert run(weights, "--dataset", "OASIS", "--data", folder, *given) == 0
    assert "| levels compared | polarity |" in capsys.readouterr().out


def test_images_that_cannot_be_read_are_listed(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "oasis")
    (broken / "images" / "Fog 2.jpg").write_bytes(b"no image")
    (broken / "images" / "Fire 1.jpg").write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        run("mdan_oasis4", "--data", broken, "--device", "cpu")
    message = str(caught.value)
    assert message.startswith("2 of the 12 images cannot be evaluated:\n")
    assert "Fog 2.jpg: " in message
    assert "Fire 1.jpg: " in message


def test_the_report_says_which_views_were_averaged(folder, tmp_path, capsys):
    given = ("--data", folder, "--device", "cpu", "--bootstrap", 100)
    assert run("flat_oasis4", *given) == 0
    assert "\n| views | single |\n" in capsys.readouterr().out
    assert run("flat_oasis4", *given, "--views", "flip", "--output", tmp_path) == 0
    row = "| views | flip: averaged over 2 views of each image, for 2 times the computing time |"
    assert f"\n{row}\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "evaluation.json").read_text())["views"] == "flip"
    saved = np.load(tmp_path / "probabilities.npz")
    predictor = Predictor("flat_oasis4", device="cpu", views="flip")
    expected = [
        predictor.predict(folder / str(name)).probabilities["global"][1] for name in saved["images"]
    ]
    np.testing.assert_allclose(saved["global_quadrant"], expected, atol=2e-6)


def test_arguments_that_are_wrong(folder, tmp_path):
    with pytest.raises(InputError, match=r"resamples must be at least 100 .*, got 5"):
        run("mdan_oasis4", "--data", folder, "--bootstrap", 5)
    with pytest.raises(InputError, match="seed must be at least 0, got -1"):
        run("mdan_oasis4", "--data", folder, "--seed", -1)
    with pytest.raises(UnknownNameError, match="no model 'mdan_oasis'; did you mean 'mdan_oasis4'"):
        run("mdan_oasis", "--data", folder)
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*gone\.safetensors"):
        run(tmp_path / "gone.safetensors", "--data", folder)
    with pytest.raises(WeightsUnavailableError, match="mdan_fi8 has no released weights"):
        run("mdan_fi8", "--data", folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot create the folder"):
        run("mdan_oasis4", "--data", folder, "--output", tmp_path / "file")


@pytest.mark.slow
def test_a_missing_matplotlib_is_reported_before_the_work(tmp_path):
    """In a process that cannot import it, as where the package was installed without the extra."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from mdan_zoo.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "evaluate", "mdan_oasis4"]
    given = ["--data", tmp_path / "nowhere", "--output", tmp_path / "report"]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "figures require matplotlib" in done.stderr
    assert "pip install 'mdan-zoo[evaluate]'" in done.stderr
    assert not (tmp_path / "report").exists()
