"""docs/hub.md: commands, examples, variables and error messages match the code."""

from __future__ import annotations

import json
import re
import shlex

import jsonschema
import pytest
from hub_helpers import ROOT

from mdan_zoo.cli.main import make_parser
from mdan_zoo.weights.manifest import load_manifest

PAGE = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.partition("mdan-zoo ")[2].partition(" > ")[0]
    for kind, code in BLOCKS
    for line in code.splitlines()
    if kind == "" and "mdan-zoo " in line
]


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_page_has_commands():
    assert {shlex.split(command)[0] for command in COMMANDS} == {
        *("publish", "list", "predict", "download", "verify")
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_arguments_that_exist(command):
    assert make_parser().parse_args(shlex.split(command)).run


def test_every_piece_of_code_is_python():
    sources = [code for kind, code in BLOCKS if kind == "python"]
    assert len(sources) == 3
    for source in sources:
        compile(source, "docs/hub.md", "exec")


def test_the_example_is_a_manifest(tmp_path):
    (example,) = [code for kind, code in BLOCKS if kind == "json"]
    schema = json.loads((ROOT / "weights_manifest.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(example))
    (tmp_path / "weights_manifest.json").write_text(example)
    (entry,) = load_manifest(tmp_path / "weights_manifest.json").values()
    assert [source.type for source in entry.sources] == ["relative", "file", "https", "huggingface"]


def test_error_messages_exist_in_the_code():
    rows = re.findall(r"^\| (.*?) \|", section("Troubleshooting"), re.MULTILINE)
    messages = [message for row in rows for message in re.findall("`(.*?)`", row)]
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "mdan_zoo").rglob("*.py")]
    code = re.sub(r'"\s+f?"', "", "\n".join(sources))  # texts over several lines
    assert len(messages) > 20
    unknown = [message for message in messages if message not in code]
    assert not unknown


def test_environment_variables_exist_in_the_code():
    names = re.findall(r"`((?:MDAN_ZOO|HF)_[A-Z_]+)", section("Environment variables"))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "mdan_zoo").rglob("*.py")]
    assert len(names) == 7
    assert all(any(name in source for source in sources) for name in names)
