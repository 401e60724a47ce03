"""Networks whose layers are wrapped, hooked or replaced, or whose memory is allocated later."""

from __future__ import annotations

import copy

import accelerate
import pytest
import torch
import torch.distributed as dist
from tiny_mdan import TREES, TinyPyramid, check_equals_the_formulas, tiny_mdan
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.utils import parametrizations, prune

from mdan_zoo.backbones.pyramid import build_backbone
from mdan_zoo.errors import InputError
from mdan_zoo.models.flat import FlatClassifier
from mdan_zoo.models.mdan.mhcca import MHCCA
from mdan_zoo.models.mdan.network import TopDownLevel
from mdan_zoo.models.options import CNNRNNOptions, FPNOptions, IntensityOptions
from mdan_zoo.models.registry import get_architecture, get_options_class

LAYERS = (nn.Linear, nn.Conv2d)


class Adapted(nn.Module):
    """A layer with a low-rank adapter, as in peft."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base_layer = base
        linear = isinstance(base, nn.Linear)
        size = (
            (base.in_features, base.out_features)
            if linear
            else (base.in_channels, base.out_channels)
        )
        make = nn.Linear if linear else lambda a, b, bias: nn.Conv2d(a, b, 1, bias=bias)
        self.down = make(size[0], 2, bias=False).to(base.weight)
        self.up = make(2, size[1], bias=False).to(base.weight)

    def forward(self, inputs):
        return self.base_layer(inputs) + self.up(self.down(inputs))

    def merged(self) -> nn.Module:
        """Return the layer with the same outputs."""
        product = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        merged = copy.deepcopy(self.base_layer)
        weight = merged.weight.data
        if weight.ndim == 4:  # a 1x1 convolution is the centre of a larger one
            weight = weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2]
        weight += product
        return merged


SMALL = {
    "fpn": FPNOptions(dim=8),
    "cnnrnn": CNNRNNOptions(dim=8),
    "intensity": IntensityOptions(dim=8),
}


@pytest.fixture(params=["flat", "pdanet", "wscnet", *SMALL, "mdan 1", "mdan 2", "mdan 3"])
def network(request):
    name, _, depth = request.param.partition(" ")
    if name == "mdan":
        return tiny_mdan(int(depth), lcam="bounded")
    torch.manual_seed(0)
    options = SMALL.get(name) or get_options_class(name)()
    build = get_architecture(name)
    return build(TinyPyramid(), TinyPyramid.channels, TREES[2], options).double().eval()


# Few channels for the positions, and many: MHCCA takes both its orders.
@pytest.fixture(params=[(448, 448), (32, 64)], ids=str)
def images(request):
    return torch.randn(2, 3, *request.param, dtype=torch.float64)


def outputs(network, images):
    with torch.no_grad():
        found = network(images, return_maps=True)
    levels = [level for branch in found.log_probs.values() for level in branch]
    return [*levels, *found.maps, *found.class_maps]


def assert_equal(found, expected, tolerance=1e-12):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def replace(network, change, kinds=LAYERS):
    """Replace the layers outside the backbone, and return the network."""
    for name, layer in list(network.named_modules()):
        if type(layer) in kinds and not name.startswith("backbone."):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, change(layer))
    return network


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    """A process group of this process alone."""
    place = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_called_layers_equal_the_formulas_in_outputs_and_gradients(depth, images):
    model = tiny_mdan(depth)
    for layer in model.modules():
        layer.register_forward_hook(lambda *_: None)
    check_equals_the_formulas(model, images)


@pytest.mark.parametrize("buffers", [False, True])
def test_offloading(network, images, buffers):
    expected = outputs(network, images)
    offloaded = accelerate.cpu_offload(network, torch.device("cpu"), offload_buffers=buffers)
    assert next(offloaded.parameters()).is_meta
    assert_equal(outputs(offloaded, images), expected)


def test_adapters(network, images):
    adapted = replace(network, Adapted)
    merged = replace(copy.deepcopy(adapted), Adapted.merged, (Adapted,))
    assert_equal(outputs(adapted, images), outputs(merged, images))


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 3)


@pytest.mark.parametrize("change", [parametrizations.weight_norm, pruned])
def test_weights_that_are_computed_for_every_call(network, images, change):
    changed = replace(copy.deepcopy(network), change)
    for name, parameter in changed.named_parameters():
        if name.endswith(("weight.original0", "weight_orig")):
            parameter.data *= 1.5  # of which the weight shows nothing before the next call
    found = outputs(changed, images)
    for name, layer in network.named_modules():
        if isinstance(layer, LAYERS):
            layer.weight.data = changed.get_submodule(name).weight.detach()
    assert_equal(found, outputs(network, images))


def test_dynamic_quantisation(network, images):
    network, images = network.float(), images.float()
    expected = outputs(network, images)
    quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear})
    found = outputs(quantised, images)
    depth = network.hierarchy.depth
    assert_equal(found[:depth], expected[:depth], tolerance=0.1)  # 8 bits
    assert len(found) == len(expected)


def test_a_classifier_that_is_no_linear_layer(images):
    def change(layer):
        inside = nn.Linear(layer.in_features, 5)
        return nn.Sequential(inside, nn.Tanh(), nn.Linear(5, layer.out_features)).double()

    model = FlatClassifier(TinyPyramid(), TinyPyramid.channels, TREES[2]).double().eval()
    head = replace(model, change).global_classifier
    with torch.no_grad():
        (found,) = model(images, return_maps=True).class_maps
        pixels = model.backbone(images)[-1]
        expected = head(pixels[:, :, 0, 1]) - head(torch.zeros_like(pixels[:, :, 0, 1]))
    assert_equal([found[:, :, 0, 1]], [expected])
    mdan = replace(tiny_mdan(2), change, (nn.Linear,))
    assert all(level.isfinite().all() for level in outputs(mdan, images))


@pytest.mark.parametrize("kinds", [(), LAYERS, (MHCCA,), (TopDownLevel,)], ids=str)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.usefixtures("process_group")
def test_sharding(network, images, kinds, version):
    expected = outputs(network, images)
    if version == 1:
        policy = ModuleWrapPolicy(set(kinds))
        device = torch.device("cpu")
        network = FullyShardedDataParallel(network, auto_wrap_policy=policy, device_id=device)
    else:
        mesh = init_device_mesh("cpu", (1,))
        for module in [m for m in network.modules() if type(m) in kinds]:
            fully_shard(module, mesh=mesh)
        fully_shard(network, mesh=mesh)
    assert_equal(outputs(network, images), expected)


def test_hooks_of_every_layer_are_called(network, images):
    called = set()
    for name, module in network.named_modules():
        if isinstance(module, (*LAYERS, MHCCA)):
            module.register_forward_hook(lambda *_, name=name: called.add(name))
    outputs(network, images)
    assert called == {n for n, m in network.named_modules() if isinstance(m, (*LAYERS, MHCCA))}


def test_the_exported_graph_lacks_the_last_feature_map():
    model, images = tiny_mdan(2), torch.randn(2, 3, 64, 64, dtype=torch.float64)
    program = torch.export.export(model, (images,))
    values = [node.meta.get("val") for node in program.graph.nodes]
    shapes = [tuple(value.shape) for value in values if isinstance(value, torch.Tensor)]
    assert (2, 16, 4, 4) in shapes  # level 1
    assert (2, 16, 8, 8) not in shapes  # level 2
    with pytest.raises(InputError, match=r"float32, but the network's weights torch\.float64"):
        torch.export.export(model, (images.float(),))


@pytest.fixture
def filled_memory():
    """Let new tensors hold NaN, the largest integer or True, as any memory may."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("filled_memory")
@pytest.mark.parametrize("first", ["cpu", "meta"])
def test_memory_allocated_before_loading(network, images, first):
    expected = outputs(network, images)
    other = copy.deepcopy(network).to(first).to_empty(device="cpu")
    assert all(parameter.isnan().all() for parameter in other.parameters())
    other.load_state_dict(network.state_dict())
    assert_equal(outputs(other, images), expected, tolerance=0)


@pytest.mark.usefixtures("filled_memory")
def test_a_wrapper_that_allocates_memory(network, images):
    expected = outputs(network, images)
    wrapper = nn.Sequential(copy.deepcopy(network).to("meta")).to_empty(device="cpu")
    wrapper[0].load_state_dict(network.state_dict())
    assert_equal(outputs(wrapper[0], images), expected, tolerance=0)


@pytest.mark.usefixtures("filled_memory")
def test_buffers_of_a_backbone_are_restored():
    backbone, channels = build_backbone("swin_tiny_patch4_window7_224", 64)
    network = FlatClassifier(backbone, channels, TREES[2])
    if not any(hasattr(m, "init_non_persistent_buffers") for m in network.modules()):
        pytest.skip("this version of timm cannot compute the buffers again")
    other = copy.deepcopy(network).to("meta").to_empty(device="cpu")
    found = dict(other.named_buffers())
    for name, buffer in network.named_buffers():
        assert buffer.equal(found[name]), name
