"""timm's models as pyramids: which are taken, at which sizes, and what is said of the others."""

from __future__ import annotations

import dataclasses

import pytest
import timm
import torch

from mdan_zoo.backbones.pyramid import (
    STRIDES,
    _check_size,
    backbone_state,
    build_backbone,
    leading_maps,
    stages_after,
)
from mdan_zoo.errors import InputError, UnknownNameError
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.zoo.factory import build_network, create_model, get_config

FAMILIES = (
    "resnet18",
    "efficientnet_b0",
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
    "mobilenetv3_small_100",
    "regnety_002",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_backbones_train_at_the_size_of_their_config(name):
    model = create_model("mdan_oasis4", backbone=name)
    size = get_config("mdan_oasis4").input.crop
    torch.manual_seed(0)
    output = model(torch.randn(2, 3, size, size))
    sum(-level[:, 0].mean() for level in output.log_probs["overall"]).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, "parameters that no gradient reaches"


OTHERS = ("swinv2_tiny_window8_256", "swinv2_cr_tiny_224", "mobilenetv2_100:head")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
@pytest.mark.parametrize("size", [(224, 224), (64, 96)])
def test_maps_have_the_strides_and_channels_that_are_stated(name, size):
    backbone, channels = build_backbone(name, 448)
    with torch.inference_mode():
        maps = backbone.eval()(torch.zeros(1, 3, *size))
    expected = [
        (1, count, size[0] // stride, size[1] // stride)
        for count, stride in zip(channels, STRIDES, strict=True)
    ]
    assert [tuple(feature_map.shape) for feature_map in maps] == expected


def test_a_head_convolution_makes_c5_the_final_features_of_the_timm_model():
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    backbone, channels = build_backbone("tf_efficientnet_lite0:head", 64)
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    state |= model.state_dict()
    backbone.load_state_dict({name: state[name] for name in backbone.state_dict()})
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        maps = backbone.eval()(images)
        torch.testing.assert_close(maps[3], model.forward_features(images))
        torch.testing.assert_close(stages_after(backbone, 2)(maps[1]), maps[3])
        torch.testing.assert_close(stages_after(backbone, 1, last=3)(maps[0]), maps[2])
        found = leading_maps(backbone, images, 2)
        assert [one.equal(other) for one, other in zip(found, maps, strict=False)] == [True, True]
    assert channels[3] == maps[3].shape[1] == 1280
    assert {n: v.shape for n, v in backbone_state("tf_efficientnet_lite0:head").items()} == {
        n: v.shape for n, v in backbone.state_dict().items()
    }
    with pytest.raises(InputError, match=r"'resnet18' has no head convolution .*remove ':head'"):
        build_backbone("resnet18:head")
    with pytest.raises(UnknownNameError, match="has no backbone 'resnet1O1'"):
        build_backbone("resnet1O1:head")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "made_for"),
    [
        ("coatnet_0_rw_224", 448, 224),
        ("hiera_tiny_224", 448, 224),
        ("maxvit_rmlp_pico_rw_256", 448, 256),
        ("maxvit_rmlp_pico_rw_256", 224, 256),
        ("halonet26t", 224, 256),
    ],
)
def test_a_size_that_a_backbone_cannot_take_is_refused(name, size, made_for):
    with pytest.raises(InputError) as caught:
        build_backbone(name, size)
    message = str(caught.value)
    assert message.startswith(
        f"backbone '{name}' does not accept images of {size} x {size} pixels ("
    )
    assert f"it is made for {made_for} x {made_for}" in message
    assert "resnet101" in message
    assert "()" not in message, "no reason is told"
    backbone, _ = build_backbone(name, made_for)
    with torch.inference_mode():
        c5 = backbone.eval()(torch.zeros(1, 3, made_for, made_for))[3]
    assert c5.shape[2:] == (made_for // 32, made_for // 32)


def test_maps_of_other_sizes_are_refused():
    with pytest.raises(InputError) as caught:
        create_model("mdan_fi8", backbone="inception_v3")
    assert str(caught.value) == (
        "backbone 'inception_v3' has maps of 108 x 108, 53 x 53, 26 x 26, 12 x 12 for an image "
        "of 448 x 448 pixels; MDAN needs 112 x 112, 56 x 56, 28 x 28, 14 x 14, as resnet101, "
        "convnext_tiny or mobilenetv2_100 have"
    )


def test_a_backbone_without_a_pyramid_is_refused():
    with pytest.raises(InputError, match=r"'vit_tiny_patch16_224' has maps at strides .*16; MDAN"):
        create_model("mdan_fi8", backbone="vit_tiny_patch16_224")


@pytest.mark.parametrize("architecture", ["mdan", "flat"])
def test_networks_are_checked_at_the_crop_of_their_config(architecture):
    config = dataclasses.replace(get_config(f"{architecture}_oasis4"), backbone="hiera_tiny_224")
    with pytest.raises(InputError, match="does not accept images of 320 x 320"):
        build_network(config)
    fitting = dataclasses.replace(config, input=InputSpec(resize=256, crop=224))
    with torch.inference_mode():
        output = build_network(fitting).eval()(torch.zeros(1, 3, 224, 224))
    assert output.probs["overall"][1].shape == (1, 4)


def test_the_check_changes_neither_weights_nor_the_random_state():
    _check_size.cache_clear()
    torch.manual_seed(3)
    checked, _ = build_backbone("resnet18", 448)
    after = torch.rand(1)
    torch.manual_seed(3)
    unchecked, _ = build_backbone("resnet18")
    assert torch.rand(1).equal(after)
    assert checked.training
    for (name, a), b in zip(
        checked.state_dict().items(), unchecked.state_dict().values(), strict=True
    ):
        assert a.equal(b), name


def test_another_model_under_the_same_name_is_checked_again(monkeypatch):
    _, narrow = build_backbone("resnet18", 64)
    other = timm.models.model_entrypoint("convnext_atto")
    monkeypatch.setitem(timm.models._registry._model_entrypoints, "resnet18", other)
    _, wide = build_backbone("resnet18", 64)
    assert (narrow, wide) == ((64, 128, 256, 512), (40, 80, 160, 320))


@pytest.mark.parametrize("name", [3, None, ["resnet18"], "resnet1O1", ""])
def test_unknown_backbones(name):
    with pytest.raises(UnknownNameError, match="has no backbone"):
        build_backbone(name)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "convnext_atto", "vgg11"])
def test_leading_maps_are_those_of_the_pyramid_without_its_later_stages(name):
    torch.manual_seed(0)
    backbone, _ = build_backbone(name)
    images, computed = torch.randn(1, 3, 64, 64), []
    with torch.inference_mode():
        maps = list(backbone.eval()(images))
        stages_after(backbone, 3)[-1].register_forward_hook(lambda *_: computed.append(1))
        for count in (1, 2, 3):
            found = leading_maps(backbone, images, count)
            assert len(found) == count
            assert all(one.equal(other) for one, other in zip(found, maps, strict=False))
        assert not computed
        assert len(leading_maps(backbone, images, 4)) == 4
    assert computed == [1]
