from __future__ import annotations

import dataclasses
import json
import os
import random
import threading
from pathlib import Path

import pytest

from mdan_zoo.errors import HierarchyError
from mdan_zoo.hierarchy.builtin import get_hierarchy, list_hierarchies
from mdan_zoo.hierarchy.tree import Hierarchy

SUFFIXES = (".json", ".toml")
AWKWARD = (
    'say "a"', "back\\slash", "\\u0041", "a.b", "a = b", "# no comment", "[table]", "'quoted'",
    "喜び", "šťastný", "مرح", "😀👩‍👩‍👧", "e\u0301", "\u00e9", "\u200cjoy", " space ",
    "true", "12", "1e5", "null", "\U0010fffd",
)  # fmt: skip


def random_tree(seed: int) -> Hierarchy:
    rng = random.Random(seed)

    def names(count: int) -> list[str]:
        drawn = rng.sample(AWKWARD, min(count, len(AWKWARD)))
        return [*drawn, *(f"class {i}" for i in range(count - len(drawn)))]

    levels = [names(rng.randint(1, 4))]
    parents = []
    for _ in range(rng.randint(0, 2)):
        finer = names(len(levels[-1]) + rng.randint(0, 10))
        owners = [*levels[-1], *rng.choices(levels[-1], k=len(finer) - len(levels[-1]))]
        rng.shuffle(owners)
        parents.append(dict(zip(finer, owners, strict=True)))
        levels.append(finer)
    leaves = levels[-1]
    ids = rng.sample(range(-5, 100), len(leaves))
    return Hierarchy.from_parents(
        rng.choice(AWKWARD),
        levels[0],
        parents,
        level_names=rng.sample(AWKWARD, len(levels)),
        aliases={f"alias {i} {leaf}": leaf for i, leaf in enumerate(leaves) if rng.random() < 0.5},
        release_ids={rng.choice(AWKWARD): dict(zip(leaves, ids, strict=True))},
    )


@pytest.fixture
def tree() -> Hierarchy:
    return get_hierarchy("webemo25")


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".JSON"])
def test_round_trip_of_any_names(tmp_path: Path, suffix: str) -> None:
    for seed in range(60):
        tree = random_tree(seed)
        path = tmp_path / f"{seed}{suffix}"
        tree.save(path)
        again = Hierarchy.load(str(path))
        assert again == tree
        assert again.to_dict() == tree.to_dict()
    assert len(list(tmp_path.iterdir())) == 60


@pytest.mark.parametrize("name", list_hierarchies())
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_of_built_in_hierarchies(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"tree{suffix}"
    get_hierarchy(name).save(path)
    assert Hierarchy.load(path) == get_hierarchy(name)


def test_files_are_plain_utf8_text(tmp_path: Path, tree: Hierarchy) -> None:
    tree = dataclasses.replace(tree, name="喜び")
    for suffix in SUFFIXES:
        tree.save(tmp_path / f"tree{suffix}")
        raw = (tmp_path / f"tree{suffix}").read_bytes()
        assert "喜び".encode() in raw
        assert b"\r" not in raw
        assert raw.endswith(b"\n")
    assert json.loads((tmp_path / "tree.json").read_text(encoding="utf-8")) == tree.to_dict()


def test_hand_written_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nlevels = [["bad", "good"], ["fear", "joy"]]\n\n'
        '[[parents]]\nfear = "bad"\njoy = "good"\n',
        encoding="utf-8",
    )
    assert Hierarchy.load(path) == Hierarchy.from_nested(
        {"bad": ["fear"], "good": ["joy"]}, name="mine"
    )


def test_byte_order_mark_is_skipped(tmp_path: Path, tree: Hierarchy) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"tree{suffix}"
        tree.save(path)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert Hierarchy.load(path) == tree


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "a.json",
            '{"name": "a",\n "levels": }',
            "not valid JSON: Expecting value: line 2 column 12",
        ),
        ("a.json", "", "line 1 column 1"),
        ("a.json", "[]", "a hierarchy must be a mapping, got []"),
        ("a.json", "[" * 100_000, "recursion"),
        ("a.json", '{"name": "a", "levels": [["b", 3]]}', "levels[0][1] must be a string, got 3"),
        ("a.json", '{"name": "a", "level": [["b"]]}', "unknown field 'level': did you mean 'le"),
        ("a.json", '{"name": "a", "name": "b"}', "the key 'name' is given twice, with 'a' and wi"),
        (
            "a.json",
            '{"name": "a", "levels": [["b", "c"], ["d", "e"]],'
            ' "parents": [{"d": "b", "e": "c", "d": "c"}]}',
            "the key 'd' is given twice, with 'b' and with 'c'; every class has one parent",
        ),
        (
            "a.toml",
            'name = "a"\nlevels = [["a" "b"]]\n',
            "not valid TOML: Unclosed array (at line 2, column",
        ),
        ("a.toml", 'name = "a"\nlevels = [["b"]]\nname = "c"\n', "line 3"),
        (
            "a.toml",
            'name = "a"\nlevels = [["b", "c"], ["d", "e"]]\n[[parents]]\n'
            'd = "b"\ne = "c"\nd = "c"\n',
            "line 6",
        ),
        ("a.toml", "name = 2020-01-01\nlevels = [['b']]", "name must be a string, got datetime."),
        ("a.yaml", "name: a", "a hierarchy file must end in .json or .toml, got '.yaml'"),
        ("a", "{}", "a hierarchy file must end in .json or .toml, got ''"),
    ],
)
def test_broken_files(tmp_path: Path, file: str, text: str, message: str) -> None:
    path = tmp_path / file
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    missing, folder, latin = (tmp_path / name for name in ("no.json", "dir.json", "latin.json"))
    folder.mkdir()
    latin.write_bytes(b'{"name": "\xe9"}')
    with pytest.raises(HierarchyError, match=r"cannot read hierarchy .*no\.json: No such file"):
        Hierarchy.load(missing)
    with pytest.raises(HierarchyError, match=r"cannot read hierarchy .*dir\.json: "):
        Hierarchy.load(folder)
    with pytest.raises(HierarchyError, match=r"latin\.json: .*utf-8.* can't decode byte 0xe9"):
        Hierarchy.load(latin)


def test_failed_save_leaves_everything_as_it_was(tmp_path: Path, tree: Hierarchy) -> None:
    taken = tmp_path / "dir.json"
    taken.mkdir()
    (taken / "inside").touch()
    with pytest.raises(HierarchyError, match=r"cannot write hierarchy .*dir\.json: "):
        tree.save(taken)
    with pytest.raises(
        HierarchyError, match=r"cannot write hierarchy .*none/a\.json: there is no folder"
    ):
        tree.save(tmp_path / "none" / "a.json")
    with pytest.raises(
        HierarchyError, match=r"cannot write hierarchy .*inside/a\.json: there is no folder"
    ):
        tree.save(taken / "inside" / "a.json")
    with pytest.raises(HierarchyError, match=r"must end in \.json or \.toml, got '\.yaml'"):
        tree.save(tmp_path / "a.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["dir.json"]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".json", '{"name": "x", "levels": [["a"]], "release_ids": {"r": {"a": %s}}}'),
        (".toml", 'name = "x"\nlevels = [["a"]]\n[release_ids.r]\na = %s\n'),
    ],
)
def test_a_number_with_too_many_digits_is_an_error_of_the_file(suffix, content, tmp_path):
    path = tmp_path / f"big{suffix}"
    path.write_text(content % ("1" * 5000))
    with pytest.raises(HierarchyError, match=rf"big\{suffix}"):
        Hierarchy.load(path)


def test_a_path_with_a_null_character_is_an_error_of_the_file():
    with pytest.raises(HierarchyError, match="embedded null"):
        Hierarchy.load("a\0b.json")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tree{suffix}"
    trees = [get_hierarchy("webemo25"), get_hierarchy("ekman6")]
    trees[0].save(path)

    def write() -> None:
        for i in range(200):
            trees[i % 2].save(path)

    writer = threading.Thread(target=write)
    writer.start()
    seen = {Hierarchy.load(path)}
    while writer.is_alive():
        seen.add(Hierarchy.load(path))
    writer.join()
    assert seen <= set(trees)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_saved_files_have_the_usual_mode(tmp_path: Path, tree: Hierarchy) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    tree.save(tmp_path / "tree.json")
    assert (tmp_path / "tree.json").stat().st_mode == usual.stat().st_mode
