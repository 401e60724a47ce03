"""Explanations: the prediction with the maps of the same forward pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from random_weights import CONFIG, save_random_weights

import mdan_zoo
from mdan_zoo.errors import ImageError, InputError, UnknownNameError, WeightsUnavailableError
from mdan_zoo.images.load import load_image
from mdan_zoo.inference.explanation import explain
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.models.options import MDANOptions
from mdan_zoo.zoo.configs import DEFAULT_MODEL, MODELS
from mdan_zoo.zoo.factory import build_network


def random_predictor(architecture, folder):
    path = folder / "model.safetensors"
    config = dataclasses.replace(CONFIG, architecture=architecture, options=None)
    save_random_weights(path, config=config)
    return Predictor(checkpoint=path, device="cpu")


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return random_predictor("flat", tmp_path_factory.mktemp("flat"))


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def bias(classifier):
    return classifier.bias.detach().numpy()


def test_one_forward_pass_gives_the_prediction_and_the_maps(predictor, photos):
    passes = []
    with torch.no_grad():
        hook = predictor.network.register_forward_hook(lambda *_: passes.append(1))
        explanation = explain(photos[0], model=predictor)
        hook.remove()
    assert len(passes) == 1
    expected = predictor.predict(photos[0])
    assert explanation.prediction == expected
    assert repr(explanation) == f"Explanation({expected})"
    np.testing.assert_array_equal(explanation.image, load_image(photos[0]))


def test_maps_add_up_to_the_local_prediction(predictor, photos):
    for explanation in explain(photos, model=predictor):
        local = explanation.prediction.probabilities["local"]
        for maps, level, probabilities in zip(
            explanation.levels, predictor.network.levels, local, strict=True
        ):
            amplified = ((1 + maps.attention) * maps.class_maps).mean(axis=(1, 2))
            mine = softmax(amplified + bias(level.classifier))
            np.testing.assert_allclose(mine, probabilities, atol=1e-4)


@pytest.mark.parametrize("winner", [0, 1])
def test_attention_is_fused_from_the_children_of_the_local_winner(winner, checkpoint, photos):
    own = Predictor(checkpoint=checkpoint, device="cpu")
    with torch.no_grad():
        own.network.levels[0].classifier.bias[winner] += 20  # whatever the image
    tree = own.hierarchy
    for explanation in explain(photos[:3], model=own):
        first, second = explanation.levels
        assert first.parent is None
        assert second.parent == tree.levels[0][winner]
        for maps, fused in ((first, first.labels), (second, tree.children(0, second.parent))):
            chosen = maps.class_maps[[maps.labels.index(label) for label in fused]]
            expected = chosen.mean(axis=0) + chosen.max(axis=0)
            np.testing.assert_allclose(maps.attention, expected, rtol=1e-4, atol=1e-5)


def test_a_flat_network_has_class_activation_maps_of_its_finest_level(flat, photos):
    explanation = explain(photos[0], model=flat)
    (maps,) = explanation.levels
    assert (maps.name, maps.attention, maps.parent) == ("quadrant", None, None)
    assert maps.class_maps.shape == (4, 7, 7)
    mine = softmax(maps.class_maps.mean(axis=(1, 2)) + bias(flat.network.global_classifier))
    np.testing.assert_allclose(mine, explanation.prediction.probabilities["global"][1], atol=1e-4)
    with pytest.raises(
        InputError, match=r"mdan_oasis4 has no attention map; give a class of level 'quadrant'"
    ):
        explanation.on_image("quadrant")
    with pytest.raises(InputError, match="no maps at level 'polarity', only at 'quadrant';"):
        explanation.on_image("polarity", "positive")


def test_wscnet_has_the_sentiment_map_of_its_detection_maps(photos, tmp_path):
    explanation = explain(photos[0], model=random_predictor("wscnet", tmp_path))
    (maps,) = explanation.levels
    assert (maps.name, maps.parent) == ("quadrant", None)
    scores = maps.class_maps.mean(axis=(1, 2))
    expected = np.einsum("k,khw->hw", scores, maps.class_maps) / 4
    np.testing.assert_allclose(explanation.find_map("quadrant"), expected, rtol=1e-3, atol=1e-6)


def test_pdanet_has_the_weights_of_positions_and_maps_of_its_prediction(photos, tmp_path):
    model = random_predictor("pdanet", tmp_path)
    explanation = explain(photos[0], model=model)
    (maps,) = explanation.levels
    assert (maps.name, maps.parent, maps.attention.shape) == ("quadrant", None, (7, 7))
    assert maps.attention.sum() == pytest.approx(1, rel=1e-5)
    mine = softmax(maps.class_maps.mean(axis=(1, 2)) + bias(model.network.global_classifier))
    np.testing.assert_allclose(mine, explanation.prediction.probabilities["global"][1], atol=1e-4)


@pytest.mark.parametrize(("name", "attention"), [("fpn", None), ("intensity", (28, 28))])
def test_maps_of_a_pyramid_add_up_to_the_prediction(name, attention, photos, tmp_path):
    model = random_predictor(name, tmp_path)
    explanation = explain(photos[0], model=model)
    (maps,) = explanation.levels
    assert (maps.name, maps.parent) == ("quadrant", None)
    assert getattr(maps.attention, "shape", None) == attention
    mine = softmax(maps.class_maps.mean(axis=(1, 2)) + bias(model.network.global_classifier))
    np.testing.assert_allclose(mine, explanation.prediction.probabilities["global"][1], atol=1e-4)


def test_a_network_without_maps_is_predicted_but_not_explained(photos, tmp_path):
    model = random_predictor("cnnrnn", tmp_path)
    assert model.predict(photos[0]).error is None
    with pytest.raises(InputError, match="cannot be explained: it has no class activation maps"):
        explain(photos[0], model=model)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_registered_model_gives_its_maps_in_a_batch(name):
    config = dataclasses.replace(MODELS[name], backbone="mobilenetv2_100")
    network = build_network(config).eval()
    with torch.inference_mode():
        output = network(torch.randn(2, 3, 64, 96), return_maps=True)
        without = network(torch.randn(2, 3, 64, 96))
    assert without.maps == without.class_maps == ()
    if config.architecture == "flat":
        assert output.maps == ()
        assert [m.shape for m in output.class_maps] == [(2, network.hierarchy.sizes[-1], 2, 3)]
        return
    for level, classes in enumerate(network.hierarchy.sizes):
        side = 4 * 2**level
        assert output.maps[level].shape == (2, side, side * 3 // 2)
        assert output.class_maps[level].shape == (2, classes, side, side * 3 // 2)


def test_a_list_gives_the_same_as_its_images_one_by_one(predictor, photos):
    explanations = explain(photos, model=predictor)
    assert [e.prediction.image for e in explanations] == [str(photo) for photo in photos]
    for photo, mine in zip(photos, explanations, strict=True):
        alone = explain(photo, model=predictor)
        assert alone.region == mine.region
        for a, b in zip(alone.levels, mine.levels, strict=True):
            assert a.parent == b.parent
            np.testing.assert_allclose(a.attention, b.attention, atol=1e-4)
            np.testing.assert_allclose(a.class_maps, b.class_maps, atol=1e-4)
    assert explain([], model=predictor) == []


def test_maps_on_the_image_have_its_size_and_stand_upright(predictor, photos, tmp_path):
    upright = Image.open(photos[1])
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise when shown
    upright.transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    explanation = explain(turned, model=predictor)
    assert explanation.image.size == upright.size
    expected = explain(photos[1], model=predictor)
    for label in (None, "serene"):
        mine = explanation.on_image("quadrant", label)
        assert mine.shape == (upright.height, upright.width)
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, expected.on_image(1, label), atol=1e-5)
    assert np.isnan(mine[:, 0]).all()
    assert not np.isnan(mine[upright.height // 2, upright.width // 2])
    class_maps = explanation.level("quadrant").class_maps
    serene = predictor.hierarchy.index("quadrant", "serene")
    np.testing.assert_array_equal(explanation.find_map("quadrant", "serene"), class_maps[serene])


def test_mixed_precision_gives_float32_maps_that_are_near(checkpoint, predictor, photos):
    mixed = Predictor(checkpoint=checkpoint, device="cpu", dtype="bfloat16")
    maps = explain(photos[0], model=mixed).levels[0]
    expected = explain(photos[0], model=predictor).levels[0]
    assert maps.attention.dtype == maps.class_maps.dtype == np.float32
    assert np.corrcoef(maps.class_maps.ravel(), expected.class_maps.ravel())[0, 1] > 0.98


def test_the_default_model_has_attention(photos):
    explanation = mdan_zoo.explain(photos[0])
    assert explanation.prediction.model == DEFAULT_MODEL
    assert all(maps.attention is not None for maps in explanation.levels)


@pytest.mark.parametrize("name", mdan_zoo.list_models("mdan_*", pretrained=True))
def test_the_released_models_attention_is_scaled_within_each_image(name, photos):
    predictor = Predictor(name, device="cpu")
    assert predictor.config.options.lcam == "normalised"
    for explanation in explain(photos[:3], model=predictor):
        tree = explanation.prediction.hierarchy
        first, second = explanation.levels
        for maps, fused in ((first, first.labels), (second, tree.children(0, second.parent))):
            chosen = maps.class_maps[[maps.labels.index(label) for label in fused]]
            plain = chosen.mean(axis=0) + chosen.max(axis=0)
            scaled = (plain - plain.min()) / (plain.max() - plain.min())
            np.testing.assert_allclose(maps.attention, scaled, atol=1e-4)
        local = explanation.prediction.probabilities["local"][0]
        assert second.parent == tree.levels[0][int(np.argmax(local))]


def test_unknown_names_are_reported_with_the_nearest(predictor, photos):
    explanation = explain(photos[0], model=predictor)
    with pytest.raises(UnknownNameError, match=r"no level 'mood'.*'polarity', 'quadrant'"):
        explanation.on_image("mood")
    with pytest.raises(UnknownNameError, match=r"'seren'.*did you mean 'serene'"):
        explanation.on_image("quadrant", "seren")
    with pytest.raises(UnknownNameError, match="did you mean 'mdan_oasis4'"):
        explain(photos[0], model="mdan_oasis")


def test_a_network_without_maps_cannot_be_explained(predictor, photos, monkeypatch):
    forward = predictor.forward
    monkeypatch.setattr(predictor, "forward", lambda images, return_maps: forward(images))
    with pytest.raises(InputError, match="mdan_oasis4 cannot be explained: it has no"):
        explain(photos[0], model=predictor)


def test_what_cannot_be_explained_says_why(predictor, photos, tmp_path):
    with pytest.raises(ImageError, match=r"absent\.png: No such file"):
        explain([photos[0], tmp_path / "absent.png"], model=predictor)
    with pytest.raises(WeightsUnavailableError, match="mdan_fi8 has no released weights"):
        explain(photos[0], model="mdan_fi8")
    with pytest.raises(InputError, match=r"a name or a mdan_zoo\.Predictor, not MDAN"):
        explain(photos[0], model=predictor.network)


def test_a_network_without_lcam_has_class_activation_maps_of_every_level(photos, tmp_path):
    options = MDANOptions(
        dim=16, fusion="lateral", lcam="off", semantic_levels=(3, 4), branches="local", alpha=1
    )
    path = tmp_path / "lateral.safetensors"
    save_random_weights(path, config=dataclasses.replace(CONFIG, options=options))
    predictor = Predictor(checkpoint=path, device="cpu")
    explanation = explain(photos[0], model=predictor)
    assert [maps.class_maps.shape for maps in explanation.levels] == [(2, 28, 28), (4, 14, 14)]
    for maps in explanation.levels:
        assert (maps.attention, maps.parent) == (None, None)
    assert explanation.prediction.probabilities.keys() == {"overall", "local"}
    with pytest.raises(InputError, match="has no global branch; it has 'overall', 'local'"):
        explanation.prediction.of("global")
