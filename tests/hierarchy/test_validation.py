from __future__ import annotations

from typing import Any

import pytest

from mdan_zoo.errors import HierarchyError
from mdan_zoo.hierarchy.builtin import get_hierarchy, list_hierarchies
from mdan_zoo.hierarchy.tree import Hierarchy

NESTED = {
    "negative": {"sadness": ["grief", "sadness"], "fear": ["horror"]},
    "positive": {"joy": ["zest", "pride", "relief"]},
}


def test_nested() -> None:
    tree = Hierarchy.from_nested(NESTED, "mine", aliases={"sad": "sadness"})
    assert tree.levels == (
        ("negative", "positive"),
        ("sadness", "fear", "joy"),
        ("grief", "sadness", "horror", "zest", "pride", "relief"),
    )
    assert tree.parents == (
        ("negative", "negative", "positive"),
        ("sadness", "sadness", "fear", "joy", "joy", "joy"),
    )
    assert tree.level_names == ("coarse", "medium", "fine")
    assert tree.index("fine", "sad") == 1
    assert tree.to_nested() == NESTED
    assert Hierarchy.from_nested(["a"]).name == "custom"


@pytest.mark.parametrize("name", list_hierarchies())
def test_to_nested_keeps_the_hierarchy(name: str) -> None:
    tree = get_hierarchy(name)
    again = Hierarchy.from_nested(tree.to_nested(), name, level_names=tree.level_names)
    assert {again.path(leaf) for leaf in again.leaves} == {tree.path(leaf) for leaf in tree.leaves}


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        (
            {"negative": ["fear"], "positive": {"joy": ["zest"]}},
            "all leaves must be at the same depth, but 'negative' has a list of leaves where "
            "'positive' has a mapping",
        ),
        ({"positive": "joy"}, "children of 'positive' must be a mapping or a list of class names"),
        ({"positive": "joy"}, "got 'joy'"),
        ({"positive": {"joy": None}}, "children of 'joy' must be a mapping or a list of class"),
        ("joy", "the hierarchy must be a mapping or a list of class names, got 'joy'"),
        ({"a": {"b": {"c": ["d"]}}}, "the hierarchy has more than 3 levels, at 'c'"),
        ({}, "levels[0] must have at least one class"),
        ([], "levels[0] must have at least one class"),
        ({"a": [], "b": []}, "levels[1] must have at least one class"),
        ({"a": ["x"], "b": []}, "class 'b' of levels[0] must have at least one child"),
        ({"a": ["joy"], "b": ["joy"]}, "levels[1]: names must be unique, 'joy' is given twice"),
        ({"a": [["joy"]]}, "levels[1][0] must be a string, got ['joy']"),
        ({3: ["joy"]}, "levels[0][0] must be a string, got 3"),
    ],
)
def test_nested_errors(nested: Any, message: str) -> None:
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.from_nested(nested)
    assert message in str(caught.value)


def test_nested_that_contains_itself_is_an_error() -> None:
    nested: dict[str, Any] = {}
    nested["again"] = nested
    with pytest.raises(HierarchyError, match="more than 3 levels, at 'again'"):
        Hierarchy.from_nested(nested)


FLAT_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"name": ...}, "the field 'name' is missing"),
    ({"name": 3}, "name must be a string, got 3"),
    ({"name": "  "}, "name must not be empty, got '  '"),
    ({"levels": [["a", "b\n"]]}, "levels[0][1] must not contain control characters or line breaks"),
    ({"levels": [["a", "b\x7f"]]}, "levels[0][1] must not contain control characters"),
    ({"levels": [["a", "b\u2028c"]]}, "levels[0][1] must not contain control characters"),
    ({"levels": [["a", "b\u2029c"]]}, "levels[0][1] must not contain control characters"),
    ({"levels": [["a", "b\ud800"]]}, "levels[0][1] must not contain control characters"),
    ({"levels": [["a", ""]]}, "levels[0][1] must not be empty"),
    ({"levels": [["a", None]]}, "levels[0][1] must be a string, got None"),
    ({"levels": [["a", ["b"]]]}, "levels[0][1] must be a string, got ['b']"),
    ({"levels": ...}, "the field 'levels' is missing"),
    ({"levels": []}, "a hierarchy has 1 to 3 levels, got 0"),
    ({"levels": [["a"], ["b"], ["c"], ["d"]]}, "a hierarchy has 1 to 3 levels, got 4"),
    ({"levels": ["ab", "cd"]}, "levels[0] must be a list, got 'ab'"),
    ({"levels": {"a": "b"}}, "levels must be a list, got {'a': 'b'}"),
    ({"levels": [["a", "b", "a"]]}, "levels[0]: names must be unique, 'a' is given twice"),
    ({"levels": [[]]}, "levels[0] must have at least one class"),
]


@pytest.mark.parametrize(("changes", "message"), FLAT_ERRORS)
def test_malformed_names_and_levels(changes: dict[str, Any], message: str) -> None:
    data = {"name": "flat", "levels": [["anger", "joy"]]}
    assert Hierarchy.from_dict(data).leaves == ("anger", "joy")
    changed = {field: value for field, value in {**data, **changes}.items() if value is not ...}
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.from_dict(changed)
    assert message in str(caught.value)


TWO_LEVELS: dict[str, Any] = {
    "name": "two",
    "level_names": ["polarity", "emotion"],
    "levels": [["negative", "positive"], ["anger", "joy"]],
    "parents": [{"anger": "negative", "joy": "positive"}],
    "aliases": {"happy": "joy"},
    "release_ids": {"old": {"anger": 1, "joy": 0}},
}

TREE_ERRORS: list[tuple[dict[str, Any], str]] = [
    # parents
    ({"parents": []}, "a hierarchy of 2 levels needs 1 entries in parents"),
    ({"parents": [{}, {}]}, "needs 1 entries in parents, one for every level except the"),
    ({"parents": {"joy": "positive"}}, "parents must be a list, got {'joy': 'positive'}"),
    ({"parents": [["positive"]]}, "parents[0] must be a mapping, got ['positive']"),
    ({"parents": [{"joy": "positive"}]}, "parents[0]: missing entry for class 'anger'"),
    (
        {"parents": [{"anger": "negative", "joy": "positive", "joyy": "positive"}]},
        "parents[0]: unknown class 'joyy': did you mean 'joy'?",
    ),
    (
        {"parents": [{"anger": "negative", "joy": "positiv"}]},
        "parents[0]['joy']: unknown class of the coarser level 'positiv': did you mean 'positi",
    ),
    (
        {"parents": [{"anger": "negative", "joy": ["negative", "positive"]}]},
        "parents[0]['joy'] must be a string, got ['negative', 'positive']",
    ),
    (
        {"parents": [{"anger": "negative", "joy": "negative"}]},
        "class 'positive' of levels[0] must have at least one child in levels[1], got none",
    ),
    # level names
    ({"level_names": ["one"]}, "level_names must hold 2 names, one for every level, got ('one',)"),
    ({"level_names": ["one", "one"]}, "level_names: names must be unique, 'one' is given twice"),
    ({"level_names": "ab"}, "level_names must be a list, got 'ab'"),
    ({"level_names": ["one", ""]}, "level_names[1] must not be empty"),
    # aliases
    ({"aliases": ["happy"]}, "aliases must be a mapping, got ['happy']"),
    ({"aliases": None}, "aliases must be a mapping, got None"),
    ({"aliases": {"happy": "joyy"}}, "aliases['happy']: unknown class 'joyy': did you mean"),
    ({"aliases": {"anger": "joy"}}, "aliases['anger']: 'anger' is already a class name"),
    ({"aliases": {"negative": "joy"}}, "aliases['negative']: 'negative' is already a class name"),
    ({"aliases": {"": "joy"}}, "aliases[0] must not be empty"),
    ({"aliases": {"happy": 3}}, "aliases['happy'] must be a string, got 3"),
    ({"aliases": {3: "joy"}}, "aliases[0] must be a string, got 3"),
    # release ids
    ({"release_ids": []}, "release_ids must be a mapping, got []"),
    ({"release_ids": {"old": [0, 1]}}, "release_ids['old'] must be a mapping, got [0, 1]"),
    ({"release_ids": {"old": {"joy": 0}}}, "release_ids['old']: missing entry for class 'an"),
    (
        {"release_ids": {"old": {"anger": 0, "joy": 1, "fear": 2}}},
        "release_ids['old']: unknown class 'fear'",
    ),
    (
        {"release_ids": {"old": {"anger": 1, "joy": 1}}},
        "['joy']: leaf ids must be unique, 1 is given",
    ),
    ({"release_ids": {"old": {"anger": 1, "joy": True}}}, "['joy'] must be an integer, got T"),
    ({"release_ids": {"old": {"anger": "1", "joy": 0}}}, "['anger'] must be an integer, got '"),
    ({"release_ids": {"": {"anger": 1, "joy": 0}}}, "release_ids[0] must not be empty"),
    # fields
    ({"alias": {}}, "unknown field 'alias': did you mean 'aliases'?"),
    ({"parent": []}, "unknown field 'parent': did you mean 'parents'?"),
]


@pytest.mark.parametrize(("changes", "message"), TREE_ERRORS)
def test_malformed_hierarchies(changes: dict[str, Any], message: str) -> None:
    assert Hierarchy.from_dict(TWO_LEVELS).to_dict() == TWO_LEVELS
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.from_dict({**TWO_LEVELS, **changes})
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [None, [], "name", 3])
def test_from_dict_wants_a_mapping(data: Any) -> None:
    with pytest.raises(HierarchyError, match="a hierarchy must be a mapping, got"):
        Hierarchy.from_dict(data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": [("a", "b")]}, "levels must be a tuple, got [('a', 'b')]; Hierarchy.from_p"),
        ({"levels": (["a", "b"],)}, "levels[0] must be a tuple, got ['a', 'b']"),
        ({"levels": "ab"}, "levels must be a tuple, got 'ab'"),
        ({"levels": (("a",), ("b",)), "parents": (["a"],)}, "parents[0] must be a tuple"),
        ({"levels": (("a",), ("b", "c")), "parents": (("a",),)}, "one parent for each of the 2 "),
        ({"levels": (("a",),), "level_names": ["one"]}, "level_names must be a tuple"),
        ({"levels": (("a",),), "aliases": {"b": "a"}}, "aliases must be a tuple, got {'b': 'a'}"),
        ({"levels": (("a",),), "aliases": (("b",),)}, "aliases must hold pairs (name, value), go"),
        ({"levels": (("a",),), "aliases": (("b", "a"), ("b", "a"))}, "'b' is given twice"),
        ({"levels": (("a",),), "release_ids": (("old", [0]),)}, "release_ids['old'] must be a tu"),
        ({"levels": (("a",),), "release_ids": (("old", (0, 1)),)}, "one id for each of the 1 lea"),
    ],
)
def test_constructor_takes_tuples_only(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(HierarchyError) as caught:
        Hierarchy("bad", **arguments)
    assert message in str(caught.value)


def test_from_parents_wants_a_list_of_mappings() -> None:
    mapping = {"joy": "positive"}
    with pytest.raises(HierarchyError, match=r"parents must be a list, got \{'joy': 'positive'}"):
        Hierarchy.from_parents("bad", ["positive"], mapping)  # type: ignore[arg-type]
    with pytest.raises(HierarchyError, match=r"parents\[0\] must be a mapping, got 3"):
        Hierarchy.from_parents("bad", ["positive"], [3])  # type: ignore[list-item]
