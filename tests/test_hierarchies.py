from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mdan_zoo.errors import UnknownNameError
from mdan_zoo.hierarchies import get_hierarchy, list_hierarchies

ROOT = Path(__file__).resolve().parent.parent


def test_list_of_built_in_trees() -> None:
    assert list_hierarchies() == [
        "circumplex4",
        "ekman6",
        "ekman6_neutral",
        "mikels8",
        "panda6",
        "parrott25",
        "webemo24",
        "webemo25",
        "webemo25_confusion_fear",
        "webemo25_release",
    ]
    assert all(get_hierarchy(name).name == name for name in list_hierarchies())


def test_unknown_tree() -> None:
    with pytest.raises(UnknownNameError, match="no built-in hierarchy 'webemo26': did you mean"):
        get_hierarchy("webemo26")


@pytest.mark.parametrize(
    ("name", "sizes", "confusion"),
    [
        ("webemo25", (2, 6, 25), "sadness"),
        ("webemo25_confusion_fear", (2, 6, 25), "fear"),
        ("webemo25_release", (2, 7, 25), "confusion"),
    ],
)
def test_webemo_readings_differ_in_confusion_alone(
    name: str, sizes: tuple[int, ...], confusion: str
) -> None:
    tree, without = get_hierarchy(name), get_hierarchy("webemo24")
    assert tree.sizes == sizes
    assert without.sizes == (2, 6, 24)
    assert tree.path("confusion") == ("negative", confusion, "confusion")
    others = [leaf for leaf in tree.leaves if leaf != "confusion"]
    assert others == list(without.leaves)
    assert [tree.path(leaf) for leaf in others] == [without.path(leaf) for leaf in others]
    assert tree.aliases == without.aliases


def test_release_spellings_and_ids() -> None:
    full, without = get_hierarchy("webemo25"), get_hierarchy("webemo24")
    assert full.index("secondary", "cheerfullness") == full.index("secondary", "cheerfulness") == 1
    assert full.path("irritabilty") == ("negative", "anger", "irritability")
    assert full.leaf_from_release_id("webemo", 24) == 24
    assert without.leaves[without.leaf_from_release_id("webemo", 24)] == "zest"
    with pytest.raises(UnknownNameError, match="no leaf with id 2 "):
        without.leaf_from_release_id("webemo", 2)
    mikels = get_hierarchy("mikels8")
    assert mikels.leaves[mikels.leaf_from_release_id("emoset", 1)] == "awe"
    assert mikels.leaves[mikels.leaf_from_release_id("alphabetical", 1)] == "anger"


def test_polarity_of_surprise() -> None:
    assert get_hierarchy("ekman6").path("surprise") == ("positive", "surprise")
    assert get_hierarchy("ekman6_neutral").path("surprise") == ("neutral", "surprise")
    assert get_hierarchy("panda6").path("surprise") == ("positive", "surprise")


FACTS_FILE = ROOT.parent / "shared" / "facts" / "hierarchies.json"
FACT_NAMES = {
    "webemo25": "webemo_25_6_2_confusion_to_sadness",
    "webemo25_confusion_fear": "webemo_25_6_2_confusion_to_fear",
    "webemo25_release": "webemo_25_7_2",
    "webemo24": "webemo_24_6_2_drop_confusion",
    "parrott25": "parrott_secondary_original",
    "panda6": "panda6_2",
    "mikels8": "mikels8_2",
    "ekman6": "ekman6_2_surprise_positive",
    "ekman6_neutral": "ekman6_3_surprise_neutral",
    "circumplex4": "circumplex_quadrants",
}


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    if not FACTS_FILE.exists():
        pytest.skip("the facts, ../shared/facts/hierarchies.json, are not here")
    hierarchies: dict[str, Any] = json.loads(FACTS_FILE.read_text(encoding="utf-8"))["hierarchies"]
    return hierarchies


@pytest.mark.parametrize("name", list_hierarchies())
def test_tree_equals_the_facts(facts: dict[str, Any], name: str) -> None:
    fixes = facts["webemo_25_7_2"]["spelling_fix"]
    fact = facts[FACT_NAMES[name]]
    tree = get_hierarchy(name).to_dict()
    assert tree["levels"] == [[fixes.get(c, c) for c in level] for level in fact["levels"]]
    assert tree["parents"] == [
        {fixes.get(child, child): parent for child, parent in mapping.items()}
        for mapping in fact["parents"]
    ]


@pytest.mark.parametrize("name", [name for name in list_hierarchies() if "webemo" in name])
def test_webemo_release_equals_the_facts(facts: dict[str, Any], name: str) -> None:
    release = facts["webemo_25_7_2"]
    tree = get_hierarchy(name)
    assert dict(tree.aliases) == release["spelling_fix"]
    expected = dict(release["release_label_ids"])
    if name == "webemo24":
        del expected["confusion"]
    assert {
        spelling: dict(tree.release_ids)["webemo"][tree.index("secondary", spelling)]
        for spelling in expected
    } == expected
    for spelling, release_id in expected.items():
        assert tree.leaf_from_release_id("webemo", release_id) == tree.index(2, spelling)


def test_mikels_release_equals_the_facts(facts: dict[str, Any]) -> None:
    fact = facts["mikels8_2"]
    tree = get_hierarchy("mikels8")
    assert dict(tree.aliases) == fact["aliases"]
    orders = {"alphabetical": fact["alphabetical_order"], "emoset": fact["levels"][1]}
    assert tree.to_dict()["release_ids"] == {
        release: {name: i for i, name in enumerate(order)} for release, order in orders.items()
    }


def test_needs_only_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import mdan_zoo.hierarchies, mdan_zoo.hierarchy; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    allowed = {"mdan_zoo"} if sys.version_info >= (3, 11) else {"mdan_zoo", "tomli"}
    assert set(done.stdout.split()) == allowed
