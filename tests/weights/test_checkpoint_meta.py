"""Checkpoints of networks whose values are not in memory."""

from __future__ import annotations

import copy

import accelerate
import pytest
import torch

from mdan_zoo.errors import CheckpointError
from mdan_zoo.weights.checkpoint import load_checkpoint, save_checkpoint
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network, load_network

CONFIG = MODELS["mdan_oasis4"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return build_network(CONFIG)


def test_a_network_on_the_meta_device_cannot_be_loaded(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, network, CONFIG)
    with torch.device("meta"):
        empty = build_network(CONFIG)
        with pytest.raises(CheckpointError, match="create it outside"):
            load_network(path)
    with pytest.raises(CheckpointError, match=r"meta device \(backbone\.conv_stem\.weight, "):
        load_checkpoint(empty, path, CONFIG)
    load_checkpoint(empty.to_empty(device="cpu"), path, CONFIG)
    for name, value in network.state_dict().items():
        assert value.equal(empty.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_network_without_values_in_memory_is_not_written(network, tmp_path):
    linear = {torch.nn.Linear}
    for other, name in (
        (copy.deepcopy(network).to("meta"), "backbone.conv_stem.weight, "),
        (accelerate.cpu_offload(copy.deepcopy(network)), "backbone.conv_stem.weight, "),
        (torch.ao.quantization.quantize_dynamic(network, linear), "levels.0.classifier._packed"),
    ):
        with pytest.raises(CheckpointError, match=f"not written: {name}.* no values here"):
            save_checkpoint(tmp_path / "weights.safetensors", other, CONFIG)
    assert not list(tmp_path.iterdir())
