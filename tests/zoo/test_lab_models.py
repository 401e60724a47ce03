"""Models that only a manifest of somebody's own knows: they have names like any other."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from published_weights import OWN_TREE
from random_weights import save_random_weights

import mdan_zoo
from mdan_zoo.demo.answer import NamedImage, answer_html
from mdan_zoo.demo.models import find_models, load_predictor
from mdan_zoo.errors import ManifestError, UnknownNameError
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.publishing.publish import prepare
from mdan_zoo.training import fine_tuning_recipe
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import MODELS
from mdan_zoo.zoo.factory import create_model, get_config, get_model_hierarchy

PLACE = "/lab/model.safetensors"


@pytest.fixture(scope="module")
def publication(tmp_path_factory):
    path = tmp_path_factory.mktemp("lab") / "model.safetensors"
    save_random_weights(path, OWN_TREE, MODELS["mdan_oasis4"])
    return prepare("lab_likes", path, licence="CC-BY-4.0")


@pytest.fixture
def entry(publication, server, cache, name_manifest):
    """Put the weights on a server, name the manifest that says so, and return its entry."""
    server.files[PLACE] = publication.weights.path.read_bytes()
    content = publication.entry({"type": "https", "url": server.url(PLACE)})
    name_manifest(lab_likes=content)
    return content


def test_it_is_listed(entry, run):
    assert "lab_likes" in mdan_zoo.list_models()
    assert mdan_zoo.list_models("lab_*", pretrained=True) == ["lab_likes"]
    exit_status, output, messages = run("list", "lab_*")
    assert (exit_status, messages) == (0, "")
    cells = output.splitlines()[1].split()
    assert cells[0] == "lab_likes"
    assert cells[-1] == "released"
    assert "2/4" in cells


def test_the_page_predicts_with_it(entry, photos):
    create_model("lab_likes", pretrained=True)  # fetches it
    (listed,) = [model for model in find_models() if model.name == "lab_likes"]
    assert listed.status == "ready"
    predictor = load_predictor("lab_likes")
    load_predictor.cache_clear()
    assert predictor.predict(photos[0]).model == predictor.name == "lab_likes"
    assert "predicted by lab_likes" in answer_html(predictor, [NamedImage("a", photos[0])])


def test_the_page_lists_a_system_only_with_an_entry(publication, cache, name_manifest):
    """The systems to compare with have none, and there are too many of them for a list."""
    assert "wscnet_fi8" not in {model.name for model in find_models()}
    path = publication.weights.path
    name_manifest(wscnet_fi8=publication.entry({"type": "file", "url": path.as_uri()}))
    listed = {model.name: model for model in find_models()}
    assert (listed["wscnet_fi8"].status, listed["wscnet_fi8"].weights) == ("ready", path)
    assert "wscnet_iaps8" not in listed


def test_the_page_lists_an_incomplete_entry_beside_the_others(entry, name_manifest):
    incomplete = {key: value for key, value in entry.items() if key != "config"}
    name_manifest(lab_likes=entry, lab_incomplete=incomplete)
    listed = {model.name: model for model in find_models()}
    assert listed["lab_incomplete"].weights is None
    assert "no 'config'" in listed["lab_incomplete"].status
    assert listed["mdan_oasis4"].status == "ready"


def test_fine_tuning_starts_from_it_by_the_recipe_of_its_network(entry):
    recipe = fine_tuning_recipe("lab_likes", ["epochs=3"])
    assert (recipe.init, recipe.epochs) == ("lab_likes", 3)
    assert recipe == dataclasses.replace(
        fine_tuning_recipe("mdan_oasis4", ["epochs=3"]), init="lab_likes"
    )


def test_its_config_and_hierarchy_are_those_of_the_manifest(entry, publication, run):
    assert get_config("lab_likes") == publication.weights.config
    assert get_model_hierarchy("lab_likes") == OWN_TREE
    _, output, _ = run("info", "lab_likes")
    assert "\n    like: love, enjoy\n" in output
    assert "\n  weights: CC-BY-4.0\n" in output
    about = json.loads(run("info", "lab_likes", "--json")[1])
    assert about["hierarchy"] == OWN_TREE.to_dict()
    assert about["weights"]["sha256"] == entry["sha256"]


def test_without_the_manifest_there_is_no_such_model(entry, monkeypatch, run):
    monkeypatch.delenv("MDAN_ZOO_MANIFEST")
    assert "lab_likes" not in mdan_zoo.list_models()
    with pytest.raises(UnknownNameError, match="there is no model 'lab_likes'"):
        create_model("lab_likes")
    assert run("info", "lab_likes")[0] == 2


def test_a_mistyped_name_is_helped(entry):
    with pytest.raises(UnknownNameError, match="did you mean 'lab_likes'"):
        create_model("lab_like")


def test_the_network_has_the_published_weights(entry, publication, server):
    network = create_model("lab_likes", pretrained=True)
    assert network.hierarchy == OWN_TREE
    expected = mdan_zoo.from_pretrained(publication.weights.path.parent).state_dict()
    state = network.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert [request.path for request in server.requests] == [PLACE]


def test_without_weights_it_can_be_trained(entry, server):
    network = create_model("lab_likes")
    assert network.hierarchy == OWN_TREE
    assert create_model("lab_likes", hierarchy="ekman6").hierarchy.name == "ekman6"
    assert server.connections == 0


def test_a_predictor_takes_its_name(entry, publication, photos):
    by_name = Predictor("lab_likes", device="cpu").predict(photos[1])
    by_file = Predictor(checkpoint=publication.weights.path, device="cpu").predict(photos[1])
    assert by_name.levels[0].name == OWN_TREE.level_names[0]
    assert [level.scores for level in by_name.levels] == [level.scores for level in by_file.levels]


def test_the_command_predict_takes_its_name(entry, publication, photos, run):
    arguments = ("--device", "cpu", "--format", "csv", photos[1])
    by_name = run("predict", "--model", "lab_likes", *arguments)
    assert by_name[0] == 0
    assert by_name == run("predict", "--checkpoint", publication.weights.path, *arguments)
    assert "fine:enjoy" in by_name[1]


def test_its_entry_may_replace_a_registered_one(publication, cache, name_manifest):
    """The weights are then the lab's; the network stays what is registered under the name."""
    source = {"type": "file", "url": publication.weights.path.as_uri()}
    name_manifest(mdan_oasis4=publication.entry(source))
    assert load_manifest()["mdan_oasis4"].sha256 == publication.weights.sha256
    with pytest.raises(mdan_zoo.MdanZooError, match="was trained for the hierarchy"):
        create_model("mdan_oasis4", pretrained=True)


@pytest.mark.parametrize("field", ["config", "hierarchy"])
def test_an_entry_that_describes_no_network_is_reported(field, entry, name_manifest):
    name_manifest(lab_likes={k: v for k, v in entry.items() if k != field})
    with pytest.raises(ManifestError, match=f"entry of lab_likes has no '{field}'"):
        create_model("lab_likes")
