"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from mdan_zoo._util.files import open_atomically, write_atomically
from mdan_zoo.errors import InputError


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, b"old and longer")
    write_atomically(path, b"new\r\n\x00")
    assert path.read_bytes() == b"new\r\n\x00"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_finds_the_old_content_until_the_block_ends(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with open_atomically(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, GeneratorExit])
def test_an_error_leaves_everything_as_it_was(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with open_atomically(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_umask_decides_the_mode(tmp_path, umask, mode):
    path = tmp_path / "a.bin"
    before = os.umask(umask)
    try:
        write_atomically(path, b"")
    finally:
        assert os.umask(before) == umask
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o400])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    path, link = tmp_path / "a.bin", tmp_path / "link"
    path.touch()
    path.chmod(mode)
    link.symlink_to(path)
    for place in (path, link):
        with open_atomically(place) as file:
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode  # before its content
            file.write(b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
@pytest.mark.parametrize("target_exists", [True, False])
def test_a_link_is_kept_and_its_target_replaced(tmp_path, target_exists):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "a.bin", tmp_path / "link"
    link.symlink_to(Path("there", "a.bin"))
    if target_exists:
        target.write_bytes(b"old")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert sorted(tmp_path.rglob("*")) == [link, target.parent, target]


def test_a_name_as_long_as_file_systems_allow(tmp_path):
    path = tmp_path / ("a" * 255)
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "it is not a file"),
        ("none/a.bin", "there is no folder {path.parent}"),
        ("file/a.bin", "there is no folder {path.parent}"),
    ],
)
def test_a_path_that_cannot_be_a_file_is_refused(tmp_path, name, message):
    (tmp_path / "file").write_bytes(b"old")
    path = tmp_path / name
    with pytest.raises(InputError) as caught:
        write_atomically(path, b"new")
    assert str(caught.value).startswith(
        f"no file can be written at {path}: {message.format(path=path)}"
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.skipif(not os.path.exists(os.devnull), reason="needs a device file")
def test_a_device_is_not_replaced():
    with pytest.raises(InputError, match="it is not a file"):
        write_atomically(Path(os.devnull), b"new")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_stays_an_os_error(tmp_path):
    path = tmp_path / "a.bin"

    def write() -> None:
        with open_atomically(path) as file:
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, file.fileno())
            os.close(full)
            file.write(b"new")

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
