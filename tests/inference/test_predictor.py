"""The predictor, with random weights."""

from __future__ import annotations

import dataclasses
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from image_server import image_server
from PIL import Image
from predictions import assert_close, flattened, one_by_one
from random_weights import CONFIG, save_random_weights
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.transforms import v2

import mdan_zoo
from mdan_zoo.errors import (
    CheckpointError,
    DeviceError,
    ImageError,
    InputError,
    UnknownNameError,
    WeightsUnavailableError,
)
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.images.input_spec import InputSpec
from mdan_zoo.images.load import ImageOptions, load_image
from mdan_zoo.images.preprocessing import Preprocessing, without_far_ends
from mdan_zoo.inference.predictor import Predictor, _shared_predictor
from mdan_zoo.models.base import EmotionOutput
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import DEFAULT_MODEL
from mdan_zoo.zoo.factory import get_config

TREE = Hierarchy.from_nested({"cold": ["blue", "green"], "warm": ["red"]}, "colours")


@pytest.fixture(scope="module")
def singly(predictor, photos):
    """The predictions of the photos, one at a time."""
    return one_by_one(predictor, photos)


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("flat") / "flat.safetensors"
    save_random_weights(path, TREE, dataclasses.replace(CONFIG, architecture="flat", options=None))
    return path


# One image


def test_prediction_equals_the_network_on_a_view_made_with_torchvision(predictor, photos):
    view = v2.Compose(
        [
            v2.Resize(256, v2.InterpolationMode.BILINEAR, antialias=True),
            v2.CenterCrop(224),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.4, 0.5, 0.6], [0.5, 0.25, 0.2]),
        ]
    )
    for photo in photos[:2]:
        with torch.no_grad():
            output = predictor.network(view(Image.open(photo).convert("RGB"))[None])
        prediction = predictor.predict(photo)
        assert prediction.probabilities.keys() == output.probs.keys()
        for branch, levels in output.probs.items():
            for mine, theirs in zip(prediction.probabilities[branch], levels, strict=True):
                np.testing.assert_allclose(mine, theirs[0].numpy(), atol=1e-5)
        torch.testing.assert_close(predictor.embed(photo), output.features[0], rtol=1e-4, atol=1e-5)
    assert predictor.config == CONFIG


def test_prediction_is_complete(predictor, photos):
    prediction = predictor.predict(str(photos[0]))
    assert prediction.image == str(photos[0])
    assert prediction.model == "mdan_oasis4"
    assert (prediction.branch, prediction.decode) == ("overall", "consistent")
    assert prediction.path == predictor.hierarchy.path(prediction.path[-1])
    for branch in ("overall", "local", "global"):
        for level in prediction.of(branch).levels:
            assert sum(level.scores.values()) == pytest.approx(1, abs=1e-5)
            assert max(level.scores.values()) <= 1


def test_probabilities_above_one_by_rounding_are_clamped(predictor):
    above = (torch.tensor([[1.2e-7, -20.0]]), torch.tensor([[1.2e-7, -20.0, -20.0, -20.0]]))
    assert above[0].exp().max() > 1
    output = EmotionOutput({"overall": above, "global": above}, features=torch.zeros(1, 3))
    (prediction,) = predictor.to_predictions(["a"], output)
    assert prediction.image == "a"
    assert prediction.of("global").levels[0].score == 1


def test_every_kind_of_image_gives_the_same_prediction(predictor, photos, singly):
    path = photos[0]
    encoded = path.read_bytes()
    image = Image.open(path)
    array = np.array(image)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    with image_server(encoded) as server:
        kinds = [str(path), encoded, io.BytesIO(encoded), image, array, tensor, server.url("/good")]
        predictions = predictor.predict(kinds)
    for prediction in predictions:
        np.testing.assert_allclose(flattened(prediction), flattened(singly[0]), atol=1e-5)
    assert predictions[4].image == "array of shape (80, 60, 3)"


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 1_000_000), (31, 33)])
def test_images_of_any_shape(predictor, size):
    assert predictor.predict(Image.new("RGB", size, "red")).error is None


def test_an_image_that_cannot_be_read(predictor, tmp_path):
    with pytest.raises(ImageError, match=r"absent\.png: No such file"):
        predictor.predict(tmp_path / "absent.png")
    with pytest.raises(ImageError, match=r"array of shape \(2, 8, 8, 3\): "):
        predictor.predict(np.zeros((2, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("options", [{"max_pixels": 100}, None])
def test_other_image_options_are_refused(checkpoint, options):
    with pytest.raises(InputError, match="image_options must be ImageOptions, not"):
        Predictor(checkpoint=checkpoint, image_options=options)


def test_image_options_are_heeded(checkpoint, photos):
    strict = Predictor(checkpoint=checkpoint, image_options=ImageOptions(max_pixels=100))
    with pytest.raises(ImageError, match="above max_pixels=100"):
        strict.predict(photos[0])


# Embeddings


def test_embeddings(predictor, photos):
    several = predictor.embed(photos)
    assert several.shape == (len(photos), 320)
    assert several.dtype == torch.float32
    assert several.std(dim=0).max() > 0.01
    single = predictor.embed(photos[2])
    assert single.shape == (320,)
    torch.testing.assert_close(single, several[2], rtol=1e-4, atol=1e-5)
    assert predictor.embed([]).shape == (0, 320)


def test_embeddings_can_train_a_classifier(predictor, photos):
    probe = torch.nn.Linear(320, 2)
    probe(predictor.embed(photos[:2])).sum().backward()
    assert probe.weight.grad.abs().sum() > 0


def test_embedding_a_bad_image_raises(predictor):
    with pytest.raises(ImageError, match="it is empty"):
        predictor.embed([b""])


# The raw output


def test_forward_takes_images_or_a_preprocessed_batch(predictor, photos):
    crops = [predictor.preprocessing.crop(load_image(photo)) for photo in photos[:3]]
    output = predictor.forward(torch.stack(crops))
    assert not output.features.requires_grad
    assert output.maps == output.class_maps == ()
    other = predictor.forward([photos[0], Image.open(photos[1]), photos[2].read_bytes()])
    assert torch.equal(output.features, other.features)
    names = [str(photo) for photo in photos[:3]]
    assert_close(predictor.to_predictions(names, output), predictor.predict(photos[:3]))
    with_maps = predictor.forward(torch.stack(crops), return_maps=True)
    assert len(with_maps.maps) == len(with_maps.class_maps) == predictor.hierarchy.depth


@pytest.mark.parametrize(
    "batch",
    [
        [],
        torch.zeros(0, 3, 224, 224, dtype=torch.uint8),
        torch.zeros(3, 224, 224, dtype=torch.uint8),
        torch.zeros(1, 3, 224, 256, dtype=torch.uint8),
        torch.zeros(1, 3, 224, 224),
    ],
)
def test_forward_refuses_other_tensors(predictor, batch):
    with pytest.raises(InputError, match=r"uint8 tensor \(N, 3, 224, 224\), not torch"):
        predictor.forward(batch)


def test_forward_raises_the_error_of_an_unreadable_image(predictor, photos):
    with pytest.raises(ImageError) as caught:
        predictor.forward([photos[0], "absent.png"])
    assert (caught.value.image, caught.value.reason) == (
        "absent.png",
        "No such file or directory",
    )
    assert str(caught.value) == "absent.png: No such file or directory"
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.image, copy.reason, str(copy)) == (
        caught.value.image,
        caught.value.reason,
        str(caught.value),
    )


# Preprocessing


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(44, 264), (264, 44), (44, 263), (451, 44)])
def test_cutting_the_far_ends_changes_nothing_of_the_view(interpolation, size):
    generator = np.random.default_rng(0)
    image = Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), np.uint8))
    assert max(without_far_ends(image).size) < max(size)
    whole = v2.CenterCrop(320)(v2.Resize(352, v2.InterpolationMode(interpolation))(image))
    view = Preprocessing(InputSpec(352, 320, interpolation=interpolation)).crop(image)
    assert (view.int() - v2.functional.pil_to_tensor(whole).int()).abs().max() <= 1


def test_only_extremely_long_images_are_cut():
    for size in [(1, 1), (1, 4), (300, 100), (100, 400), (101, 405)]:
        assert without_far_ends(Image.new("RGB", size)).size == size
    assert without_far_ends(Image.new("RGB", (1, 5000))).size == (1, 4)
    assert without_far_ends(Image.new("RGB", (5001, 1))).size == (5, 1)  # evenly at both ends


def test_normalising():
    preprocessing = Preprocessing(InputSpec(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0)))
    pixels = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    expected = torch.tensor([[0.0, 1.0], [-1.0, 1.0], [-0.5, 0.0]])[None, :, None]
    torch.testing.assert_close(preprocessing.normalise(pixels), expected)


# Branches and decoding


def test_branch_and_decoding_are_the_predictors(checkpoint, photos, singly):
    local = Predictor(checkpoint=checkpoint, device="cpu", branch="local", decode="independent")
    for photo, expected in zip(photos, singly, strict=True):
        prediction = local.predict(photo)
        assert (prediction.branch, prediction.decode) == ("local", "independent")
        same = dataclasses.replace(expected, branch="local", decode="independent")
        assert prediction.path == same.path


def test_a_flat_network_has_no_local_branch(flat, photos):
    prediction = Predictor(checkpoint=flat, device="cpu").predict(photos[0])
    assert prediction.probabilities.keys() == {"overall", "global"}
    assert prediction.probabilities["overall"] == prediction.probabilities["global"]
    with pytest.raises(InputError, match="no local branch"):
        prediction.of("local")
    with pytest.raises(InputError, match="mdan_oasis4 has no local branch"):
        Predictor(checkpoint=flat, branch="local")


def test_unknown_branch(checkpoint):
    branches = "'overall', 'local', 'global'"
    with pytest.raises(InputError, match=f"has no int7 branch; it has {branches}"):
        Predictor(checkpoint=checkpoint, branch="int7")


@pytest.mark.parametrize("argument", ["decode", "dtype"])
def test_unknown_options(checkpoint, argument):
    with pytest.raises(InputError, match=f"{argument} must be one of .*, not 'int7'"):
        Predictor(checkpoint=checkpoint, **{argument: "int7"})


# Devices and dtypes


@pytest.mark.parametrize("device", ["cuda:99", "mps", "meta"])
def test_a_device_that_does_not_exist(checkpoint, device):
    expected = rf"^device '{device}' is not available \(.{{,250}}\); available: cpu"
    with pytest.raises(DeviceError, match=expected):
        Predictor(checkpoint=checkpoint, device=device)


@pytest.mark.parametrize("device", ["nonsense", "nonsense:0", 1.5])
def test_what_is_no_device(checkpoint, device):
    with pytest.raises(DeviceError, match=rf"^unknown device {device!r}; available: cpu"):
        Predictor(checkpoint=checkpoint, device=device)


def test_the_default_device(checkpoint):
    there = "cuda" if torch.cuda.is_available() else "cpu"
    assert Predictor(checkpoint=checkpoint).device.type == there


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision(checkpoint, photos, singly, dtype):
    mixed = Predictor(checkpoint=checkpoint, device="cpu", dtype=dtype)
    predictions = mixed.predict(photos)
    assert_close(predictions, singly, tolerance=0.1)
    deviation = abs(flattened(predictions[0]) - flattened(singly[0])).max()
    assert deviation > 1e-4, "computed in float32 after all"
    assert mixed.embed(photos[0]).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-2), ("bfloat16", 0.1)])
def test_cuda_equals_cpu(checkpoint, photos, singly, dtype, tolerance):
    on_gpu = Predictor(checkpoint=checkpoint, device="cuda", dtype=dtype)
    assert_close(on_gpu.predict(photos), singly, tolerance)


def test_values_that_overflow_are_an_error(checkpoint, photos, tmp_path):
    with safe_open(checkpoint, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    tensors["global_classifier.weight"].fill_(3e38)
    save_file(tensors, tmp_path / "huge.safetensors", metadata)
    huge = Predictor(checkpoint=tmp_path / "huge.safetensors", device="cpu")
    (prediction,) = huge.stream([photos[0]])
    assert prediction.error == "the network's values overflow in float32"
    with pytest.raises(InputError, match=r"photo0\.png: the network's values overflow"):
        huge.predict(photos[0])
    half = Predictor(checkpoint=tmp_path / "huge.safetensors", device="cpu", dtype="float16")
    with pytest.raises(InputError, match="overflow in float16; use dtype 'float32'"):
        half.embed(photos[0])


# Names and weight files


def test_a_checkpoint_brings_its_own_hierarchy(tmp_path, photos):
    path = tmp_path / "colours.safetensors"
    save_random_weights(path, TREE)
    own = Predictor("mdan_oasis4", checkpoint=path, device="cpu")
    assert own.hierarchy == TREE
    assert own.predict(photos[0]).path in {TREE.path(leaf) for leaf in TREE.leaves}


def test_a_checkpoint_of_another_model(checkpoint):
    with pytest.raises(CheckpointError, match="belongs to the model mdan_oasis4, not to mdan_fi8"):
        Predictor("mdan_fi8", checkpoint=checkpoint)
    with pytest.raises(UnknownNameError, match="did you mean 'mdan_oasis4'"):
        Predictor("mdan_oasis", checkpoint=checkpoint)


def test_unknown_and_unreleased_models():
    with pytest.raises(UnknownNameError, match="there is no model 'mdan_f18'"):
        Predictor("mdan_f18")
    entry = load_manifest()["mdan_webemo25"]
    with pytest.raises(WeightsUnavailableError) as caught:
        Predictor("mdan_webemo25")
    assert entry.reason in str(caught.value)
    assert entry.command in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_of_torch_changes_nothing(checkpoint, photos, predictor, dtype):
    torch.set_default_dtype(dtype)
    try:
        other = Predictor(checkpoint=checkpoint, device="cpu")
        found = predictor.predict(photos), predictor.embed([]).dtype
        again = other.predict(photos), other.embed([]).dtype
        released = Predictor(device="cpu").predict(photos[0])
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == again == (predictor.predict(photos), torch.float32)
    assert released == Predictor(device="cpu").predict(photos[0])


def test_the_default_device_of_torch_changes_nothing(checkpoint, photos, predictor):
    expected = predictor.predict(photos), predictor.forward(photos).features
    with torch.device("meta"):
        other = Predictor(checkpoint=checkpoint, device="cpu")
        for one in (predictor, other):
            assert one.predict(photos) == expected[0]
            assert one.predict(photos[0]).to_dict() == predictor.predict(photos[0]).to_dict()
            assert one.forward(photos).features.equal(expected[1])
            assert mdan_zoo.explain(photos[0], model=one).levels[0].class_maps.any()
            assert one.embed([]).device.type == "cpu"


def test_the_predictor_names_itself(predictor):
    assert repr(predictor) == "Predictor('mdan_oasis4', device='cpu', dtype='float32')"


# The released weights


def test_released_default_model(photos):
    default = Predictor(device="cpu")
    assert default.config == get_config(DEFAULT_MODEL)
    assert_close(default.predict(photos), list(default.stream(photos, batch_size=3)))


def test_released_model_behind_the_short_way(photos):
    _shared_predictor.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        predictions = list(pool.map(mdan_zoo.predict, photos))
    assert _shared_predictor.cache_info().misses == 1  # four threads, one load
    assert_close(predictions, Predictor().predict(photos), tolerance=1e-2)
    assert_close(mdan_zoo.predict(photos, model=DEFAULT_MODEL), predictions)
    with pytest.raises(UnknownNameError, match="there is no model 'oasis'"):
        mdan_zoo.predict(photos[0], model="oasis")
