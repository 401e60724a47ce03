"""One manifest, found alike from a wheel, an sdist, an editable install and a checkout."""

from __future__ import annotations

import dataclasses
import email
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from clean_checkout import ROOT, copy_tracked_files, tracked_files

import mdan_zoo
from mdan_zoo.weights.manifest import MANIFEST_VARIABLE, load_manifest
from mdan_zoo.zoo.configs import SYSTEMS

pytestmark = pytest.mark.slow

MANIFEST = "weights_manifest.json"
NOT_IN_SDIST = {".gitignore"}
MEGABYTE = 1_000_000

ABOUT = """
import dataclasses, json, mdan_zoo, mdan_zoo.weights.manifest
print(json.dumps({
    "manifest": str(mdan_zoo.weights.manifest.manifest_path()),
    "entries": [dataclasses.asdict(e) for e in mdan_zoo.weights.manifest.load_manifest().values()],
    "version": mdan_zoo.__version__,
}))
"""


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Run a command and return what it prints; `path` comes first where Python looks."""
    environment = dict(os.environ)
    for variable in ("PYTHONPATH", MANIFEST_VARIABLE):
        environment.pop(variable, None)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(source: Path, folder: Path) -> Path:
    """Build a wheel as `pip install` does, with the build tools of this environment."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder)
    run(*pip, "wheel", *options, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def call_backend(checkout: Path, hook: str, *arguments: object) -> Path:
    """Call a hook of setuptools' build backend; return the path of what it builds."""
    folder = checkout.parent / "built"
    code = f"from setuptools import build_meta; build_meta.{hook}(*{(str(folder), *arguments)!r})"
    run(sys.executable, "-c", code, cwd=checkout)
    (built,) = folder.iterdir()
    return built


def unpack(wheel: Path) -> Path:
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def check_import(folder: Path, manifest: Path) -> None:
    """Check what a fresh interpreter finds that looks for modules in `folder` first."""
    about = json.loads(run(sys.executable, "-c", ABOUT, cwd=folder.parent, path=folder))
    check(about, manifest)


def check(about: dict[str, object], manifest: Path) -> None:
    assert about["manifest"] == str(manifest)
    assert manifest.read_bytes() == (ROOT / MANIFEST).read_bytes()
    entries = load_manifest(ROOT / MANIFEST)
    assert sorted({*entries, *SYSTEMS}) == mdan_zoo.list_models()
    expected = [dataclasses.asdict(entry) for entry in entries.values()]
    assert about["entries"] == json.loads(json.dumps(expected))
    assert about["version"] == mdan_zoo.__version__


@pytest.fixture
def checkout(tmp_path) -> Path:
    return copy_tracked_files(tmp_path / "checkout")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    checkout = copy_tracked_files(tmp_path_factory.mktemp("wheel") / "checkout")
    wheel = build_wheel(checkout, checkout.parent)
    assert not (checkout / "mdan_zoo" / MANIFEST).exists()  # it would go stale there
    return wheel


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    checkout = copy_tracked_files(tmp_path_factory.mktemp("sdist") / "checkout")
    return call_backend(checkout, "build_sdist")


def test_checkout(checkout):
    check_import(checkout, checkout / MANIFEST)


def test_wheel(wheel):
    folder = unpack(wheel)
    check_import(folder, folder / "mdan_zoo" / MANIFEST)


def test_wheel_has_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {path for path in tracked_files() if path.startswith("mdan_zoo/")}
    assert names == package | {f"mdan_zoo/{MANIFEST}"}


def test_wheel_is_small(wheel):
    assert wheel.stat().st_size < 40 * MEGABYTE


def test_wheel_metadata(wheel):
    info = f"mdan_zoo-{mdan_zoo.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        described = {Path(name).name for name in archive.namelist() if name.startswith(info)}
    assert metadata["Version"] == mdan_zoo.__version__
    assert metadata["Name"] == "mdan-zoo"
    description = metadata.get_payload(decode=True)
    assert description.strip() == (ROOT / "README.md").read_bytes().strip()
    assert {"LICENSE", "NOTICE"} <= described


def test_sdist(sdist, tmp_path):
    shutil.unpack_archive(sdist, tmp_path)
    (folder,) = tmp_path.iterdir()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert set(tracked_files()) - NOT_IN_SDIST <= files
    check_import(folder, folder / MANIFEST)


def test_wheel_from_sdist(sdist, wheel, tmp_path):
    again = build_wheel(sdist, tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as two:
        assert {i.filename: i.CRC for i in one.infolist()} == {
            i.filename: i.CRC for i in two.infolist()
        }
    folder = unpack(again)
    check_import(folder, folder / "mdan_zoo" / MANIFEST)


def test_second_build_has_the_present_manifest(checkout, tmp_path):
    (tmp_path / "first").mkdir()
    build_wheel(checkout, tmp_path / "first")
    manifest = checkout / MANIFEST
    manifest.write_text("{}")
    os.utime(manifest, (0, 0))  # older than what the first build left in its build folder
    (tmp_path / "second").mkdir()
    with zipfile.ZipFile(build_wheel(checkout, tmp_path / "second")) as archive:
        assert archive.read(f"mdan_zoo/{MANIFEST}") == b"{}"


@pytest.mark.parametrize("mode", ["lenient", "strict"])
def test_editable_install(checkout, tmp_path, mode):
    """Build the wheel that `pip install --editable` builds, and install it where nothing else is.

    `mdan_zoo.weights.fetch` needs nothing but Python, so an empty environment will do.
    """
    built = call_backend(checkout, "build_editable", {"editable_mode": mode})
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-index", "--no-deps", built, cwd=tmp_path)

    about = json.loads(run(python, "-c", ABOUT, cwd=tmp_path))
    manifest = Path(about["manifest"])
    check(about, manifest)
    assert manifest.resolve() == checkout / MANIFEST  # strict installs link to it
    assert not (checkout / "mdan_zoo" / MANIFEST).exists()
