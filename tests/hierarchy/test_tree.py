from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from mdan_zoo.errors import UnknownNameError
from mdan_zoo.hierarchy.builtin import get_hierarchy
from mdan_zoo.hierarchy.tree import Hierarchy


@pytest.fixture
def tree() -> Hierarchy:
    """Three levels; class ids do not follow the tree, so positions and order are told apart."""
    return Hierarchy.from_parents(
        "small",
        ["negative", "positive"],
        [
            {"fear": "negative", "joy": "positive", "sadness": "negative"},
            {
                "grief": "sadness",
                "horror": "fear",
                "pride": "joy",
                "sadness": "sadness",
                "zest": "joy",
            },
        ],
        level_names=["polarity", "primary", "secondary"],
        aliases={"zesty": "zest", "sad": "sadness"},
        release_ids={"old": {"grief": 7, "horror": 0, "pride": 1, "sadness": 2, "zest": 30}},
    )


def test_sizes_and_names(tree: Hierarchy) -> None:
    assert tree.depth == 3
    assert tree.sizes == (2, 3, 5)
    assert tree.leaves == ("grief", "horror", "pride", "sadness", "zest")
    assert tree.level_names == ("polarity", "primary", "secondary")
    assert [tree.level_index(level) for level in (0, 1, 2, "polarity", "secondary")] == [
        *(0, 1, 2),
        *(0, 2),
    ]


def test_index_takes_positions_level_names_and_aliases(tree: Hierarchy) -> None:
    assert tree.index(1, "sadness") == tree.index("primary", "sad") == 2
    assert tree.index(2, "sadness") == tree.index("secondary", "sad") == 3
    assert tree.index("secondary", "zesty") == 4


def test_family(tree: Hierarchy) -> None:
    assert tree.children(0, "negative") == ("fear", "sadness")
    assert tree.children("primary", "sad") == ("grief", "sadness")
    assert tree.children("secondary", "grief") == ()
    assert tree.parent("polarity", "negative") is None
    assert tree.parent("primary", "sadness") == "negative"
    assert tree.parent("secondary", "sadness") == "sadness"
    assert tree.path("zesty") == ("positive", "joy", "zest")


def test_index_arrays(tree: Hierarchy) -> None:
    assert tree.parent_indices == ((0, 1, 0), (2, 0, 1, 2, 1))
    assert tree.children_indices == (((0, 2), (1,)), ((1,), (2, 4), (0, 3)))
    assert tree.leaf_paths == ((0, 2, 0), (0, 0, 1), (1, 1, 2), (0, 2, 3), (1, 1, 4))
    assert tree.membership("polarity") == ((1, 1, 0, 1, 0), (0, 0, 1, 0, 1))
    assert tree.membership(1) == ((0, 1, 0, 0, 0), (0, 0, 1, 0, 1), (1, 0, 0, 1, 0))
    assert tree.membership(2) == tuple(tuple(int(i == j) for j in range(5)) for i in range(5))


def test_flat_hierarchy() -> None:
    tree = Hierarchy.from_nested(["anger", "joy"], "flat")
    assert tree == Hierarchy("flat", (("anger", "joy"),))
    assert (tree.depth, tree.sizes, tree.level_names) == (1, (2,), ("emotion",))
    assert (tree.parent_indices, tree.children_indices) == ((), ())
    assert tree.leaf_paths == ((0,), (1,))
    assert tree.path("joy") == ("joy",)
    assert tree.children("emotion", "joy") == ()
    assert tree.membership("emotion") == ((1, 0), (0, 1))
    assert tree.to_nested() == ["anger", "joy"]
    assert str(tree) == "flat (emotion: 2 classes)\n  anger, joy"


def test_drawing(tree: Hierarchy) -> None:
    assert str(tree).splitlines() == [
        "small (polarity > primary > secondary: 2/3/5 classes)",
        "  negative",
        "    fear: horror",
        "    sadness: grief, sadness",
        "  positive",
        "    joy: pride, zest",
    ]
    assert repr(tree) == "Hierarchy('small', 2/3/5)"


@pytest.mark.parametrize(
    ("level", "name", "message"),
    [
        ("primary", "joyy", "hierarchy 'small' has no class 'joyy' at level 'primary': did you "),
        ("primary", "joyy", "did you mean 'joy'?"),
        ("primary", "zesty", "available: fear, joy, sadness"),
        (0, "sad", "has no class 'sad' at level 0"),
        (3, "joy", "has no level 3: use 0 to 2, or 'polarity', 'primary', 'secondary'"),
        (-1, "joy", "has no level -1: use 0 to 2"),
        (1.0, "joy", "has no level 1.0: use 0 to 2"),
        ("fine", "joy", "has no level 'fine'"),
        (1, 3, "has no class 3 at level 1"),
    ],
)
def test_unknown_names(tree: Hierarchy, level: Any, name: Any, message: str) -> None:
    for lookup in (tree.index, tree.children, tree.parent):
        with pytest.raises(UnknownNameError) as caught:
            lookup(level, name)
        assert message in str(caught.value)


def test_unknown_leaf_in_path(tree: Hierarchy) -> None:
    with pytest.raises(UnknownNameError, match="no class 'fear' at level 2"):
        tree.path("fear")


def test_release_ids(tree: Hierarchy) -> None:
    assert [tree.leaf_from_release_id("old", i) for i in (0, 1, 2, 7, 30)] == [1, 2, 3, 0, 4]
    with pytest.raises(
        UnknownNameError, match=r"id 3 in release 'old': available: 0, 1, 2, 7, 30$"
    ):
        tree.leaf_from_release_id("old", 3)
    with pytest.raises(UnknownNameError, match="no class ids for release 'odd': did you mean 'old"):
        tree.leaf_from_release_id("odd", 3)
    with pytest.raises(UnknownNameError, match="for release 'old': it has none"):
        get_hierarchy("panda6").leaf_from_release_id("old", 0)


# --- a value among values ---


def test_is_an_immutable_value(tree: Hierarchy) -> None:
    again = Hierarchy.from_dict(tree.to_dict())
    assert again is not tree
    assert again == tree
    assert {again: 1}[tree] == 1
    assert dataclasses.replace(tree, name="other") != tree
    with pytest.raises(dataclasses.FrozenInstanceError):
        tree.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Hierarchy)])
def test_every_field_counts_in_comparison(tree: Hierarchy, field: str) -> None:
    changed: dict[str, Any] = {
        "name": "other",
        "levels": (("positive", "negative"), *tree.levels[1:]),
        "parents": (("positive", "negative", "negative"), tree.parents[1]),
        "level_names": ("a", "b", "c"),
        "aliases": (),
        "release_ids": (),
    }
    assert dataclasses.replace(tree, **{field: changed[field]}) != tree


def test_order_of_aliases_and_releases_does_not_matter(tree: Hierarchy) -> None:
    data = tree.to_dict()
    data["release_ids"]["new"] = {leaf: i for i, leaf in enumerate(tree.leaves)}
    turned = copy.deepcopy(data)
    for field in ("aliases", "release_ids"):
        turned[field] = dict(reversed(turned[field].items()))
    assert list(turned["aliases"]) != list(data["aliases"])
    assert Hierarchy.from_dict(turned) == Hierarchy.from_dict(data)
    assert hash(Hierarchy.from_dict(turned)) == hash(Hierarchy.from_dict(data))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_before_and_after_use(tree: Hierarchy, protocol: int) -> None:
    fresh = pickle.loads(pickle.dumps(tree, protocol))
    assert fresh == tree
    paths = tree.leaf_paths
    used = pickle.loads(pickle.dumps(tree, protocol))
    assert used == fresh
    assert hash(used) == hash(fresh) == hash(tree)
    assert used.leaf_paths == paths
    assert copy.deepcopy(tree) == tree


def test_cut() -> None:
    webemo = get_hierarchy("webemo25")
    primary = webemo.cut("primary")
    assert (primary.name, primary.sizes) == ("webemo25_primary", (2, 6))
    assert primary.level_names == ("polarity", "primary")
    assert [primary.parent(1, name) for name in primary.leaves] == [
        webemo.parent(1, name) for name in webemo.levels[1]
    ]
    assert (primary.aliases, primary.release_ids) == ((), ())
    assert webemo.cut(2) == webemo
    assert get_hierarchy("mikels8").cut(0).levels == (("positive", "negative"),)
    with pytest.raises(UnknownNameError, match="use 0 to 2, or 'polarity', 'primary'"):
        webemo.cut("tertiary")
