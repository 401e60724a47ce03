"""Weight files: written whole, loaded strictly or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import stat

import pytest
import torch
from hub_helpers import run_python
from safetensors.torch import load_file, safe_open, save_file

from mdan_zoo.errors import (
    CheckpointError,
    InputError,
    MdanZooError,
    UnknownNameError,
    WeightsUnavailableError,
)
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.weights import contents as contents_module
from mdan_zoo.weights import fetch
from mdan_zoo.weights.checkpoint import (
    load_checkpoint,
    open_checkpoint,
    read_identity,
    save_checkpoint,
)
from mdan_zoo.weights.manifest import Source, load_manifest
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import build_network, create_model, load_network

CONFIG = MODELS["mdan_oasis4"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return build_network(CONFIG)


def rewrite(source, target, change):
    """Copy a weight file with its metadata, changing its tensors."""
    with safe_open(str(source), "pt") as file:
        metadata = file.metadata()
    tensors = load_file(source)
    change(tensors)
    save_file(tensors, target, metadata)
    return target


def test_a_checkpoint_brings_everything_back(network, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, network, CONFIG)
    other = build_network(CONFIG)
    load_checkpoint(other, path, CONFIG)
    for name, value in network.state_dict().items():
        assert value.equal(other.state_dict()[name]), name
    assert read_identity(path) == (CONFIG, network.hierarchy)


def test_half_precision_halves_the_file_and_loads_as_float32(network, tmp_path):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_checkpoint(whole, network, CONFIG)
    save_checkpoint(half, network, CONFIG, dtype=torch.float16)
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    other = build_network(CONFIG)
    load_checkpoint(other, half, CONFIG)
    assert {p.dtype for p in other.parameters()} == {torch.float32}


def test_the_file_has_the_mode_that_the_umask_gives(network, tmp_path):
    old = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "weights.safetensors", network, CONFIG)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "weights.safetensors").stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


DAMAGES = {
    "missing": (lambda t: t.pop("reduce.weight"), "lacks reduce.weight"),
    "extra": (lambda t: t.update(spare=torch.zeros(1)), "has spare, which the network does not"),
    "shape": (
        lambda t: t.update({"reduce.weight": torch.zeros(2, 2, 1, 1)}),
        r"reduce.weight has shape \(2, 2, 1, 1\), not \(64, 320, 1, 1\)",
    ),
    "nan": (
        lambda t: t["reduce.weight"].view(-1).__setitem__(7, float("nan")),
        "reduce.weight has values that are NaN or infinite",
    ),
    "float64": (
        lambda t: t.update({"reduce.weight": t["reduce.weight"].double()}),
        "reduce.weight is torch.float64, not float32",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_tensors_are_refused_and_change_nothing(
    damage, random_checkpoint, network, tmp_path
):
    change, message = DAMAGES[damage]
    path = rewrite(random_checkpoint, tmp_path / "damaged.safetensors", change)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(network, path, CONFIG)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


def described_as(source, target, change):
    """Copy a weight file, changing the description that it carries."""
    with safe_open(str(source), "pt") as file:
        about = json.loads(file.metadata()["mdan_zoo"])
    change(about["config"])
    save_file(load_file(source), target, {"mdan_zoo": json.dumps(about)})
    return target


def test_mean_and_deviation_belong_to_the_weights(random_checkpoint, network, tmp_path):
    """Trained from timm's own weights, a registered model has ImageNet's."""
    path = tmp_path / "imagenet.safetensors"
    config = dataclasses.replace(CONFIG, input=dataclasses.replace(CONFIG.input, mean=(0.4,) * 3))
    save_checkpoint(path, network, config)
    load_checkpoint(build_network(CONFIG), path, CONFIG)
    assert Predictor(CONFIG.name, checkpoint=path).config.input.mean == (0.4,) * 3
    larger = dataclasses.replace(CONFIG.input, crop=352, resize=352)
    save_checkpoint(path, network, dataclasses.replace(CONFIG, input=larger))
    with pytest.raises(CheckpointError, match="another model: it has input"):
        load_checkpoint(build_network(CONFIG), path, CONFIG)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 10**30}, "dim must be a whole number from 1 to 1048576, not 10{30}"),
        ({"alpha": 10**400}, "alpha must lie within 0 and 1"),
        ({"dim": 1 << 20}, r"weight has shape \(2, 64\), not \(2, 1048576\)"),
        ({"heads": [[2], 4, 8]}, "heads must be three whole numbers"),
    ],
)
def test_a_description_of_an_impossible_network_takes_no_memory(
    options, message, random_checkpoint, tmp_path
):
    """A million channels would be four million million values."""
    path = described_as(
        random_checkpoint, tmp_path / "odd.safetensors", lambda c: c["options"].update(options)
    )
    with pytest.raises(CheckpointError, match=message):
        load_network(path)


def test_a_description_of_an_unknown_backbone_names_its_file(random_checkpoint, tmp_path):
    path = described_as(
        random_checkpoint, tmp_path / "odd.safetensors", lambda c: c.update(backbone="resnet100")
    )
    with pytest.raises(UnknownNameError, match=r"odd\.safetensors .* has no backbone 'resnet100'"):
        load_network(path)


def test_a_description_of_a_crop_that_the_backbone_cannot_take_names_its_file(
    random_checkpoint, tmp_path
):
    def change(config):
        config["backbone"] = "maxvit_tiny_tf_224"

    path = described_as(random_checkpoint, tmp_path / "odd.safetensors", change)
    with pytest.raises(CheckpointError, match=r"the network of .*odd\.safetensors cannot be built"):
        load_network(path)


def test_a_description_nested_without_end_is_refused(random_checkpoint, tmp_path):
    path = tmp_path / "deep.safetensors"
    save_file(load_file(random_checkpoint), path, {"mdan_zoo": "[" * 100_000})
    with pytest.raises(CheckpointError, match="description of the model is malformed"):
        read_identity(path)


@pytest.mark.parametrize("path", [3, None, ["a"]])
def test_what_is_no_path_is_reported(path, network):
    with pytest.raises(InputError, match="given by its path"):
        load_checkpoint(network, path, CONFIG)


def truncated(source, target):
    target.write_bytes(source.read_bytes()[:-100])


def without_identity(source, target):
    save_file(load_file(source), target)


def broken_identity(source, target):
    save_file(load_file(source), target, {"mdan_zoo": json.dumps({"config": {}})})


def overlapping(source, target):
    """Let the second tensor begin where the first one does."""
    content = source.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    first, second = sorted(
        (entry for name, entry in header.items() if name != "__metadata__"),
        key=lambda entry: entry["data_offsets"],
    )[:2]
    length = second["data_offsets"][1] - second["data_offsets"][0]
    start = first["data_offsets"][0]
    second["data_offsets"] = [start, start + length]
    written = json.dumps(header).encode()
    target.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + size :])


FILES = {
    "overlapping tensors": (overlapping, "not a complete safetensors file"),
    "truncated": (truncated, "not a complete safetensors file"),
    "empty": (lambda s, t: t.write_bytes(b""), "not a safetensors checkpoint"),
    "text": (lambda s, t: t.write_text("<html>not found</html>"), "not a safetensors checkpoint"),
    "pickle": (lambda s, t: t.write_bytes(pickle.dumps([1] * 99)), "not a safetensors"),
    "long header": (lambda s, t: t.write_bytes((90 << 20).to_bytes(8, "little")), "not a safete"),
    "folder": (lambda s, t: t.mkdir(), "cannot read the checkpoint"),
    "absent": (lambda s, t: None, "No such file"),
    "without identity": (without_identity, "does not say which model"),
    "broken identity": (broken_identity, "its description of the model is malformed"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_no_checkpoint_are_refused(kind, random_checkpoint, network, tmp_path):
    make, message = FILES[kind]
    path = tmp_path / "weights.safetensors"
    make(random_checkpoint, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(network, path, CONFIG)


# --- files against the manifest


def test_a_changed_checkpoint_is_noticed(tmp_path):
    entry = load_manifest()["mdan_oasis4"]
    released = fetch.find_weights(entry)
    copy = tmp_path / "copy.safetensors"
    shutil.copy(released, copy)
    fetch.verify_file(copy, entry)

    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    with pytest.raises(CheckpointError, match=entry.sha256):
        fetch.verify_file(copy, entry)
    copy.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=f"{entry.size:,}"):
        fetch.verify_file(copy, entry)


@pytest.mark.slow
def test_released_weights_are_opened_once():
    """In a process of its own: an audit hook cannot be removed."""
    script = """
import sys
opened = []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".safetensors"):
        opened.append(arguments[0])
sys.addaudithook(hook)
import mdan_zoo
mdan_zoo.create_model("mdan_oasis4", pretrained=True)
mdan_zoo.Predictor("flat_oasis4")
print(len(opened), len(set(opened)))
"""
    assert run_python(script) == "2 2\n"


def test_the_bytes_that_were_verified_are_loaded(tmp_path):
    """The file is replaced after it was verified."""
    entry = load_manifest()["mdan_oasis4"]
    path = tmp_path / "copy.safetensors"
    shutil.copy(fetch.find_weights(entry), path)
    source = Source("file", url=path.as_uri())
    contents = fetch.read_weights(dataclasses.replace(entry, sources=(source,)))
    assert contents.path == path
    path.write_bytes(b"something else")
    loaded = create_model("mdan_oasis4", checkpoint=contents).state_dict()
    for name, value in create_model("mdan_oasis4", pretrained=True).state_dict().items():
        assert value.equal(loaded[name]), name


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="is not a file"):
        read_identity(tmp_path / "pipe")


def test_a_file_that_is_too_large_is_not_read(random_checkpoint, monkeypatch):
    monkeypatch.setattr(contents_module, "MAX_FILE_BYTES", 1000)
    with pytest.raises(CheckpointError, match="a checkpoint has at most 1,000"):
        open_checkpoint(random_checkpoint)


def test_a_source_without_the_file_is_reported():
    entry = load_manifest()["mdan_oasis4"]
    gone = dataclasses.replace(
        entry, sources=(Source("package", path="weights/other.safetensors"),)
    )
    with pytest.raises(WeightsUnavailableError, match=r"package weights/other\.safetensors"):
        fetch.find_weights(gone)


def test_weights_that_could_not_be_loaded_are_not_written(network, tmp_path):
    other = build_network(CONFIG)
    with torch.no_grad():
        other.reduce.weight[0, 0] = 1e6  # beyond float16
    path = tmp_path / "weights.safetensors"
    with pytest.raises(CheckpointError, match=r"reduce\.weight would hold .* torch\.float16"):
        save_checkpoint(path, other, CONFIG, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["all", "backbone", "levels.0"])
def test_a_compiled_network_is_saved_under_its_plain_names(part, network, tmp_path):
    compiled = build_network(CONFIG)
    compiled.load_state_dict(network.state_dict())
    if part == "all":
        compiled = torch.compile(compiled, backend="eager")
    else:
        parent, _, name = part.rpartition(".")
        child = torch.compile(compiled.get_submodule(part), backend="eager")
        compiled.get_submodule(parent).register_module(name, child)
    assert any("_orig_mod" in name for name in compiled.state_dict())
    save_checkpoint(tmp_path / "compiled.safetensors", compiled, CONFIG)
    save_checkpoint(tmp_path / "plain.safetensors", network, CONFIG)
    assert (tmp_path / "compiled.safetensors").read_bytes() == (
        tmp_path / "plain.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architecture": "flat", "options": None},
            "is of the class MDAN, the config has the architecture 'flat'",
        ),
        ({"options": dataclasses.replace(CONFIG.options, dim=128)}, "has dim 64, the config 128"),
        (
            {"options": dataclasses.replace(CONFIG.options, lcam="plain", alpha=0.5)},
            "has alpha 0.7, the config 0.5; the network has lcam 'normalised', the config 'plain'",
        ),
        ({"backbone": "resnet18"}, "the network's backbone is not a resnet18: lacks conv1.weight"),
        ({"backbone": "mobilenetv2_140"}, r"not a mobilenetv2_140: .* has shape \(\d+"),
        ({"backbone": "resnet1O1"}, "did you mean 'resnet101'"),
    ],
)
def test_a_config_of_another_network_is_refused(change, message, network, tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(MdanZooError, match=message):
        save_checkpoint(path, network, dataclasses.replace(CONFIG, **change))
    assert not list(tmp_path.iterdir())


def test_a_flat_network_needs_a_flat_config(tmp_path):
    flat = build_network(MODELS["flat_oasis4"])
    with pytest.raises(CheckpointError, match="class FlatClassifier, the config has the archi"):
        save_checkpoint(tmp_path / "weights.safetensors", flat, CONFIG)
    save_checkpoint(tmp_path / "weights.safetensors", flat, MODELS["flat_oasis4"])


@pytest.mark.parametrize("wrap", [torch.nn.DataParallel, torch.nn.Sequential, lambda n: n.backbone])
def test_other_modules_are_refused(wrap, network, tmp_path):
    with pytest.raises(InputError, match="network must be an EmotionModel, not"):
        save_checkpoint(tmp_path / "weights.safetensors", wrap(network), CONFIG)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, torch.complex64, "float16"])
def test_types_that_could_not_be_loaded_are_not_written(dtype, network, tmp_path):
    with pytest.raises(InputError, match=r"dtype must be one of torch\.float32, torch\.float16"):
        save_checkpoint(tmp_path / "weights.safetensors", network, CONFIG, dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_reported(network, tmp_path):
    with pytest.raises(InputError, match=r"none/w\.safetensors: there is no folder .*none$"):
        save_checkpoint(tmp_path / "none" / "w.safetensors", network, CONFIG)
