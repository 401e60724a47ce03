"""The scripts in examples/, run as a reader runs them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mdan_zoo import Predictor
from mdan_zoo.weights.checkpoint import read_identity

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(tmp_path):
    """Run a script in an empty folder, which also takes its temporary files; return its output."""

    def run(name: str, *arguments: object) -> str:
        before = contents(EXAMPLES)
        done = subprocess.run(
            [sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert contents(EXAMPLES) == before, "nothing is written beside the scripts"
        return done.stdout

    return run


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_folder_is_predicted_as_csv(run, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for photo in ("cat.jpg", "rocket.jpg"):
        shutil.copy(EXAMPLES / photo, folder)
    (folder / "broken.jpg").write_bytes(b"no image")
    rows = list(csv.DictReader(run("predict_folder", folder).splitlines()))
    names = ("broken.jpg", "cat.jpg", "rocket.jpg")
    assert [row["image"] for row in rows] == [str(folder / name) for name in names]
    assert rows[0]["error"].startswith("not an image that Pillow can read")
    good = rows[1:]
    for row, prediction in zip(good, Predictor().predict([r["image"] for r in good]), strict=True):
        assert row["error"] == ""
        for level in prediction.levels:
            for name, score in level.scores.items():
                assert float(row[f"{level.name}:{name}"]) == pytest.approx(score, abs=1e-3)
    bundled = [row["image"] for row in csv.DictReader(run("predict_folder").splitlines())]
    assert bundled == [str(EXAMPLES / "cat.jpg"), str(EXAMPLES / "rocket.jpg")]


@pytest.mark.slow
def test_an_image_is_explained(run, tmp_path):
    printed = run("explain_image").splitlines()
    prediction = Predictor().predict(EXAMPLES / "cat.jpg")
    assert printed[0] == str(prediction)
    levels = prediction.hierarchy.level_names
    assert [line.partition(":")[0] for line in printed[1:-1]] == list(levels)
    with Image.open(tmp_path / "explained.png") as figure:
        figure.load()
        assert min(figure.size) > 300


@pytest.mark.slow
def test_a_model_is_fine_tuned(run, tmp_path):
    printed = dict(line.split(": ") for line in run("fine_tune").splitlines())
    assert Path(printed["weights"]).is_relative_to(tmp_path)
    _, tree = read_identity(printed["weights"])
    assert tree.to_nested() == {
        "dark": ["dark cat", "dark rocket"],
        "light": ["light cat", "light rocket"],
    }
    report = json.loads(Path(printed["report"]).with_suffix(".json").read_text())
    accuracy = {
        score["level"]: score["value"]
        for score in report["scores"]
        if (score["measure"], score["branch"]) == ("accuracy", "overall")
    }
    assert report["images"] == 8
    assert accuracy["fine"] >= 0.75, "a quarter is chance"
