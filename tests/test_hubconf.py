"""torch.hub from a clean checkout, in an interpreter of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from clean_checkout import ROOT, copy_tracked_files

import mdan_zoo
from mdan_zoo.zoo import DEFAULT_MODEL

PRELUDE = """
import json, sys, torch
checkout, picture = sys.argv[1:]
def load(name, **options):
    return torch.hub.load(checkout, name, source="local", **options)
def answer(value):
    print(json.dumps(value))
"""


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Run code in a fresh interpreter beside a clean checkout, and return what it answers."""
    folder = tmp_path_factory.mktemp("hub")
    checkout = copy_tracked_files(folder / "OWNER_mdan-zoo_main")  # torch.hub's name for a download
    arguments = [str(checkout), str(ROOT / "examples" / "cat.jpg")]

    def run(code: str):
        # -I: neither the current folder nor PYTHONPATH helps to find the package.
        command = [sys.executable, "-I", "-c", PRELUDE + code, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_every_model_has_an_entry_point_with_help(ask):
    helps = ask("""
from pathlib import Path
torch.hub.set_dir(Path(checkout).parent)
repository = "OWNER/mdan-zoo:main"
options = dict(trust_repo=True, skip_validation=True)  # it is there already: no network
names = torch.hub.list(repository, **options)
answer({name: torch.hub.help(repository, name, **options) for name in names})
""")
    assert sorted(helps) == sorted([*mdan_zoo.list_models(), "predictor"])
    for name in mdan_zoo.list_models():
        assert mdan_zoo.get_config(name).dataset in helps[name]


def test_local_load_builds_the_network_of_the_checkout(ask):
    found = ask("""
from pathlib import Path
network = load("mdan_oasis4", pretrained=False).eval()
with torch.no_grad():
    output = network(torch.zeros(1, 3, 64, 64))
home = Path(sys.modules["mdan_zoo"].__file__).parents[1]
answer({
    "from_checkout": home == Path(checkout),
    "hierarchy": network.hierarchy.name,
    "shapes": [list(level.shape) for level in output.overall],
})
""")
    assert found == {"from_checkout": True, "hierarchy": "circumplex4", "shapes": [[1, 2], [1, 4]]}


def test_options_reach_create_model(ask):
    names = ask("""
network = load("mdan_oasis4", hierarchy="ekman6", backbone="resnet18")
answer([network.hierarchy.name, type(network.backbone.layer4[0]).__name__])
""")
    assert names == ["ekman6", "BasicBlock"]


def test_pretrained_means_the_model_of_that_name(ask):
    """Several models have equal networks; what the manifest says of their weights tells them."""
    unreleased = sorted(set(mdan_zoo.list_models()) - set(mdan_zoo.list_models(pretrained=True)))
    messages = ask(f"""
messages = {{}}
for name in {unreleased}:
    try:
        load(name, pretrained=True)
    except RuntimeError as error:
        messages[name] = str(error)
answer(messages)
""")
    assert list(messages) == unreleased
    for name, message in messages.items():
        assert message.startswith(f"{name} has no released weights")


def test_weights_and_predictor_of_the_checkout(ask):
    weights, prediction = ask("""
import hashlib
network = load("mdan_oasis4", pretrained=True)
values = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
prediction = load("predictor", device="cpu").predict(picture)
answer([hashlib.sha256(values).hexdigest(), prediction.to_dict()])
""")
    network = mdan_zoo.create_model("mdan_oasis4", pretrained=True)
    values = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
    assert weights == hashlib.sha256(values).hexdigest()
    assert prediction["model"] == DEFAULT_MODEL
    assert prediction["path"][0] in ("positive", "negative")
