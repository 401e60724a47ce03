"""Flat classifiers of embeddings: AlexNet, VGG-16 and a small network with their fc layers."""

from __future__ import annotations

import dataclasses

import pytest
import timm
import torch
import torch.nn.functional as F
from oasis_folder import write_oasis
from tiny_mdan import TREES
from torch import nn

from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.training import TrainingConfig, prepare
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.zoo.factory import build_network, create_model

SPEC = InputSpec(resize=64, crop=64)


def config(backbone, architecture="flat", **values):
    return ModelConfig("model", "mikels8", "FI", backbone, architecture, input=SPEC, **values)


def conv(x, state, name, **options):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options).relu()


def linear(x, state, name):
    weight = state[f"{name}.weight"]
    return x @ weight.reshape(len(weight), -1).T + state[f"{name}.bias"]


def alexnet(x, state):
    """AlexNet as specified: 64-192-384-256-256 filters, 3 x 3 pooling, 6 x 6 inputs of fc6."""
    x = F.max_pool2d(conv(x, state, "features.0", stride=4, padding=2), 3, 2)
    x = F.max_pool2d(conv(x, state, "features.3", padding=2), 3, 2)
    x = conv(conv(x, state, "features.6", padding=1), state, "features.8", padding=1)
    x = F.max_pool2d(conv(x, state, "features.10", padding=1), 3, 2)
    x = F.adaptive_avg_pool2d(x, 6).flatten(1)
    return linear(linear(x, state, "classifier.1").relu(), state, "classifier.4").relu()


def vgg16(x, state):
    """VGG-16 as specified: 13 convolutions in five blocks, 7 x 7 inputs of fc6."""
    number = 0
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            x = conv(x, state, f"features.{number}", padding=1)
            number += 2
        x, number = F.max_pool2d(x, 2), number + 1
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    return linear(linear(x, state, "pre_logits.fc1").relu(), state, "pre_logits.fc2").relu()


def assert_equal_the_formulas(backbone, embed, checked, width=320):
    """Compare outputs and gradients, with images of which the last maps exceed the pooled size."""
    torch.manual_seed(0)
    network = create_model(config(backbone), hierarchy=TREES[2]).double().eval()
    images = torch.randn(2, 3, 256, width, dtype=torch.float64)
    output = network(images, return_maps=True)
    state = {
        name.removeprefix("backbone.").removeprefix("backbone."): value
        for name, value in network.named_parameters()
    }
    embedding = embed(images, state)
    logits = linear(embedding, state, "global_classifier")
    torch.testing.assert_close(output.features, embedding, rtol=1e-9, atol=1e-9)
    fine = logits.log_softmax(dim=1)
    parents = torch.tensor(TREES[2].parent_indices[0])
    coarse = torch.stack([fine[:, parents == p].exp().sum(dim=1).log() for p in (0, 1)], dim=1)
    for found, expected in zip(output.log_probs["overall"], (coarse, fine), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    parameters = [state[name] for name in checked]
    found, expected = (
        torch.autograd.grad(coarse[:, 0].sum() + fine[:, 3].sum(), parameters)
        for coarse, fine in (output.log_probs["overall"], (coarse, fine))
    )
    for name, a, b in zip(checked, found, expected, strict=True):
        assert torch.linalg.norm(a - b) <= 1e-9 * torch.linalg.norm(b), name
        assert torch.linalg.norm(b) > 0, name
    assert output.maps == output.class_maps == (), "an embedding has no maps"


def test_alexnet_is_computed_as_specified():
    assert_equal_the_formulas(
        "alexnet:embedding", alexnet, ["features.0.weight", "classifier.4.bias"]
    )


@pytest.mark.slow
def test_vgg16_is_computed_as_specified():
    checked = ["features.0.weight", "pre_logits.fc2.bias"]
    assert_equal_the_formulas("vgg16:embedding", vgg16, checked, width=32)


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("alexnet:embedding", 57_036_616),
        ("vgg16:embedding", 134_293_320),
        ("vgg16", 14_718_792),
        ("smallcnn:embedding", 11_162_208),  # 11,162,058 with two classes
    ],
)
def test_parameters(backbone, expected):
    with torch.device("meta"):
        network = build_network(config(backbone), get_hierarchy("mikels8"))
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_dropout_precedes_fc6_and_fc7_of_alexnet_and_follows_those_of_vgg16():
    kinds = (nn.Linear, nn.Conv2d, nn.Dropout)
    for backbone, expected in (
        ("alexnet:embedding", ["Dropout", "Linear", "Dropout", "Linear"]),
        ("vgg16:embedding", ["Conv2d", "Dropout", "Conv2d", "Dropout"]),
    ):
        with torch.device("meta"):
            network = build_network(config(backbone))
        layers = [layer for layer in network.backbone.modules() if isinstance(layer, kinds)]
        assert [type(layer).__name__ for layer in layers[-4:]] == expected
        assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


def test_networks_that_read_maps_refuse_an_embedding():
    with pytest.raises(InputError, match=r"architecture mdan reads feature maps, .*remove ':embed"):
        build_network(config("test_vit:embedding", "mdan"))


def smallcnn(x, state):
    """The small network as specified: 96 and 256 filters, 1024, 1024 and 24 units."""
    for name, stride, padding in (("features.0", 4, 0), ("features.4", 2, 2)):
        x = conv(x, state, name, stride=stride, padding=padding)
        # Local response normalisation over five neighbouring channels.
        squares = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
        sums = sum(squares[:, start : start + x.shape[1]] for start in range(5))
        x = F.max_pool2d(x / (1 + 1e-4 / 5 * sums) ** 0.75, 3, 2)
    x = F.adaptive_avg_pool2d(x, 6).flatten(1)
    for number in (2, 4, 6):
        x = linear(x, state, f"classifier.{number}").relu()
    return x


def test_smallcnn_is_computed_as_specified():
    checked = ["features.0.weight", "features.4.bias", "classifier.2.weight", "classifier.6.bias"]
    assert_equal_the_formulas("smallcnn:embedding", smallcnn, checked)


def test_smallcnn_pools_nothing_at_224_pixels():
    features = timm.create_model("smallcnn").features
    with torch.inference_mode():
        assert features(torch.zeros(1, 3, 224, 224)).shape == (1, 256, 6, 6)


def test_smallcnn_is_trained_from_the_random_weights_of_the_seed(tmp_path):
    recipe = Recipe("flat_oasis4", "", split="all", seed=3)
    data = write_oasis(tmp_path / "oasis")
    first, second, other = (
        prepare(
            TrainingConfig(
                dataclasses.replace(recipe, seed=seed),
                data,
                tmp_path / "run",
                backbone="smallcnn:embedding",
            )
        )
        for seed in (3, 3, 4)
    )
    for name, value in first.backbone_state.items():
        assert value.equal(second.backbone_state[name]), name
    assert not value.equal(other.backbone_state[name])
