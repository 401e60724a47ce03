"""Random weights: a small MDAN with seeded weights, as a weight file."""

from __future__ import annotations

from pathlib import Path

from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.options import MDANOptions

CONFIG = ModelConfig(
    "mdan_oasis4",
    "circumplex4",
    "OASIS",
    backbone="mobilenetv2_100",
    options=MDANOptions(dim=64, normalise_pyramid=True),
    input=InputSpec(resize=256, crop=224, mean=(0.4, 0.5, 0.6), std=(0.5, 0.25, 0.2)),
)


def save_random_weights(path: Path, hierarchy=None, config=CONFIG) -> None:
    """Write a weight file whose network gives clearly different answers to different images."""
    import torch

    from mdan_zoo.weights.checkpoint import save_checkpoint
    from mdan_zoo.zoo.factory import build_network

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(config, hierarchy)
        for _ in range(10):  # or the untrained BatchNorms let nothing through
            network(torch.randn(8, 3, 64, 64))
        for name, parameter in network.named_parameters():
            module, _, kind = name.rpartition(".")
            if module in network.classifiers() and kind == "weight":
                parameter.normal_(std=0.2 if module.startswith("global") else 0.1)
    save_checkpoint(path, network, config)
