"""A new architecture, defined in this file alone, in every part of the package.

It differs from the built-in ones where they are alike: branches of its own, no alpha, an auxiliary
loss, two groups of parameters, attention maps without L-CAM.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from architecture_tests import ArchitectureTests, tiny_config
from tiny_model import OWN_TREE, write_own_data
from torch import nn

from mdan_zoo import Predictor, create_model, explain
from mdan_zoo.cli.main import main
from mdan_zoo.errors import InputError
from mdan_zoo.models import (
    ArchitectureOptions,
    EmotionModel,
    EmotionOutput,
    list_architectures,
    register_architecture,
)
from mdan_zoo.models.layers import activation_maps, log_softmax
from mdan_zoo.weights.checkpoint import read_identity, save_checkpoint


@dataclass(frozen=True)
class ToyOptions(ArchitectureOptions):
    width: int = 8
    auxiliary_weight: float = 0.1


@register_architecture("toy", options=ToyOptions)
class Toy(EmotionModel):
    """The mean of a classifier of every level on C4 and a classifier of leaves on C5."""

    branches = ("texture", "object")
    loss_weights: Mapping[str, float] = {"overall": 1.0, "texture": 0.5, "object": 0.5}

    def __init__(self, backbone, channels, hierarchy, options=ToyOptions()):
        super().__init__(backbone, channels, hierarchy, options)
        self.project = nn.Conv2d(channels[2], options.width, 1)
        self.textures = nn.ModuleList(nn.Linear(options.width, k) for k in hierarchy.sizes)
        self.objects = nn.Linear(channels[3], hierarchy.sizes[-1])
        self.auxiliary = nn.Linear(options.width, hierarchy.sizes[0])

    def classify(self, pyramid, return_maps=False):
        texture = self.project(pyramid[2])
        attention = texture.square().mean(dim=1).sigmoid()
        pooled = (attention[:, None] * texture).mean(dim=(2, 3))
        features = pyramid[3].mean(dim=(2, 3))
        texture_logits = tuple(classifier(pooled) for classifier in self.textures)
        object_logits = self.objects(features)
        by_texture = tuple(log_softmax(logits) for logits in texture_logits)
        by_object = self.masks.sum_upwards(log_softmax(object_logits))
        overall = tuple(log_softmax(a + b) for a, b in zip(by_texture, by_object, strict=True))
        return EmotionOutput(
            log_probs={"overall": overall, "texture": by_texture, "object": by_object},
            features=features,
            logits={"texture": texture_logits, "object": (object_logits,)},
            auxiliary={"coarse": self.auxiliary(pooled)},
            dimensions={"contrast": pooled.norm(dim=1)},
            maps=tuple(attention for _ in self.textures) if return_maps else (),
            class_maps=tuple(activation_maps(texture, c) for c in self.textures)
            if return_maps
            else (),
        )

    def classifiers(self):
        levels = {f"textures.{level}": level for level in range(self.hierarchy.depth)}
        return {**levels, "objects": self.hierarchy.depth - 1, "auxiliary": 0}

    def parameter_groups(self):
        ((_, parameters),) = super().parameter_groups()
        fast = {id(parameter) for parameter in self.auxiliary.parameters()}
        return [
            (1.0, [p for p in parameters if id(p) not in fast]),
            (10.0, list(self.auxiliary.parameters())),
        ]

    def auxiliary_loss(self, output, targets):
        predicted = log_softmax(output.auxiliary["coarse"])
        return -self.options.auxiliary_weight * (targets[0] * predicted).sum(dim=1).mean()

    @classmethod
    def card_text(cls, backbone):
        return f"a toy on `{backbone}`"


CONFIG = tiny_config("toy")


class TestToy(ArchitectureTests):
    architectures = ("toy",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_own_data(tmp_path_factory.mktemp("data") / "feelings")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A checkpoint of two steps from random weights, as the command line trains it."""
    home = tmp_path_factory.mktemp("toy")
    torch.manual_seed(0)
    save_checkpoint(home / "start.safetensors", create_model(CONFIG), CONFIG)
    OWN_TREE.save(home / "tree.toml")
    options = [
        *("--init", home / "start.safetensors", "--recipe", "mdan_fi8"),
        *("--data", folder, "--hierarchy", home / "tree.toml", "--output", home / "run"),
        *("--set", "epochs=1", "--set", "batch_size=12", "--set", "split=all"),
        *("--workers", 0),
    ]
    assert main(["train", *map(str, options)]) == 0
    return home / "run" / "model.safetensors"


def test_it_is_created_and_saved_with_its_options(trained):
    assert "toy" in list_architectures()
    config, hierarchy = read_identity(trained)
    assert (config.architecture, config.options) == ("toy", ToyOptions())
    assert hierarchy == OWN_TREE
    network = create_model(config, hierarchy=OWN_TREE, checkpoint=trained)
    assert isinstance(network, Toy)
    report = json.loads((trained.parent / "training.json").read_text(encoding="utf-8"))
    assert report["recipe"]["epochs"] == 1


def test_its_branches_are_predicted(trained, folder):
    image = sorted(folder.glob("*/*.jpg"))[0]
    prediction = Predictor(checkpoint=trained, device="cpu").predict(image)
    assert list(prediction.probabilities) == ["overall", "texture", "object"]
    assert Predictor(checkpoint=trained, device="cpu", branch="texture").predict(image).path
    with pytest.raises(InputError, match="has no local branch; it has 'overall', 'texture'"):
        Predictor(checkpoint=trained, device="cpu", branch="local")


def test_it_is_explained_by_its_maps(trained, folder):
    image = sorted(folder.glob("*/*.jpg"))[0]
    explanation = explain(image, model=Predictor(checkpoint=trained, device="cpu"))
    assert [maps.labels for maps in explanation.levels] == list(OWN_TREE.levels)
    for maps in explanation.levels:
        assert maps.attention.shape == maps.class_maps.shape[1:] == (4, 4)
        assert maps.parent is None


def test_it_is_evaluated(trained, folder, tmp_path):
    options = ["--data", folder, "--dataset", "folder", "--output", tmp_path / "report"]
    assert main(["evaluate", *map(str, [trained, *options])]) == 0
    (path,) = (tmp_path / "report").glob("*.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert {score["branch"] for score in result["scores"]} == {"overall", "texture", "object"}
    assert not (tmp_path / "report" / "alpha.png").exists()


def test_it_is_published(trained, tmp_path):
    options = ["toy_feelings", "--weights", trained, "--licence", "MIT"]
    options += ["--folder", tmp_path / "public"]
    assert main(["publish", *map(str, options)]) == 0
    (card,) = (tmp_path / "public").rglob("README.md")
    assert "It is a toy on `test_resnet`." in card.read_text(encoding="utf-8")
    manifest = json.loads((tmp_path / "public" / "weights_manifest.json").read_text())
    assert manifest["models"]["toy_feelings"]["config"]["architecture"] == "toy"
