"""The command line as a process: interrupts, pipes and terminals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time

import pytest
from image_server import image_server

# Ctrl-C must reach the command also where the tests themselves were started to ignore it.
COMMAND = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from mdan_zoo.cli.main import main; sys.exit(main())",
]


def start(*arguments: object, **options) -> subprocess.Popen:
    """Start a command whose output is buffered, as it is by default."""
    command = [*COMMAND, *(str(argument) for argument in arguments)]
    environment = {**os.environ, **options.pop("env", {})}
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.Popen(command, text=True, env=environment, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(signal.SIGINT, 130, id="SIGINT"),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_leaves_no_half_written_file(sent, status, checkpoint, photos, tmp_path):
    many = photos * 300
    arguments = ("predict", "--checkpoint", checkpoint, "--output", tmp_path / "out", *many)
    process = start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not list(tmp_path.iterdir()):  # the temporary file
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sent)
    assert process.communicate() == ("", "")
    assert process.returncode == status
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_results_come_as_soon_as_they_are_known(checkpoint, photos):
    with image_server(b"") as server:
        process = start(
            *("predict", "--checkpoint", checkpoint, "--batch-size", 1),
            *(photos[0], server.url("/hang")),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout.readline().startswith(str(photos[0]))
        assert process.poll() is None  # it waits for the second image
    output, messages = process.communicate()
    assert output.startswith(f"{server.url('/hang')}  error: ")
    assert (process.returncode, messages) == (1, "")


def test_a_reader_that_is_gone_from_the_start_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    process = start("list", "mdan_*", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.communicate()[1] == ""
    assert process.returncode == 141


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(checkpoint, photos):
    process = start(
        *("predict", "--checkpoint", checkpoint, "--batch-size", 1, *photos * 300),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().startswith(str(photos[0]))
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_a_closed_output_is_no_error():
    shell = f"{shlex.quote(sys.executable)} -m mdan_zoo list 'mdan_*' >&-"
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_undecodable_output_is_escaped(checkpoint, photos, tmp_path):
    image = tmp_path / "été.png"
    image.write_bytes(photos[0].read_bytes())
    process = start(
        *("predict", "--checkpoint", checkpoint, image),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONIOENCODING": "ascii"},
    )
    output, messages = process.communicate()
    assert (process.returncode, messages) == (0, "")
    assert output.startswith(str(tmp_path / "\\xe9t\\xe9.png"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not UTF-8")
def test_undecodable_names_are_written_as_they_are(checkpoint, photos, tmp_path):
    names = [b"\xff.png", "at 9.41\u202fAM.png".encode()]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(photos[0].read_bytes())
    paths = [os.fsencode(tmp_path) + b"/" + name for name in sorted(names)]
    command = ("predict", "--checkpoint", checkpoint, tmp_path)
    for arguments in (["--format", "csv"], ["--format", "csv", "--output", tmp_path / "out"]):
        process = start(*command, *arguments, stdout=subprocess.PIPE, encoding="latin-1")
        printed = process.communicate()[0].encode("latin-1")
        table = (tmp_path / "out").read_bytes() if "--output" in arguments else printed
        assert sorted(line.partition(b",")[0] for line in table.splitlines()[1:]) == sorted(paths)
    process = start(*command, "--format", "json", stdout=subprocess.PIPE)
    lines = process.communicate()[0].splitlines()
    assert sorted(os.fsencode(json.loads(line)["image"]) for line in lines) == sorted(paths)


def read_terminal(descriptor: int) -> str:
    """Return all that is written to the other end of a pseudo terminal until that is closed."""
    shown = b""
    with open(descriptor, "rb", buffering=0) as file, contextlib.suppress(OSError):
        while chunk := file.read(1000):  # Linux reports the end as an error
            shown += chunk
    return shown.decode()


@pytest.mark.slow
def test_the_progress_bar_is_for_terminals(checkpoint, photos):
    termios = pytest.importorskip("termios", reason="needs pseudo terminals")
    fcntl = pytest.importorskip("fcntl")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))  # rows, columns
    process = start(
        "predict", "--checkpoint", checkpoint, *photos, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    shown = read_terminal(ours)
    output = process.communicate()[0]
    assert process.returncode == 0
    assert len(output.splitlines()) == len(photos)
    assert f"{len(photos)}/{len(photos)}" in shown


@pytest.mark.slow
def test_lines_and_the_progress_bar_share_a_terminal(checkpoint, photos):
    termios = pytest.importorskip("termios", reason="needs pseudo terminals")
    fcntl = pytest.importorskip("fcntl")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 200, 0, 0))
    start("predict", "--checkpoint", checkpoint, *photos, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = read_terminal(ours)
    assert f"0/{len(photos)} [" in shown, "the bar"
    for photo in photos:
        assert re.search(rf"(^|[\r\n]){re.escape(str(photo))}  \w+ ", shown), "whole lines"
