"""Tests that every architecture passes, for hierarchies of one to three levels.

class TestMine(ArchitectureTests):
    architectures = ("mine",)
"""

from __future__ import annotations

import copy
import functools
from typing import ClassVar

import pytest
import torch
from tiny_mdan import TREES

from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.preprocessing import Preprocessing
from mdan_zoo.models.base import EmotionModel, EmotionOutput, LeafClassifier
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.options import (
    ArchitectureOptions,
    CNNRNNOptions,
    FPNOptions,
    IntensityOptions,
    MDANOptions,
)
from mdan_zoo.models.registry import get_architecture, list_architectures
from mdan_zoo.training.losses import TrainingStep, level_targets
from mdan_zoo.training.optimizer import build_optimizer, set_mode
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.run import load_model_file
from mdan_zoo.weights.checkpoint import save_checkpoint
from mdan_zoo.zoo.factory import create_model, load_network

SIZE = 64


NARROW = {
    "mdan": MDANOptions(dim=64),
    "fpn": FPNOptions(dim=16),
    "cnnrnn": CNNRNNOptions(dim=16),
    "intensity": IntensityOptions(dim=16),
}


def tiny_config(architecture: str, options: ArchitectureOptions | None = None) -> ModelConfig:
    """Return a config with one of timm's smallest backbones, and by default few channels."""
    return ModelConfig(
        f"{architecture}_tiny",
        "mikels8",
        "FI",
        "test_resnet",
        architecture,
        options or NARROW.get(architecture),
        input=InputSpec(resize=SIZE, crop=SIZE),
    )


@functools.cache
def tiny_network(architecture: str, depth: int) -> EmotionModel:
    """Return a network with random weights, which tests must not change."""
    torch.manual_seed(depth)
    network = create_model(tiny_config(architecture), hierarchy=TREES[depth])
    network(images())  # BatchNorm learns statistics, or the activations vanish
    return network.eval()


@functools.cache
def tiny_output(architecture: str, depth: int) -> EmotionOutput:
    with torch.no_grad():
        return tiny_network(architecture, depth)(images())


def images(count: int = 4, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, height, width, generator=generator)


def assert_same_output(output, expected, tolerance=1e-4):
    assert output.log_probs.keys() == expected.log_probs.keys()
    for branch, levels in expected.log_probs.items():
        for a, b in zip(output.log_probs[branch], levels, strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


class ArchitectureTests:
    """The tests; a subclass names the architectures."""

    architectures: ClassVar[tuple[str, ...]]

    def pytest_generate_tests(self, metafunc):
        if "architecture" not in metafunc.fixturenames:
            return
        if "depth" not in metafunc.fixturenames:
            metafunc.parametrize("architecture", self.architectures, scope="class")
            return
        pairs = [(a, depth) for a in self.architectures for depth in (1, 2, 3)]
        if metafunc.definition.get_closest_marker("slow"):
            # The probabilities of three levels are summed as those of one and two are.
            pairs = [(a, depth) for a, depth in pairs if depth == 3 or not _sums_upwards(a)]
        metafunc.parametrize(("architecture", "depth"), pairs, scope="class")

    @pytest.fixture
    def config(self, architecture) -> ModelConfig:
        return tiny_config(architecture)

    @pytest.fixture
    def network(self, architecture, depth) -> EmotionModel:
        return tiny_network(architecture, depth)

    @pytest.fixture
    def expected(self, architecture, depth) -> EmotionOutput:
        return tiny_output(architecture, depth)

    def test_output_has_every_branch_and_level(self, network, expected, depth):
        assert list(expected.log_probs) == ["overall", *network.branches]
        assert set(expected.logits) <= set(network.branches)
        assert expected.features.shape == (4, network.feature_dim)
        for levels in expected.log_probs.values():
            assert [tuple(level.shape) for level in levels] == [(4, k) for k in TREES[depth].sizes]
            assert all(level.dtype == torch.float32 for level in levels)

    def test_probabilities_sum_to_one(self, expected):
        for levels in expected.probs.values():
            for level in levels:
                torch.testing.assert_close(level.sum(dim=1), torch.ones(4))

    def test_a_branch_with_one_classifier_respects_the_hierarchy(self, network, expected, depth):
        single = [branch for branch, logits in expected.logits.items() if len(logits) == 1]
        if len(network.branches) == 1 and len(expected.logits.get(network.branches[0], ())) <= 1:
            single.append("overall")
        for branch in single:
            levels = expected.probs[branch]
            for level, parents in enumerate(TREES[depth].parent_indices):
                sums = torch.zeros_like(levels[level])
                sums.index_add_(1, torch.tensor(parents), levels[level + 1])
                torch.testing.assert_close(levels[level], sums)

    def test_overall_is_the_weighted_mean_if_the_network_says_so(self, network, expected):
        if network.alpha is None:
            pytest.skip("the network has no alpha")
        probs = expected.probs
        for by_local, by_global, overall in zip(
            probs["local"], probs["global"], probs["overall"], strict=True
        ):
            mean = network.alpha * by_local + (1 - network.alpha) * by_global
            torch.testing.assert_close(overall, mean)

    def test_maps_are_returned_on_request(self, network, expected, depth):
        assert expected.maps == expected.class_maps == ()
        with torch.no_grad():
            output = network(images(2, SIZE, 96), return_maps=True)
        assert len(output.class_maps) <= depth
        assert len(output.maps) in (0, len(output.class_maps))
        assert all(maps.ndim == 3 and len(maps) == 2 for maps in output.maps)
        for maps, classes in zip(output.class_maps[::-1], TREES[depth].sizes[::-1], strict=False):
            assert maps.shape[:2] == (2, classes)

    def test_classifiers_have_a_row_per_class(self, network, depth):
        assert network.classifiers()
        for name, level in network.classifiers().items():
            assert network.get_parameter(f"{name}.weight").shape[0] == TREES[depth].sizes[level]

    def test_unsupported_images_are_refused(self, network):
        with pytest.raises(ValueError, match="multiples of 32, not 100 x 100"):
            network(torch.zeros(1, 3, 100, 100))
        with pytest.raises(ValueError, match=r"torch\.uint8"):
            network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))

    def test_gradients_reach_every_parameter(self, network):
        training = copy.deepcopy(network).train()
        output = training(images())
        targets = level_targets(
            torch.eye(network.hierarchy.sizes[-1])[:3].repeat(2, 1)[:4], network.hierarchy
        )
        loss = sum(-level[:, 0].mean() for level in output.log_probs["overall"])
        auxiliary = training.auxiliary_loss(output, targets)
        (loss if auxiliary is None else loss + auxiliary).backward()
        for name, parameter in training.named_parameters():
            assert parameter.grad is not None, f"no gradient reaches {name}"
            assert parameter.grad.isfinite().all(), name

    def test_priors_are_predicted_by_a_finest_classifier(self, network):
        count = network.hierarchy.sizes[-1]
        frequencies = torch.arange(1, count + 1) / (count * (count + 1) / 2)
        twin = copy.deepcopy(network)
        twin.set_priors(frequencies)
        with torch.no_grad():
            probs = twin(images()).probs
        errors = [(probs[branch][-1] - frequencies).abs().max() for branch in probs]
        assert min(errors) < 1e-5

    def test_a_checkpoint_gives_the_same_network(self, config, network, expected, tmp_path):
        path = tmp_path / "model.safetensors"
        save_checkpoint(path, network, config)
        found, twin = load_network(path)
        assert found == config
        assert twin.hierarchy == network.hierarchy
        for key, value in network.state_dict().items():
            assert value.equal(twin.state_dict()[key]), key
        with torch.no_grad():
            assert_same_output(twin.eval()(images()), expected, tolerance=0)

    def test_fine_tuning_starts_from_the_rows_of_equal_classes(self, config, network, tmp_path):
        path = tmp_path / "model.safetensors"
        save_checkpoint(path, network, config)
        twin = create_model(config, hierarchy=network.hierarchy)
        levels = {network.hierarchy.levels[level] for level in network.classifiers().values()}
        assert set(load_model_file(twin, path)) == set().union(*levels)
        for key, value in network.state_dict().items():
            assert value.equal(twin.state_dict()[key]), key

    @pytest.mark.slow
    def test_it_compiles_without_graph_breaks(self, network, expected):
        torch.compiler.reset()
        compiled = torch.compile(network, fullgraph=True, backend="eager")
        with torch.no_grad():
            assert_same_output(compiled(images()), expected)

    @pytest.mark.slow
    def test_it_is_exported_with_any_batch_size(self, network, expected):
        batch = torch.export.Dim("batch", min=1, max=64)
        shapes = {"images": {0: batch}}
        program = torch.export.export(network, (images(2),), dynamic_shapes=shapes)
        with torch.no_grad():
            assert_same_output(program.module()(images()), expected)

    def test_two_fine_tuning_steps_train_all_parameters(self, config, network):
        training = copy.deepcopy(network)
        recipe = Recipe("mdan_fi8", weight_decay=0.0, local_weight=0.5, global_weight=0.5)
        optimizer = build_optimizer(training, recipe)
        set_mode(training, recipe)
        step = TrainingStep(training, Preprocessing(config.input), recipe)
        leaves = torch.eye(network.hierarchy.sizes[-1])[[0, 1, 2, 0]]
        pixels = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8)
        for _ in range(2):
            loss = step(pixels, list(level_targets(leaves, training.hierarchy)), None)
            assert loss.isfinite()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        changed = {
            name
            for name, parameter in training.named_parameters()
            if not parameter.equal(network.get_parameter(name))
        }
        assert all(parameter.isfinite().all() for parameter in training.parameters())
        assert any(name.startswith("backbone.") for name in changed)
        for name, _ in network.named_parameters():
            assert name in changed or name.startswith("backbone."), f"{name} is not trained"


def _sums_upwards(architecture: str) -> bool:
    """Return whether a network classifies the finest level alone."""
    known = architecture in list_architectures()
    return known and issubclass(get_architecture(architecture), LeafClassifier)


def built_in(names) -> tuple[str, ...]:
    """Return the architectures that are part of the package, without those of other tests."""
    return tuple(n for n in names if get_architecture(n).__module__.startswith("mdan_zoo."))
