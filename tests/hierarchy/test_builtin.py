from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hierarchy_facts import (
    CHILDREN,
    LEVELS,
    MIKELS_ALPHABETICAL,
    MIKELS_SPELLINGS,
    WEBEMO_RELEASE,
    WEBEMO_SPELLINGS,
)

from mdan_zoo.errors import UnknownNameError
from mdan_zoo.hierarchy.builtin import get_hierarchy, list_hierarchies

ROOT = Path(__file__).resolve().parents[2]


def test_list_of_built_in_hierarchies() -> None:
    assert list_hierarchies() == [
        "circumplex4",
        "ekman6",
        "ekman6_neutral",
        "mikels8",
        "panda6",
        "parrott25",
        "polarity2",
        "polarity3",
        "webemo24",
        "webemo25",
        "webemo25_confusion_fear",
        "webemo25_release",
    ]
    assert all(get_hierarchy(name).name == name for name in list_hierarchies())


def test_unknown_hierarchy() -> None:
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


@pytest.mark.parametrize("name", list_hierarchies())
def test_hierarchy_equals_the_facts(name: str) -> None:
    tree = get_hierarchy(name).to_dict()
    assert tree["levels"] == [names.split() for names in LEVELS[name]]
    assert tree["parents"] == [
        {child: parent for parent, children in level.items() for child in children.split()}
        for level in CHILDREN[name]
    ]


@pytest.mark.parametrize("name", [name for name in list_hierarchies() if "webemo" in name])
def test_webemo_release_equals_the_facts(name: str) -> None:
    tree = get_hierarchy(name)
    assert dict(tree.aliases) == WEBEMO_SPELLINGS
    expected = {spelling: i for i, spelling in enumerate(WEBEMO_RELEASE.split())}
    if name == "webemo24":
        del expected["confusion"]
    assert {
        spelling: dict(tree.release_ids)["webemo"][tree.index("secondary", spelling)]
        for spelling in expected
    } == expected
    for spelling, release_id in expected.items():
        assert tree.leaf_from_release_id("webemo", release_id) == tree.index(2, spelling)


def test_mikels_release_equals_the_facts() -> None:
    tree = get_hierarchy("mikels8")
    assert dict(tree.aliases) == MIKELS_SPELLINGS
    orders = {"alphabetical": MIKELS_ALPHABETICAL, "emoset": LEVELS["mikels8"][1]}
    assert tree.to_dict()["release_ids"] == {
        release: {name: i for i, name in enumerate(order.split())}
        for release, order in orders.items()
    }


def test_needs_only_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); "
        "import mdan_zoo.hierarchy.builtin, mdan_zoo.hierarchy.tree; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    allowed = {"mdan_zoo"} if sys.version_info >= (3, 11) else {"mdan_zoo", "tomli"}
    assert set(done.stdout.split()) == allowed
