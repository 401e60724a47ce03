"""The command line, called in this process."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys

import pytest
from random_weights import save_random_weights

import mdan_zoo
from mdan_zoo.cli.main import make_parser
from mdan_zoo.hierarchy.tree import Hierarchy
from mdan_zoo.inference.predictor import Predictor
from mdan_zoo.weights.manifest import load_manifest
from mdan_zoo.zoo.configs import MODELS, SYSTEMS, training_command
from mdan_zoo.zoo.factory import get_config, list_models


@pytest.fixture
def predict(run, checkpoint):
    """Run `predict` with the random weights."""
    return lambda *arguments: run(
        "predict", "--checkpoint", checkpoint, "--device", "cpu", *arguments
    )


OUTPUT = "no file can be written at"


def parsed(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# The frame


def test_version(run):
    assert run("--version") == (0, f"mdan-zoo {mdan_zoo.__version__}\n", "")


def test_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "mdan_zoo", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"mdan-zoo {mdan_zoo.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["forecast"], ["predict"], ["info"]])
def test_wrong_usage(run, arguments):
    status, output, messages = run(*arguments)
    assert (status, output) == (2, "")
    assert messages.startswith("usage: mdan-zoo")


def subcommands() -> list[str]:
    (action,) = (a for a in make_parser()._actions if isinstance(a.choices, dict))
    return list(action.choices)


@pytest.mark.parametrize("command", subcommands())
def test_every_command_has_help(run, command):
    status, output, _ = run(command, "--help")
    assert status == 0
    assert f"usage: mdan-zoo {command}" in output


@pytest.mark.parametrize(
    "arguments", [["--vers"], ["list", "--pre"], ["predict", "a", "--form=csv"]]
)
def test_options_cannot_be_abbreviated(run, arguments):
    status, output, messages = run(*arguments)
    assert (status, output) == (2, "")
    assert messages.startswith("usage: mdan-zoo")


def test_no_parser_accepts_abbreviations():
    parsers = [make_parser()]
    for parser in parsers:
        assert not parser.allow_abbrev, parser.prog
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    assert len(parsers) > len(subcommands()) + 1, "those of cache, too"


# list and info


def test_list(run):
    status, output, messages = run("list")
    header, *rows = output.splitlines()
    assert status == 0
    assert messages.startswith(f"and {len(SYSTEMS)} systems to compare MDAN with; ")
    assert ", wscnet_*\n" in messages
    assert header.split("  ")[0] == "NAME"
    assert [row.split()[0] for row in rows] == sorted(MODELS)
    (row,) = [row for row in rows if row.startswith("mdan_webemo25 ")]
    assert "  WEBEmo  " in row
    assert "  2/6/25  " in row
    assert "  resnet101  " in row
    assert row.endswith(load_manifest()["mdan_webemo25"].status)


def test_list_of_all_names(run):
    status, output, messages = run("list", "*")
    assert (status, messages) == (0, "")
    assert [row.split()[0] for row in output.splitlines()[1:]] == list_models()


def test_list_with_a_pattern(run):
    _, output, _ = run("list", "wscnet_*8_lite0")
    assert [row.split()[0] for row in output.splitlines()[1:]] == ["wscnet_fi8_lite0"]
    _, output, _ = run("list", "mdan_*to8")
    assert [row.split()[0] for row in output.splitlines()[1:]] == ["mdan_artphoto8"]
    assert run("list", "resnet*") == (
        2,
        "",
        "mdan-zoo: error: no model matches 'resnet*'\n",
    )


def test_info_of_a_model_without_weights(run):
    status, output, _ = run("info", "mdan_webemo25")
    entry = load_manifest()["mdan_webemo25"]
    assert status == 0
    for expected in (
        "dataset: WEBEmo",
        "  crop: 448",
        "  webemo25 (polarity > primary > secondary: 2/6/25 classes)",
        "status: unreleased",
        f"  weights: {entry.licences.weights}",
        f"  data: {entry.licences.data}",
        f"reason: {entry.reason}",
        f"training command: {entry.command}",
    ):
        assert f"\n{expected}\n" in output


def test_info_of_a_compared_system(run):
    _, output, _ = run("info", "wscnet_iaps8")
    assert "\nstatus: unreleased\n" in output
    command = training_command(get_config("wscnet_iaps8"))
    assert command.endswith(" --init wscnet_fi8/model.safetensors")
    assert f"\ntraining command: {command}\n" in output


def test_info_as_json(run):
    _, output, _ = run("info", "mdan_fi8", "--json")
    about = json.loads(output)
    config = get_config("mdan_fi8")
    assert about["config"] == json.loads(json.dumps(config.to_dict()))
    assert Hierarchy.from_dict(about["hierarchy"]) == mdan_zoo.get_hierarchy("mikels8")
    assert about["weights"]["licences"]["code"] == "Apache-2.0"


def test_info_of_an_unknown_model(run):
    status, output, messages = run("info", "mdan_f18")
    assert (status, output) == (2, "")
    assert messages.startswith("mdan-zoo: error: there is no model 'mdan_f18'; did you mean")


# predict: formats


def test_text(predict, predictor, photos):
    expected = "".join(f"{photo}  {predictor.predict(photo)}\n" for photo in photos[:2])
    assert predict(*photos[:2]) == (0, expected, "")
    assert expected.startswith(f"{photos[0]}  ")
    assert " > " in expected


def test_json(predict, predictor, photos):
    status, output, _ = predict("--format", "json", *photos)
    assert status == 0
    for line, photo in zip(parsed(output), photos, strict=True):
        expected = predictor.predict(photo).to_dict()
        assert list(line) == ["image", "model", "path", "levels", "error"]
        assert line["path"] == expected["path"]
        for level, wanted in zip(line["levels"], expected["levels"], strict=True):
            assert level["scores"] == pytest.approx(wanted["scores"], abs=1e-5)


def test_csv(predict, predictor, photos):
    status, output, _ = predict("--format", "csv", photos[0], "no, not\nthis.png", photos[1])
    assert status == 1
    header, first, bad, second = csv.reader(io.StringIO(output, newline=""))
    assert header == [
        *("image", "error"),
        *("polarity_label", "polarity_score", "polarity:negative", "polarity:positive"),
        *("quadrant_label", "quadrant_score", "quadrant:gloomy", "quadrant:distressed"),
        *("quadrant:serene", "quadrant:excited"),
    ]
    assert bad == ["no, not\nthis.png", "No such file or directory"] + [""] * 10
    for row, photo in ((first, photos[0]), (second, photos[1])):
        prediction = predictor.predict(photo)
        cells = dict(zip(header, row, strict=True))
        assert cells["image"] == str(photo)
        assert cells["error"] == ""
        for level in prediction.levels:
            assert cells[f"{level.name}_label"] == level.label
            assert float(cells[f"{level.name}_score"]) == pytest.approx(level.score, abs=1e-5)
            for name, score in level.scores.items():
                assert float(cells[f"{level.name}:{name}"]) == pytest.approx(score, abs=1e-5)


def test_a_bad_image_does_not_stop_the_others(predict, predictor, photos, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photos[0].read_bytes()[:60])
    status, output, messages = predict(broken, photos[0], tmp_path / "absent.png")
    lines = output.splitlines()
    assert (status, messages) == (1, "")
    assert lines[0].startswith(f"{broken}  error: ")
    assert lines[1] == f"{photos[0]}  {predictor.predict(photos[0])}"
    assert lines[2] == f"{tmp_path / 'absent.png'}  error: No such file or directory"


def test_the_output_does_not_replace_an_image(predict, photos, tmp_path):
    image = tmp_path / "photo.png"
    image.write_bytes(photos[0].read_bytes())
    status, _, messages = predict(tmp_path, "--output", image)
    assert status == 2
    told = f"--output {image} is one of the images; give another name"
    assert messages == f"mdan-zoo: error: {told}\n"
    assert image.read_bytes() == photos[0].read_bytes()


def test_branch_and_decoding(predict, predictor, photos):
    for branch in ("overall", "local", "global"):
        _, output, _ = predict("--format", "json", "--branch", branch, photos[1])
        assert parsed(output)[0]["path"] == list(predictor.predict(photos[1]).of(branch).path)
    _, output, _ = predict("--format", "json", "--decode", "independent", *photos)
    for line in parsed(output):
        for level in line["levels"]:
            assert level["score"] == max(level["scores"].values())


def test_views(predict, run, checkpoint, photos):
    several = Predictor(checkpoint=checkpoint, device="cpu", views="flip+crops")
    expected = "".join(f"{photo}  {several.predict(photo)}\n" for photo in photos[:2])
    assert predict("--views", "flip+crops", *photos[:2]) == (0, expected, "")
    assert predict(*photos[:2])[1] != expected
    status, _, messages = predict("--views", "mirror", photos[0])
    assert status == 2
    assert "argument --views: invalid choice: 'mirror' (choose from" in messages
    status, _, messages = run("explain", photos[0], "--views", "flip")
    assert status == 2
    assert "unrecognized arguments: --views flip" in messages


def test_a_checkpoint_has_its_own_columns(run, photos, tmp_path):
    tree = Hierarchy.from_nested(["blue", "red"], "colours")
    save_random_weights(tmp_path / "own.safetensors", tree)
    _, output, _ = run(
        *("predict", "--checkpoint", tmp_path / "own.safetensors"),
        *("--format", "csv", "--dtype", "bfloat16", "--batch-size", 1, photos[0]),
    )
    header = "image,error,emotion_label,emotion_score,emotion:blue,emotion:red"
    assert output.splitlines()[0] == header


# predict: what is read and written


def test_folders_are_searched_in_their_place(predict, photos, tmp_path):
    single = tmp_path / "single.png"
    single.write_bytes(photos[0].read_bytes())
    _, output, _ = predict("--format", "json", single, photos[0].parent, single)
    assert [line["image"] for line in parsed(output)] == [
        str(path) for path in (single, *photos, single)
    ]


def test_output_file(predict, photos, tmp_path):
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    target.chmod(0o600)
    link = tmp_path / "link.jsonl"
    link.symlink_to(target)
    arguments = ("--format", "json", *photos[:2], "absent.png")
    _, printed, _ = predict(*arguments)
    assert predict("--output", link, *arguments) == (1, "", "")
    assert [line["path"] for line in parsed(target.read_text())] == [
        line["path"] for line in parsed(printed)
    ]
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.jsonl", "out.jsonl"]
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "mdan_f18", "a.png"], "there is no model 'mdan_f18'; did you mean"),
        (["--model", "mdan_fi8", "a.png"], "mdan_fi8 has no released weights: "),
        (["--checkpoint", "absent.safetensors", "a.png"], "cannot read the checkpoint absent"),
    ],
)
def test_unusable_models(run, arguments, message):
    status, output, messages = run("predict", *arguments)
    assert (status, output) == (2, "")
    assert messages.startswith(f"mdan-zoo: error: {message}")
    assert len(messages.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0", "a.png"], "batch_size must be at least 1, not 0"),
        (["--device", "cuda:99", "a.png"], "device 'cuda:99' is not available"),
        (["--dtype", "int8", "a.png"], "dtype must be one of float32, bfloat16, float16"),
        (["--output", "/", "a.png"], f"{OUTPUT} /: it is not a file, but a folder or a device"),
        (["--output", "absent/a", "a.png"], f"{OUTPUT} absent/a: there is no folder absent"),
        (
            ["--output", os.devnull, "a.png"],
            f"{OUTPUT} {os.devnull}: it is not a file, but a folder or a device",
        ),
    ],
)
def test_unusable_options(predict, arguments, message):
    status, output, messages = predict(*arguments)
    assert (status, output) == (2, "")
    assert messages.startswith(f"mdan-zoo: error: {message}")
    assert len(messages.splitlines()) == 1


URL = "https://user:password@host/a?sig=secret"


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "--checkpoint", URL, "a.png"],
        ["predict", "--output", URL, "a.png"],
        ["explain", f" {URL}"],
        ["explain", "--sheet", URL],
        ["evaluate", URL, "--data", "s3://key:secret@bucket/a"],
        ["evaluate", "mdan_oasis4", "--data", "s3://key:secret@bucket/a"],
        ["train", "mdan_fi8", "--data", "s3://key:secret@bucket/a", "--output", "run"],
        ["train", "--init", URL, "--data", "a", "--output", "run"],
        ["dataset", "FI", "--data", URL],
        ["publish", "run", "--weights", URL, "--folder", "public"],
        ["verify", URL],
    ],
)
def test_messages_contain_no_secrets_of_urls(run, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, output, messages = run(*arguments)
    assert status in (1, 2)
    assert not messages.startswith("usage: ")
    for secret in ("user", "password", "secret", "key"):
        assert secret not in output + messages


def test_a_folder_without_images(predict, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    assert predict(tmp_path) == (
        2,
        "",
        f"mdan-zoo: error: {tmp_path}: no images in the folder\n",
    )


# The released weights


def test_released_default_model(run, photos):
    status, output, messages = run("predict", photos[0])
    assert (status, messages) == (0, "")
    assert output.startswith(f"{photos[0]}  ")
    _, expected, _ = run("predict", photos[0], "--model", "mdan_fi8_lite0")
    assert output == expected


def test_info_of_a_model_with_weights(run):
    entry = load_manifest()["mdan_oasis4"]
    _, output, _ = run("info", "mdan_oasis4")
    assert "\nstatus: released\n" in output
    assert "\nmetrics:\n" in output
    assert "\nreason: " not in output
    _, output, _ = run("list", "--pretrained")
    assert "mdan_oasis4" in [row.split()[0] for row in output.splitlines()]
    assert json.loads(run("info", "mdan_oasis4", "--json")[1])["weights"]["sha256"] == entry.sha256


def test_an_empty_folder_does_not_keep_the_others_back(run, tmp_path, photos, checkpoint):
    command = ["predict", str(tmp_path), str(photos[0]), "--checkpoint", str(checkpoint)]
    status, output, _ = run(*command, "--format", "json")
    lines = [json.loads(line) for line in output.splitlines()]
    assert status == 1
    assert [line["error"] is None for line in lines] == [False, True]
