"""The whole way of a lab: train, be killed, go on, evaluate, fine-tune, publish, predict.

On crops of the two photographs in examples/, plain and darkened, which stand for four emotions, and
on real, rated photographs where they are at hand.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARED = Path(__file__).parents[3] / "shared"
OASIS = SHARED / "data" / "oasis"
BACKBONE = SHARED / "weights" / "mobilenetv2_100.safetensors"
TREE = Hierarchy.from_nested({"light": ["calm", "awe"], "dark": ["gloom", "fear"]})
WIDER_TREE = Hierarchy.from_nested({"light": ["calm", "awe"], "dark": ["gloom", "fear", "night"]})
SUBJECTS = {"calm": ("cat", 1.0), "awe": ("rocket", 1.0), "gloom": ("cat", 0.25)}
CHANGES = ("--set", "cached_views=2", "--set", "batch_size=8")
SIZE = ("--size", 160)  # a quarter of the pixels of mdan_oasis4
SUBJECTS |= {"fear": ("rocket", 0.25), "night": ("rocket", 0.05)}


def write_crops(folder: Path, tree: Hierarchy) -> Path:
    for label in tree.leaves:
        photo, brightness = SUBJECTS[label]
        (folder / label).mkdir(parents=True)
        with Image.open(EXAMPLES / f"{photo}.jpg") as image:
            image = ImageEnhance.Brightness(image.convert("RGB")).enhance(brightness)
        side = min(image.size) * 3 // 4
        for number in range(10):
            left = (image.width - side) * (number % 5) // 4
            top = (image.height - side) * (number // 5)
            crop = image.crop((left, top, left + side, top + side))
            crop.resize((200, 200)).save(folder / label / f"{number}.jpg", quality=90)
    return folder


Command = Callable[..., str]


@pytest.fixture
def command(run, monkeypatch) -> Command:
    """Run a command, which must succeed, in this process; return its output."""

    def succeed(*arguments: object, manifest: Path | None = None) -> str:
        with monkeypatch.context() as environment:
            if manifest is not None:
                environment.setenv("MDAN_ZOO_MANIFEST", str(manifest))
            status, output, messages = run(*arguments)
        assert status == 0, messages
        return output

    return succeed


def train_with_a_kill(
    command: Command, *arguments: object, output: Path
) -> tuple[Path, dict[str, Any]]:
    """Train, killed after an epoch and started again; return the weights and the report."""
    training = [*map(str, ("train", *arguments, "--output", output))]
    process = subprocess.Popen(
        [sys.executable, "-m", "mdan_zoo", *training],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (output / "training_state.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    weights = Path(command(*training).strip())
    assert weights == output / "model.safetensors"
    assert (output / "test" / "evaluation.md").exists()
    return weights, json.loads((output / "training.json").read_text())


def evaluate_again(command: Command, weights: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Evaluate on the images that were kept aside: the numbers are the training's."""
    split = ("--split", weights.parent / "split.tsv")
    command("evaluate", weights, "--data", data, *split, "--output", folder, "--bootstrap", 100)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    accuracy = {
        score["level"]: score["value"]
        for score in evaluation["scores"]
        if (score["measure"], score["branch"]) == ("accuracy", "overall")
    }
    report = json.loads((weights.parent / "training.json").read_text())
    assert accuracy == pytest.approx(report["test"]["accuracy"])
    return evaluation


def publish_and_predict(
    command: Command, name: str, weights: Path, image: Path, served: Path
) -> set[str]:
    """Publish to a folder and predict by the name; return the classes of the finest level."""
    published = ("--weights", weights, "--licence", "CC0-1.0", "--folder", served)
    assert name in json.dumps(json.loads(command("publish", name, *published)))
    manifest = served / "weights_manifest.json"
    printed = command("predict", image, "--model", name, "--format", "json", manifest=manifest)
    prediction = json.loads(printed)
    assert prediction["error"] is None
    return set(prediction["levels"][-1]["scores"])


@pytest.mark.slow
def test_from_images_to_published_weights(command, tmp_path):
    data = write_crops(tmp_path / "data", TREE)
    TREE.save(tmp_path / "tree.toml")
    options = ("--data", data, "--hierarchy", tmp_path / "tree.toml", "--set", "epochs=12")
    weights, report = train_with_a_kill(
        command,
        "--init",
        "mdan_oasis4",
        *options,
        *SIZE,
        *CHANGES,
        output=tmp_path / "light_and_dark",
    )
    assert report["test"]["accuracy"][TREE.level_names[-1]] >= 0.6, "a quarter is chance"
    evaluate_again(command, weights, data, tmp_path / "report")

    # Fine-tuned on a tree with one more emotion.
    wider = write_crops(tmp_path / "wider", WIDER_TREE)
    WIDER_TREE.save(tmp_path / "wider.toml")
    second = tmp_path / "with_night"
    options = ("--data", wider, "--hierarchy", tmp_path / "wider.toml", "--output", second)
    recipe = ("--set", "epochs=4", "--set", "split=all")
    command("train", "--init", weights, *options, *CHANGES, *recipe)
    classes = publish_and_predict(
        command,
        "with_night",
        second / "model.safetensors",
        EXAMPLES / "rocket.jpg",
        tmp_path / "served",
    )
    assert classes == set(WIDER_TREE.leaves)
    manifest = tmp_path / "served" / "weights_manifest.json"
    assert "with_night" in command("list", manifest=manifest)
    command("verify", "with_night", manifest=manifest)


@pytest.mark.slow
@pytest.mark.skipif(not OASIS.is_dir(), reason="the OASIS images are not at ../shared")
@pytest.mark.skipif(not BACKBONE.is_file(), reason="ImageNet weights are not at ../shared")
def test_from_real_images_to_published_weights(command, tmp_path):
    """Every sixteenth photograph of OASIS, with its ratings, from the backbone's weights on."""
    header, *rows = (OASIS / "norms.csv").read_text(encoding="utf-8").splitlines()
    data = tmp_path / "data"
    data.mkdir()
    (data / "norms.csv").write_text("\n".join([header, *rows[::16]]), encoding="utf-8")
    (data / "images").symlink_to(OASIS / "images")
    options = ("--data", data, "--backbone-weights", BACKBONE)
    recipe = ("--set", "epochs=3", "--set", "split=80/20")
    weights, report = train_with_a_kill(
        command, "mdan_oasis4", *options, *SIZE, *CHANGES, *recipe, output=tmp_path / "run"
    )
    assert len(report["history"]) == 3
    evaluation = evaluate_again(command, weights, data, tmp_path / "report")
    assert (evaluation["dataset"], evaluation["images_trained_on"]) == ("OASIS", 0)
    assert evaluation["images"] + report["images"] == len(rows[::16]) == 42
    classes = publish_and_predict(
        command, "my_oasis", weights, next((OASIS / "images").iterdir()), tmp_path / "served"
    )
    assert classes == set(get_hierarchy("circumplex4").leaves)
    entry = json.loads((tmp_path / "served" / "weights_manifest.json").read_text())["models"]
    assert entry["my_oasis"]["command"] == report["command"]
    (row,) = entry["my_oasis"]["metrics"]["rows"]
    accuracy = report["test"]["accuracy"]
    assert row == {"branch": "overall"} | {f"{k}_accuracy": v for k, v in accuracy.items()}
