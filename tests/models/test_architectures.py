"""The registry of architectures, and the shared tests of every built-in one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from architecture_tests import ArchitectureTests, built_in
from safetensors import safe_open

from mdan_zoo.errors import InputError, UnknownNameError
from mdan_zoo.models.base import EmotionModel
from mdan_zoo.models.config import ModelConfig
from mdan_zoo.models.flat import FlatClassifier
from mdan_zoo.models.options import FlatOptions, MDANOptions
from mdan_zoo.models.registry import (
    get_architecture,
    list_architectures,
    register_architecture,
)
from mdan_zoo.zoo.configs import MODELS

WEIGHTS = Path(sys.modules["mdan_zoo"].__file__).parent / "weights"


class TestBuiltIn(ArchitectureTests):
    architectures = built_in(list_architectures())


def test_the_built_in_architectures_are_listed_without_torch():
    code = (
        "import sys; from mdan_zoo.models import list_architectures; "
        "from mdan_zoo.models.registry import get_options_class; "
        "print(list_architectures(), get_options_class('flat').__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ["cnnrnn", "flat", "fpn", "intensity", "mdan", "pdanet", "probe", "wscnet"]
    assert done.stdout.strip() == f"{names} FlatOptions False"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("mdann", "did you mean 'mdan'"),
        (["mdan"], "did you mean 'mdan'"),
        (None, "available: cnnrnn, flat, fpn, intensity, mdan, pdanet, "),
    ],
)
def test_an_unknown_architecture_is_answered_with_the_nearest_names(name, advice):
    with pytest.raises(UnknownNameError, match=f"there is no architecture .*; {advice}"):
        get_architecture(name)
    with pytest.raises(UnknownNameError, match="there is no architecture"):
        ModelConfig("model", "mikels8", "FI", architecture=name)


@pytest.mark.parametrize("name", ["mdan", "flat"])
def test_a_registered_name_cannot_be_taken_by_another_class(name):
    with pytest.raises(InputError, match=f"architecture '{name}' is already registered"):

        @register_architecture(name)
        class Other(EmotionModel):
            pass

    assert get_architecture(name).__module__.startswith("mdan_zoo.")


def test_a_class_is_registered_again_when_its_module_is_reloaded():
    assert register_architecture("flat", options=FlatOptions)(FlatClassifier) is FlatClassifier
    assert get_architecture("flat") is FlatClassifier


def test_options_are_those_of_the_architecture():
    assert ModelConfig("model", "mikels8", "FI").options == MDANOptions()
    assert ModelConfig("model", "mikels8", "FI", architecture="flat").options == FlatOptions()
    with pytest.raises(InputError, match="'flat' must be FlatOptions, not MDANOptions"):
        ModelConfig("model", "mikels8", "FI", architecture="flat", options=MDANOptions())
    with pytest.raises(InputError, match="dropout must be at least 0 and below 1, not 1"):
        FlatOptions(dropout=1)


@pytest.mark.parametrize("name", ["mdan_oasis4", "flat_oasis4"])
def test_configs_that_version_0_1_stored_are_read(name):
    """Version 0.1 stored the options of MDAN for flat classifiers, too."""
    with safe_open(WEIGHTS / f"{name}.safetensors", "pt") as file:
        stored = json.loads(file.metadata()["mdan_zoo"])["config"]
    assert {"dim", "alpha", "heads", "lcam", "dropout"} <= stored["options"].keys()
    config = ModelConfig.from_dict(stored)
    assert config == MODELS[name]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(InputError, match="unexpected keyword argument 'colour'"):
        ModelConfig.from_dict({**stored, "options": {**stored["options"], "colour": 1}})
