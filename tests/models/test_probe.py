"""Probes: classifiers of the embedding of a frozen backbone, of which the smallest ViT of timm."""

from __future__ import annotations

import pytest
import timm
import torch
from architecture_tests import images
from tiny_mdan import TREES
from tiny_model import OWN_TREE, write_own_data

from mdan_zoo import Predictor, explain
from mdan_zoo.errors import InputError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.options import ProbeOptions
from mdan_zoo.training import TrainingConfig, prepare, train
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.weights.checkpoint import save_checkpoint
from mdan_zoo.zoo.factory import build_network, create_model, load_network

VIT = "test_vit:embedding"


def config(backbone=VIT, **options):
    spec = InputSpec(resize=64, crop=64)
    options = ProbeOptions(**options)
    return ModelConfig("probe_tiny", "mikels8", "FI", backbone, "probe", options, spec)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("hidden", [0, 12])
def test_it_is_computed_as_specified(depth, hidden):
    """timm's own embedding of images that are not square, then the formulas, in float64."""
    torch.manual_seed(depth)
    network = create_model(config(hidden=hidden), hierarchy=TREES[depth]).double().eval()
    tower = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).double().eval()
    tower.load_state_dict(network.backbone.backbone.state_dict())
    pixels = images(3, 64, 96).double()
    output = network(pixels)
    embedding = tower(pixels)
    state = dict(network.named_parameters())
    x = embedding
    if hidden:
        x = x @ state["hidden.0.weight"].T + state["hidden.0.bias"]
        x = 0.5 * x * (1 + torch.erf(x / 2**0.5))
    fine = (x @ state["global_classifier.weight"].T + state["global_classifier.bias"]).softmax(1)
    expected = [fine]
    for parents in reversed(TREES[depth].parent_indices):
        rows = torch.tensor(parents)
        sums = [expected[0][:, rows == p].sum(dim=1) for p in range(int(rows.max()) + 1)]
        expected.insert(0, torch.stack(sums, dim=1))
    torch.testing.assert_close(output.features, embedding, rtol=1e-9, atol=1e-9)
    for found, level in zip(output.probs["overall"], expected, strict=True):
        torch.testing.assert_close(found, level, rtol=1e-9, atol=1e-9)
    head = [p for name, p in state.items() if not name.startswith("backbone.")]
    found = torch.autograd.grad(output.log_probs["overall"][0][:, 0].sum(), head)
    gradients = torch.autograd.grad(expected[0][:, 0].log().sum(), head)
    for a, b in zip(found, gradients, strict=True):
        assert torch.linalg.norm(a - b) <= 1e-9 * torch.linalg.norm(b)
        assert torch.linalg.norm(b) > 0


@pytest.mark.parametrize(("hidden", "expected"), [(0, 85_805_576), (512, 86_197_256)])
def test_parameters_of_a_probe_of_clip(hidden, expected):
    with torch.device("meta"):
        network = build_network(config("vit_base_patch16_clip_224:embedding", hidden=hidden))
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_options():
    with pytest.raises(InputError, match="hidden must be a whole number from 0 to 1048576, not -1"):
        ProbeOptions(hidden=-1)
    with pytest.raises(InputError, match="dropout must be at least 0 and below 1, not 1"):
        ProbeOptions(dropout=1)


def test_a_transformer_without_the_ending_is_refused_with_it():
    with pytest.raises(InputError, match="needs none: 'test_vit:embedding'"):
        build_network(config("test_vit"))


def test_class_maps_are_those_of_a_linear_classifier_of_maps(tmp_path):
    for number, (network_config, explained) in enumerate(
        [
            (config("test_resnet"), True),
            (config("test_resnet", hidden=4), False),
            (config(), False),
        ]
    ):
        torch.manual_seed(0)
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(path, create_model(network_config), network_config)
        predictor = Predictor(checkpoint=path, device="cpu")
        if explained:
            (level,) = explain("examples/cat.jpg", model=predictor).levels
            assert level.class_maps.shape == (8, 2, 2)
        else:
            with pytest.raises(InputError, match="probe_tiny cannot be explained: it has no class"):
                explain("examples/cat.jpg", model=predictor)


def plan(tmp_path, **changes):
    """A training of a probe with cached embeddings, from the weights of a file."""
    torch.manual_seed(0)
    start = config(hidden=6)
    save_checkpoint(tmp_path / "start.safetensors", create_model(start), start)
    views = {"cached_views": 2, "frozen_stages": 4, "min_crop_area": 0.6, **changes}
    values = {"split": "all", "batch_size": 8, "epochs": 20, "lr": 0.1, **views}
    recipe = Recipe("flat_oasis4", str(tmp_path / "start.safetensors"), **values)
    data = write_own_data(tmp_path / "data")
    return TrainingConfig(recipe, data, tmp_path / "run", hierarchy=OWN_TREE, workers=0)


def test_it_is_trained_on_cached_embeddings(tmp_path):
    config = plan(tmp_path)
    *others, embeddings = prepare(config).data.maps
    assert embeddings.shape == (2, 24, timm.create_model("test_vit").num_features, 1, 1)
    assert not any(maps.numel() for maps in others)
    train(config)
    _, start = load_network(tmp_path / "start.safetensors")
    _, trained = load_network(tmp_path / "run" / "model.safetensors")
    for name, value in start.backbone.state_dict().items():
        assert value.equal(trained.backbone.state_dict()[name]), name
    assert not start.hidden[0].weight.equal(trained.hidden[0].weight)
    predictor = Predictor(checkpoint=tmp_path / "run" / "model.safetensors", device="cpu")
    files = sorted((tmp_path / "data").glob("*/*.jpg"))
    found = [predictor.predict(file).path[-1] for file in files]
    assert sum(label == file.parent.name for label, file in zip(found, files, strict=True)) > 18


@pytest.mark.parametrize("frozen_stages", [0, 3])
def test_a_recipe_that_trains_the_backbone_is_refused(frozen_stages, tmp_path):
    changes = {"frozen_stages": frozen_stages, "cached_views": 2 if frozen_stages else 0}
    with pytest.raises(InputError, match=f"must be 4, not {frozen_stages}; the architecture flat"):
        train(plan(tmp_path, **changes))
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_an_embedding_cannot_be_frozen_in_part(tmp_path):
    flat = ModelConfig("flat_tiny", "mikels8", "FI", VIT, "flat", None, config().input)
    plan(tmp_path)
    save_checkpoint(tmp_path / "flat.safetensors", create_model(flat), flat)
    values = {"cached_views": 2, "frozen_stages": 3, "min_crop_area": 0.6, "split": "all"}
    recipe = Recipe("flat_oasis4", str(tmp_path / "flat.safetensors"), batch_size=8, **values)
    with pytest.raises(InputError, match="Embedding cannot be cut after its stage 3: freeze none"):
        train(TrainingConfig(recipe, tmp_path / "data", tmp_path / "run", hierarchy=OWN_TREE))
    assert not list((tmp_path / "run").glob("feature_cache-*"))


@pytest.mark.slow
def test_it_is_exported():
    torch.manual_seed(0)
    network = create_model(config(hidden=6)).eval()
    program = torch.export.export(network, (images(2),))
    with torch.no_grad():
        expected = network(images(2)).log_probs["overall"][1]
        torch.testing.assert_close(program.module()(images(2)).log_probs["overall"][1], expected)
