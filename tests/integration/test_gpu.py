"""Tests that need a GPU; the other training tests use one as well if there is one."""

from __future__ import annotations

import pytest
import torch
from tiny_mdan import check_equals_the_formulas, tiny_mdan
from tiny_model import OWN_TREE, write_own_data, write_tiny_model

from mdan_zoo.datasets.splits import SPLIT_FILE, Split
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.training import TrainingConfig, train
from mdan_zoo.training.recipe import Recipe
from mdan_zoo.training.report import read_report

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICE = "cuda"

MACHINES = {
    "float32": {"workers": 0},
    "bf16": {"precision": "bf16", "channels_last": True, "workers": 2},
    "bf16, compiled": {"precision": "bf16", "channels_last": True, "compile": True, "workers": 2},
    "fp16, in parts": {"precision": "fp16", "accumulate": 2, "workers": 0},
}


@pytest.mark.parametrize("size", [(448, 448), (32, 64)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_the_formulas_in_outputs_and_gradients(depth, size):
    images = torch.randn(3, 3, *size, dtype=torch.float64, device=DEVICE)
    check_equals_the_formulas(tiny_mdan(depth).to(DEVICE), images)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("depth", [2, 3])
def test_autocast_stays_near_float32(depth, dtype, channels_last):
    model = tiny_mdan(depth).float().to(DEVICE)
    images = torch.randn(2, 3, 64, 96, device=DEVICE)
    expected = model(images)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    with torch.autocast(DEVICE, dtype=dtype):
        output = model(images)
    for a, b in zip(output.probs["overall"], expected.probs["overall"], strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).abs().max() < 0.1


@pytest.mark.parametrize("depth", [1, 3])
def test_compiled_gives_the_same_outputs_and_gradients(depth):
    model = tiny_mdan(depth).to(DEVICE)
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64, device=DEVICE)
    parameters = list(model.parameters())

    def outputs_and_gradients(network):
        overall = network(images).probs["overall"]
        loss = sum(level[:, 0].log().mean() for level in overall)
        return [*overall, *torch.autograd.grad(loss, parameters)]

    compiled = outputs_and_gradients(torch.compile(model, fullgraph=True))
    for a, b in zip(compiled, outputs_and_gradients(model), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
def test_a_training_learns_and_its_weights_predict_on_the_cpu_too(machine, tmp_path):
    data = write_own_data(tmp_path / "feelings", images=10)
    rates = {"lr": 0.005, "backbone_lr": 0.002}
    recipe = Recipe(
        "mdan_fi8",
        init=str(write_tiny_model(tmp_path / "tiny.safetensors")),
        epochs=12,
        batch_size=8,
        split="80/20",
        min_crop_area=0.8,
        **rates,
    )
    weights = train(TrainingConfig(recipe, data, tmp_path / "run", hierarchy=OWN_TREE, **machine))
    report = read_report(tmp_path / "run")
    assert report["machine"]["device"].startswith(DEVICE)
    assert report["history"][-1]["loss"] < 0.5 * report["history"][0]["loss"]

    held_out = Split.load(tmp_path / "run" / SPLIT_FILE).images("test")
    images = [data / name for name in held_out]
    on_cpu = Predictor(checkpoint=weights, device="cpu").predict(images)
    on_gpu = Predictor(checkpoint=weights, device=DEVICE).predict(images)
    right = [
        result.path[-1] == image.parent.name for result, image in zip(on_cpu, images, strict=True)
    ]
    assert sum(right) >= 0.75 * len(right), "a quarter is chance"
    for a, b in zip(on_cpu, on_gpu, strict=True):
        for mine, theirs in zip(a.levels, b.levels, strict=True):
            assert mine.scores == pytest.approx(theirs.scores, abs=0.01)
