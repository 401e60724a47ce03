"""torch.hub from a clean checkout, in an interpreter of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from clean_checkout import ROOT, copy_tracked_files

import mdan_zoo
from mdan_zoo.zoo.configs import DEFAULT_MODEL, MODELS, REGISTERED

PRELUDE = """
import json, sys, torch
checkout, image = sys.argv[1:]
def load(entry_point, **options):
    return torch.hub.load(checkout, entry_point, source="local", **options)
def answer(value):
    print(json.dumps(value))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Return the repository as torch.hub has it after a download: unpacked from a zip, no .git."""
    folder = tmp_path_factory.mktemp("hub")
    tracked = copy_tracked_files(folder / "tracked")
    archive = shutil.make_archive(str(folder / "tracked"), "zip", tracked)
    checkout = folder / "OWNER_mdan-zoo_v0.1.0"  # torch.hub's name for it
    shutil.unpack_archive(archive, checkout)
    return checkout


@pytest.fixture(scope="module")
def ask(checkout):
    """Run code in a fresh interpreter beside a clean checkout, and return what it answers."""
    arguments = [str(checkout), str(ROOT / "examples" / "cat.jpg")]

    def run(code: str, *, packages: Path | None = None):
        # -I: neither the current folder nor PYTHONPATH helps to find the package.
        options, start = ["-I"], PRELUDE
        if packages is not None:  # -S: nothing that is installed is found
            options, start = (
                ["-I", "-S"],
                f"import sys; sys.path.append({str(packages)!r}){PRELUDE}",
            )
        command = [sys.executable, *options, "-c", start + code, *arguments]
        done = subprocess.run(command, cwd=checkout.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def packages_without(tmp_path):
    """Return what makes a folder with everything that is installed, except the named packages."""
    if os.name != "posix":
        pytest.skip("needs links")

    def make(*names: str) -> Path:
        folder = tmp_path / "packages"
        folder.mkdir()
        for scheme in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for path in Path(scheme).iterdir():
                if not path.name.startswith(names):
                    (folder / path.name).symlink_to(path)
        return folder

    return make


@pytest.mark.slow
def test_every_model_has_an_entry_point_with_help(ask):
    helps = ask("""
from pathlib import Path
torch.hub.set_dir(Path(checkout).parent)
repository = "OWNER/mdan-zoo:v0.1.0"
options = dict(trust_repo=True, skip_validation=True)  # it is there already: no network
names = torch.hub.list(repository, **options)
answer({name: torch.hub.help(repository, name, **options) for name in names})
""")
    assert sorted(helps) == sorted([*REGISTERED, "predictor"])
    for name, config in REGISTERED.items():
        assert config.dataset in helps[name]
        assert config.backbone.partition("v2")[0] in helps[name].lower().replace("-", "")


@pytest.mark.slow
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
    "shapes": [list(level.shape) for level in output.probs["overall"]],
})
""")
    assert found == {"from_checkout": True, "hierarchy": "circumplex4", "shapes": [[1, 2], [1, 4]]}


@pytest.mark.slow
def test_options_reach_create_model(ask):
    names = ask("""
network = load("mdan_oasis4", hierarchy="ekman6", backbone="resnet18")
answer([network.hierarchy.name, type(network.backbone.layer4[0]).__name__])
""")
    assert names == ["ekman6", "BasicBlock"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_weights_and_predictor_of_the_checkout(ask):
    weights, prediction = ask("""
import hashlib
network = load("mdan_oasis4", pretrained=True)
values = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
prediction = load("predictor", device="cpu").predict(image)
answer([hashlib.sha256(values).hexdigest(), prediction.to_dict()])
""")
    network = mdan_zoo.create_model("mdan_oasis4", pretrained=True)
    values = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
    assert weights == hashlib.sha256(values).hexdigest()
    assert prediction["model"] == DEFAULT_MODEL
    assert prediction["path"][0] in ("positive", "negative")


@pytest.mark.slow
def test_a_pinned_download_is_loaded_without_network_or_question(ask, checkout):
    """As after the first `torch.hub.load` of a tag; stdin is closed, so a question would fail."""
    found = ask("""
from pathlib import Path
torch.hub.set_dir(Path(checkout).parent)
network = torch.hub.load("OWNER/mdan-zoo:v0.1.0", "flat_oasis4", pretrained=True, trust_repo=True)
answer([network.hierarchy.name, str(Path(sys.modules["mdan_zoo"].__file__).parents[1])])
""")
    assert found == ["circumplex4", str(checkout)]
    assert (checkout.parent / "trusted_list").read_text() == ""  # what is there already is trusted


@pytest.mark.slow
def test_a_predictor_can_be_loaded_by_a_name_of_another_manifest(ask, tmp_path):
    entry = json.loads((ROOT / "weights_manifest.json").read_text())["models"]["flat_oasis4"]
    source = {"type": "package", "path": "weights/flat_oasis4.safetensors"}
    manifest = tmp_path / "lab.json"
    details = {
        "config": MODELS["flat_oasis4"].to_dict(),
        "hierarchy": mdan_zoo.get_hierarchy("circumplex4").to_dict(),
    }
    models = {"lab_model": {**entry, "sources": [source], **details}}
    manifest.write_text(json.dumps({"schema_version": 1, "models": models}))
    names = ask(f"""
import os
os.environ["MDAN_ZOO_MANIFEST"] = {str(manifest)!r}
answer(load("predictor", name="lab_model", device="cpu").hierarchy.name)
""")
    assert names == "circumplex4"


# With other packages


@pytest.mark.slow
def test_it_works_where_mdan_zoo_and_what_it_can_do_without_are_not_installed(
    ask, packages_without
):
    packages = packages_without("mdan_zoo", "__editable__", "accelerate", "matplotlib", "pyarrow")
    found = ask(
        """
import importlib.util
installed = [n for n in ("mdan_zoo", "accelerate", "matplotlib") if importlib.util.find_spec(n)]
network = load("mdan_oasis4", pretrained=True)
label = load("predictor", device="cpu").predict(image).path[0]
answer([installed, label in ("positive", "negative")])
""",
        packages=packages,
    )
    assert found == [[], True]


@pytest.mark.slow
def test_an_installed_mdan_zoo_does_not_stand_in_for_the_checkout(ask, checkout, tmp_path):
    """It is found after the checkout; one that is imported already stays, as Python does it."""
    other = tmp_path / "mdan_zoo"
    other.mkdir()
    (other / "__init__.py").write_text("__version__ = 'other'\n")
    code = f"""
sys.path.insert(0, {str(tmp_path)!r})
load("mdan_oasis4")
answer(sys.modules["mdan_zoo"].__file__)
"""
    assert ask(code) == str(checkout / "mdan_zoo" / "__init__.py")


@pytest.mark.slow
def test_missing_dependencies_are_named(ask, packages_without):
    """All of them at once, so the file itself can be read without any."""
    missing = ["torchvision", "timm", "safetensors", "PIL", "requests", "huggingface_hub"]
    message = ask(
        """
try:
    load("mdan_oasis4")
except RuntimeError as error:
    answer(str(error))
""",
        packages=packages_without("mdan_zoo", "__editable__", *missing),
    )
    assert message == f"Missing dependencies: {', '.join(missing)}"
