"""The whole way of a lab: train, be killed, go on, evaluate, fine-tune, publish, predict.

On crops of the two photographs in examples/, plain and darkened, which stand for four emotions.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from mdan_zoo.hierarchy import Hierarchy

EXAMPLES = Path(__file__).parents[1] / "examples"
TREE = Hierarchy.from_nested({"light": ["calm", "awe"], "dark": ["gloom", "fear"]})
WIDER_TREE = Hierarchy.from_nested({"light": ["calm", "awe"], "dark": ["gloom", "fear", "night"]})
SUBJECTS = {"calm": ("cat", 1.0), "awe": ("rocket", 1.0), "gloom": ("cat", 0.25)}
SUBJECTS |= {"fear": ("rocket", 0.25), "night": ("rocket", 0.05)}


def write_crops(folder: Path, tree: Hierarchy) -> Path:
    for label in tree.leaves:
        photo, brightness = SUBJECTS[label]
        (folder / label).mkdir(parents=True)
        with Image.open(EXAMPLES / f"{photo}.jpg") as picture:
            picture = ImageEnhance.Brightness(picture.convert("RGB")).enhance(brightness)
        side = min(picture.size) * 3 // 4
        for number in range(10):
            left = (picture.width - side) * (number % 5) // 4
            top = (picture.height - side) * (number // 5)
            crop = picture.crop((left, top, left + side, top + side))
            crop.resize((200, 200)).save(folder / label / f"{number}.jpg", quality=90)
    return folder


def start(*arguments: object, manifest: Path | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if manifest is not None:
        environment["MDAN_ZOO_MANIFEST"] = str(manifest)
    command = [sys.executable, "-m", "mdan_zoo", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def run(*arguments: object, manifest: Path | None = None) -> str:
    process = start(*arguments, manifest=manifest)
    printed, told = process.communicate()
    assert process.returncode == 0, told
    return printed


@pytest.mark.slow
def test_from_pictures_to_published_weights(tmp_path):
    data = write_crops(tmp_path / "data", TREE)
    TREE.save(tmp_path / "tree.toml")
    first = tmp_path / "light_and_dark"
    options = ("--data", data, "--hierarchy", tmp_path / "tree.toml")
    changes = [part for change in ("views=2", "batch_size=8") for part in ("--set", change)]

    # Trained, killed within, and gone on.
    command = ("train", "--init", "mdan_oasis4", *options, "--output", first, *changes)
    process = start(*command)
    while not (first / "training_state.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    weights = Path(run(*command).strip())
    assert weights == first / "model.safetensors"
    report = json.loads((first / "training.json").read_text())
    assert report["test"]["accuracy"][TREE.level_names[-1]] >= 0.6, "a quarter is chance"
    assert (first / "test" / "evaluation.md").exists()

    # Evaluated on the same pictures that were kept aside: the same numbers.
    split = ("--split", first / "split.tsv")
    run("evaluate", weights, "--data", data, *split, "--output", tmp_path / "report")
    evaluation = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    accuracy = {
        score["level"]: score["value"]
        for score in evaluation["scores"]
        if (score["measure"], score["branch"]) == ("accuracy", "overall")
    }
    assert accuracy == pytest.approx(report["test"]["accuracy"])

    # Fine-tuned on a tree with one more emotion.
    wider = write_crops(tmp_path / "wider", WIDER_TREE)
    WIDER_TREE.save(tmp_path / "wider.toml")
    second = tmp_path / "with_night"
    options = ("--data", wider, "--hierarchy", tmp_path / "wider.toml", "--output", second)
    recipe = ("--set", "epochs=4", "--set", "split=all")
    run("train", "--init", weights, *options, *changes, *recipe)

    # Published to a folder, and used by its name.
    served = tmp_path / "served"
    published = ("--weights", second / "model.safetensors", "--licence", "CC0-1.0")
    entry = json.loads(run("publish", "with_night", *published, "--folder", served))
    assert "with_night" in json.dumps(entry)
    manifest = served / "weights_manifest.json"
    assert "with_night" in run("list", manifest=manifest)
    run("verify", "with_night", manifest=manifest)
    printed = run(
        "predict",
        EXAMPLES / "rocket.jpg",
        "--model",
        "with_night",
        "--format",
        "json",
        manifest=manifest,
    )
    prediction = json.loads(printed)
    assert prediction["error"] is None
    assert set(prediction["levels"][1]["scores"]) == set(WIDER_TREE.leaves)
