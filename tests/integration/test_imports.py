"""Imports: the package and its quick commands must not load torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mdan_zoo


def loaded_after(code: str) -> set[str]:
    """Run code in a fresh interpreter; return the names of the modules that it has then."""
    show = "\nimport sys; print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code + show], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import mdan_zoo",
        "import mdan_zoo; dir(mdan_zoo); mdan_zoo.list_models(); mdan_zoo.Prediction",
        "from mdan_zoo.cli.main import main; assert main(['list']) == 0",
        "from mdan_zoo.cli.main import main; assert main(['list', '--pretrained']) == 0",
        "from mdan_zoo.cli.main import main; assert main(['info', 'mdan_oasis4']) == 0",
        "from mdan_zoo.cli.main import main; assert main(['info', 'mdan_oasis4', '--json']) == 0",
    ],
)
def test_no_heavy_library_is_loaded(code):
    loaded = loaded_after(code)
    assert "mdan_zoo" in loaded
    assert loaded.isdisjoint({"torch", "torchvision", "timm", "numpy", "PIL", "requests"})


def test_loaded_modules_are_seen():
    assert "PIL" in loaded_after("import mdan_zoo; mdan_zoo.load_image")


def test_every_public_name_is_there():
    for name in mdan_zoo.__all__:
        assert getattr(mdan_zoo, name) is not None
    assert set(mdan_zoo.__all__) <= set(dir(mdan_zoo))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mdan_zoo' has no attribute 'forecast'"):
        mdan_zoo.forecast  # noqa: B018
