"""The network against the paper's equations."""

from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F
from tiny_mdan import TREES, TinyPyramid, check_equals_the_formulas, tiny_mdan

from mdan_zoo.backbones.pyramid import build_backbone
from mdan_zoo.errors import InputError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.models.flat import FlatClassifier
from mdan_zoo.models.mdan.lcam import fuse
from mdan_zoo.models.mdan.mhcca import upsample, upsample_adjoint
from mdan_zoo.models.mdan.network import MDAN
from mdan_zoo.models.options import LCAM_MODES, MDANOptions


# At 448 px the channels are fewer than the positions, at 32 px more: MHCCA takes both its orders.
@pytest.mark.parametrize("size", [(448, 448), (224, 320), (32, 64)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equals_the_formulas_in_outputs_and_gradients(depth, batch, size):
    check_equals_the_formulas(tiny_mdan(depth), torch.randn(batch, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize("lcam", LCAM_MODES)
@pytest.mark.parametrize("depth", [2, 3])
def test_equals_the_formulas_with_the_options_of_small_models(depth, lcam):
    model = tiny_mdan(depth, lcam=lcam, normalise_pyramid=True)
    for norm in model.norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        for parameter in norm.parameters():
            parameter.data.mul_(0.2)  # or some softmax is saturated
    check_equals_the_formulas(model, torch.randn(3, 3, 96, 64, dtype=torch.float64))


def test_global_probabilities_are_summed_up_the_hierarchy():
    output = tiny_mdan(3)(torch.randn(2, 3, 64, 64, dtype=torch.float64))
    probs = output.probs["global"]
    for level, parents in enumerate(TREES[3].parent_indices):
        for j in range(TREES[3].sizes[level]):
            children = [k for k, parent in enumerate(parents) if parent == j]
            summed = probs[level + 1][:, children].sum(dim=1)
            torch.testing.assert_close(probs[level][:, j], summed, rtol=0, atol=1e-15)


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_every_distribution_sums_to_one_and_alpha_weighs_the_local_branch(alpha):
    output = tiny_mdan(3, alpha=alpha)(torch.randn(3, 3, 64, 96, dtype=torch.float64))
    for by_local, by_global, overall in zip(
        output.probs["local"], output.probs["global"], output.probs["overall"], strict=True
    ):
        for probabilities in (by_local, by_global, overall):
            torch.testing.assert_close(
                probabilities.sum(dim=1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12
            )
        expected = alpha * by_local + (1 - alpha) * by_global
        torch.testing.assert_close(overall, expected, rtol=0, atol=1e-12)


def test_upsample_adjoint_is_the_transpose():
    coarse = torch.randn(2, 1, 7, 5, dtype=torch.float64)
    fine = torch.randn(2, 14, 10, dtype=torch.float64)
    left = (upsample(coarse, (14, 10))[:, 0] * fine).sum()
    right = (coarse[:, 0] * upsample_adjoint(fine, (7, 5))).sum()
    torch.testing.assert_close(left, right, rtol=1e-14, atol=0)


def test_lcam_modes_change_the_maps_as_named():
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    models = {mode: tiny_mdan(2, lcam=mode) for mode in LCAM_MODES}
    maps = {mode: model(images, return_maps=True).maps[0] for mode, model in models.items()}
    torch.testing.assert_close(maps["detached"], maps["plain"])
    torch.testing.assert_close(maps["bounded"], maps["plain"].tanh())
    torch.testing.assert_close(maps["off"], torch.zeros_like(maps["off"]))
    assert maps["normalised"].amin() == 0
    assert maps["normalised"].amax() == 1
    assert not torch.equal(maps["normalised"], maps["plain"])


def test_detached_lcam_passes_no_gradient_through_the_map():
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    gradients = {}
    for mode in ("plain", "detached"):
        model = tiny_mdan(1, lcam=mode)
        model(images).probs["overall"][0][:, 0].sum().backward()
        gradients[mode] = model.levels[0].classifier.weight.grad
    assert not torch.allclose(gradients["plain"], gradients["detached"])


def test_normalised_pyramid_leaves_the_global_branch_alone():
    plain, normalised = tiny_mdan(2), tiny_mdan(2, normalise_pyramid=True)
    normalised.load_state_dict(plain.state_dict(), strict=False)
    normalised.train()  # BatchNorm by the statistics of the batch
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    expected, found = plain(images).logits, normalised(images).logits
    torch.testing.assert_close(found["global"][0], expected["global"][0])
    assert not torch.allclose(found["local"][0], expected["local"][0])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 100, 64), "multiples of 32, not 100 x 64; the nearest such size is 96 x 64"),
        ((1, 3, 16, 448), "nearest such size is 32 x 448"),
        ((1, 4, 64, 64), r"\(N, 3, height, width\), not of shape \(1, 4, 64, 64\)"),
        ((3, 64, 64), r"not of shape \(3, 64, 64\)"),
    ],
)
def test_a_wrong_input_shape_says_what_would_be_right(shape, message):
    with pytest.raises(InputError, match=message):
        tiny_mdan(2)(torch.zeros(shape, dtype=torch.float64))


def test_what_is_no_tensor_is_refused():
    with pytest.raises(InputError, match=r"must be a tensor .* not NoneType"):
        tiny_mdan(2)(None)


def test_integer_images_are_refused():
    with pytest.raises(InputError, match=r"torch\.uint8"):
        tiny_mdan(2)(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


@pytest.mark.parametrize(
    "model",
    [tiny_mdan(2).float(), FlatClassifier(TinyPyramid(), TinyPyramid.channels, TREES[2]).eval()],
)
def test_values_of_another_type_than_the_weights_are_refused(model):
    """Autocast converts them, but never from or to float64."""
    images = torch.zeros(1, 3, 64, 64)
    message = "the images are torch.float64, but the network's weights torch.float32"
    with pytest.raises(InputError, match=message):
        model(images.double())
    with pytest.raises(InputError, match=r"images are torch\.float16"):
        model(images.half())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(images.half())
        with pytest.raises(InputError, match=message):
            model(images.double())


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 0},
        {"dim": 10**30},
        {"alpha": 1.5},
        {"alpha": "a"},
        {"lcam": "bright"},
        {"dropout": 1.0},
        {"heads": (0, 4, 8)},
        {"heads": None},
        {"heads": (True, 4, 8)},
        {"normalise_pyramid": "no"},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        MDANOptions(**options)


@pytest.mark.parametrize("depth", [2, 3])
def test_autocast_stays_near_float32(depth):
    model = tiny_mdan(depth).float()
    images = torch.randn(2, 3, 64, 96)
    expected = model(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(images)
    for a, b in zip(output.probs["overall"], expected.probs["overall"], strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() < 0.1


def test_channels_last_gives_the_same():
    model = tiny_mdan(3)
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    expected = model(images).probs["overall"]
    model = model.to(memory_format=torch.channels_last)
    output = model(images.to(memory_format=torch.channels_last)).probs["overall"]
    for a, b in zip(output, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_compiles_to_the_same_values():
    model = tiny_mdan(3)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found, expected = compiled(images).probs, model(images).probs
    for a, b in zip(found["overall"], expected["overall"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling for the CPU needs g++")
@pytest.mark.parametrize("mode", ["plain", "normalised"])
def test_compiled_attention_maps_have_gradients_in_half_precision(mode):
    """The compiler keeps float32 within a kernel, where the step itself rounds to half of that."""
    torch.manual_seed(0)
    parts = [torch.randn(3, 5, 16, 16, dtype=torch.bfloat16, requires_grad=True) for _ in "ab"]
    allowed = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]]).bool()

    def size_of_map(a, b):
        return fuse(a + b, allowed, mode).square().mean()

    expected = torch.autograd.grad(size_of_map(*parts), parts)
    compiled = torch.compile(size_of_map, fullgraph=True)(*parts)
    for mine, theirs in zip(torch.autograd.grad(compiled, parts), expected, strict=True):
        assert torch.linalg.norm(mine - theirs) < 0.02 * torch.linalg.norm(theirs)


@pytest.mark.slow
def test_a_few_steps_learn_sixteen_images_by_heart():
    torch.manual_seed(0)
    backbone, channels = build_backbone("test_resnet")
    model = MDAN(backbone, channels, TREES[2], MDANOptions(dim=64))
    images = torch.randn(16, 3, 64, 64)
    leaves = torch.arange(16) % 8
    targets = (torch.tensor(TREES[2].parent_indices[0])[leaves], leaves)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(90):
        output = model(images)
        levels = zip(output.log_probs["overall"], targets, strict=True)
        loss = sum(F.nll_loss(p, t) for p, t in levels) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.0
    assert losses[-1] < 0.01
    assert output.probs["overall"][1].argmax(dim=1).equal(leaves)


def test_parameters_of_mdan_fi8(capsys):
    with torch.device("meta"):
        backbone, channels = build_backbone("resnet101")
        model = MDAN(backbone, channels, get_hierarchy("mikels8"))
    total = sum(p.numel() for p in model.parameters())
    classifiers = sum(p.numel() for name, p in model.named_parameters() if "classifier" in name)
    with capsys.disabled():
        print(
            f"\nmdan_fi8: {total / 1e6:.2f}M parameters; without its classifiers "
            f"{(total - classifiers) / 1e6:.2f}M, the paper's 48.79M"
        )
    assert total - classifiers == 48_791_616
    assert classifiers == (1024 * 2 + 2) + (1024 * 8 + 8) + (2048 * 8 + 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_images_stay_finite_in_half_precision(dtype):
    """Sums over 12,544 positions exceed float16's 65,504 unless they are scaled on the way."""
    model = tiny_mdan(3).float()
    images = torch.randn(1, 3, 448, 448)
    with torch.inference_mode():
        expected = model(images).probs["overall"]
        with torch.autocast("cpu", dtype=dtype):
            overall = model(images).probs["overall"]
    for a, b in zip(overall, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.02)
