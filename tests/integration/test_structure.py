"""The structure of the repository: sizes, imports, private names, docstrings and named paths.

Needs only pytest and the standard library. `.importlinter` states which package may import which.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_TOP_LEVEL_MODULES = 8
MOST_LINES_IN_A_FILE = 400
MOST_LINES_IN_A_FUNCTION = 60
NOT_THE_START_OF_A_NAME = {"what", "which", "where", "how", "from", "who", "when"}
MEMBERS_OF_LIBRARIES = {
    "_SubParsersAction",  # argparse: the type of what add_subparsers returns
    "_tile_size",  # Pillow: the size of the data of a TIFF file
    "_replace",  # the documented method of named tuples
}

Sources = dict[str, str]
"""The text of every file by its path relative to the root, such as "mdan_zoo/errors.py"."""


def read_sources(*folders: str) -> Sources:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def scripts() -> Sources:
    hubconf = (ROOT / "hubconf.py").read_text(encoding="utf-8")
    return {"hubconf.py": hubconf} | read_sources("benchmarks", "examples")


@pytest.fixture(scope="module")
def package() -> Sources:
    sources = read_sources("mdan_zoo")
    assert "mdan_zoo/errors.py" in sources
    return sources


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def room_of(module: str) -> str:
    """Return the room of a module: mdan_zoo.weights for mdan_zoo.weights.cache."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "mdan_zoo" else parts[0]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def imports_of(path: str, text: str, modules: set[str]) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the imported module and the name imported from it, if any.

    Imports inside functions and under TYPE_CHECKING are included.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                if module in modules:
                    yield node.lineno, module, ""
                else:
                    yield node.lineno, str(node.module), alias.name


def long_files(sources: Sources) -> list[str]:
    counts = {path: len(text.splitlines()) for path, text in sources.items()}
    return [f"{path}: {n} lines" for path, n in counts.items() if n > MOST_LINES_IN_A_FILE]


def long_functions(sources: Sources) -> list[str]:
    found = []
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_LINES_IN_A_FUNCTION:
                    found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines")
    return found


def import_cycles(sources: Sources) -> list[str]:
    """Return every group of modules that import each other, one import a line."""
    modules = {module_name(path) for path in sources}
    graph: dict[str, dict[str, str]] = {module: {} for module in modules}
    for path, text in sources.items():
        for line, imported, _ in imports_of(path, text, modules):
            if imported in modules:
                graph[module_name(path)].setdefault(imported, f"{path}:{line}: imports {imported}")

    reachable = {module: _reachable(graph, module) for module in modules}
    cyclic = sorted(module for module in modules if module in reachable[module])
    return [
        graph[module][imported]
        for module in cyclic
        for imported in sorted(graph[module])
        if module in reachable[imported]
    ]


def _reachable(graph: dict[str, dict[str, str]], start: str) -> set[str]:
    found: set[str] = set()
    pending = list(graph[start])
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending += graph[module]
    return found


def private_imports(sources: Sources, modules: set[str]) -> list[str]:
    """Return the imports of private names and modules from another room."""
    found = []
    for path, text in sources.items():
        here = room_of(module_name(path))
        for line, module, name in imports_of(path, text, modules):
            if module.split(".")[0] != "mdan_zoo" or room_of(module) == here:
                continue
            if is_private(name) or any(is_private(part) for part in module.split(".")[2:]):
                found.append(f"{path}:{line}: {'.'.join(filter(None, (module, name)))}")
    return found


def private_members(sources: Sources) -> list[str]:
    """Return the uses of private members, such as `predictor._network`, that the room lacks."""
    trees = {path: ast.parse(text) for path, text in sources.items()}
    defined: dict[str, set[str]] = {}
    for path, tree in trees.items():
        names = defined.setdefault(room_of(module_name(path)), set())
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return [
        f"{path}:{node.lineno}: {ast.unparse(node)}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and node.attr not in MEMBERS_OF_LIBRARIES
        and node.attr not in defined[room_of(module_name(path))]
    ]


def opened_images(sources: Sources) -> list[str]:
    found = []
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            by_attribute = isinstance(node, ast.Attribute) and re.fullmatch(
                r"(PIL\.)?Image\.open", ast.unparse(node)
            )
            by_name = (
                isinstance(node, ast.ImportFrom)
                and node.module == "PIL.Image"
                and any(alias.name == "open" for alias in node.names)
            )
            if by_attribute or by_name:
                found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    return found


def bad_module_docstrings(sources: Sources) -> list[str]:
    found = []
    for path, text in sources.items():
        docstring = ast.get_docstring(ast.parse(text))
        if not docstring:
            found.append(f"{path}:1: no docstring")
        elif re.split(r"\W", docstring)[0].lower() in NOT_THE_START_OF_A_NAME:
            found.append(f"{path}:1: {docstring.splitlines()[0]}")
    return found


def missing_paths(text: str, root: Path) -> list[str]:
    """Return the paths in backquotes that do not exist; of `models/NAME.py`, the folder must."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for path in re.findall(r"`([\w.{}/-]*/[\w.{}/-]*|\w+\.(?:py|toml|json|md|cfg))`", line):
            fixed = re.sub(r"[A-Z]{3,}(\.\w+)?$", "", path) if not path.endswith(".md") else path
            if not (root / fixed).exists():
                found.append(f"{number}: {path}")
    return found


def test_few_modules_at_the_top_of_the_package(package):
    top = [path for path in package if path.count("/") == 1]
    assert 0 < len(top) <= MOST_TOP_LEVEL_MODULES, top


def test_every_folder_of_the_package_is_a_package(package):
    folders = {path.rpartition("/")[0] for path in package}
    assert not [folder for folder in sorted(folders) if f"{folder}/__init__.py" not in package]


def test_files_are_short():
    fail_with(long_files(read_sources("mdan_zoo", "tests", "benchmarks", "examples")))


def test_functions_are_short(package):
    fail_with(long_functions(package))


def test_no_modules_import_each_other(package):
    fail_with(import_cycles(package))


def test_no_private_name_is_imported_from_another_room(package):
    fail_with(private_imports(package | scripts(), {module_name(path) for path in package}))


def test_no_private_member_is_used_in_another_room(package):
    fail_with(private_members(package | scripts()))


def test_images_are_opened_in_one_room(package):
    elsewhere = {p: text for p, text in package.items() if not p.startswith("mdan_zoo/images/")}
    fail_with(opened_images(elsewhere))


def test_no_script_accepts_abbreviated_options():
    unsafe = re.compile(r"ArgumentParser\((?!\s*allow_abbrev=False)")
    fail_with([path for path, text in read_sources("benchmarks").items() if unsafe.search(text)])


def test_module_docstrings_name_the_module(package):
    fail_with(bad_module_docstrings(package | scripts()))


def test_every_path_that_contributing_names_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "`mdan_zoo/models/mdan/mhcca.py`" in text
    fail_with(missing_paths(text, ROOT))


def fail_with(offenders: list[str]) -> None:
    """Fail if there are offenders, and list all of them."""
    if offenders:
        pytest.fail("\n".join(["", *offenders]), pytrace=False)


# The checks themselves, on sources that break the rules.

MODULES = {"mdan_zoo", "mdan_zoo.a", "mdan_zoo.a.one", "mdan_zoo.a._two", "mdan_zoo.b.three"}


def test_long_files_and_functions_are_found():
    body = "    pass\n"
    longest = {"x.py": "def f():\n" + body * (MOST_LINES_IN_A_FUNCTION - 1)}
    assert long_functions(longest) == []
    assert long_functions({"x.py": longest["x.py"] + body}) == ["x.py:1: f has 61 lines"]
    assert long_files({"x.py": "\n" * MOST_LINES_IN_A_FILE}) == []
    assert long_files({"x.py": "\n" * (MOST_LINES_IN_A_FILE + 1)}) == ["x.py: 401 lines"]


@pytest.mark.parametrize(
    "back",
    [
        "import mdan_zoo.a",
        "def f():\n    from mdan_zoo.a import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mdan_zoo import a",
    ],
)
def test_cycles_are_found(back):
    sources = {
        "mdan_zoo/a.py": "from mdan_zoo.b import x",
        "mdan_zoo/b.py": "import mdan_zoo.c",
        "mdan_zoo/c.py": back,
        "mdan_zoo/d.py": "import mdan_zoo.a",
    }
    found = import_cycles(sources)
    assert [line.split(":")[0] for line in found] == sorted(sources)[:3]
    sources["mdan_zoo/c.py"] = "import json"
    assert import_cycles(sources) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from mdan_zoo.a.one import _f", ["mdan_zoo/b/three.py:1: mdan_zoo.a.one._f"]),
        ("from mdan_zoo.a import _two", ["mdan_zoo/b/three.py:1: mdan_zoo.a._two"]),
        ("from mdan_zoo.a._two import f", ["mdan_zoo/b/three.py:1: mdan_zoo.a._two.f"]),
        ("from mdan_zoo.a.one import f\nfrom mdan_zoo.b.three import _g", []),
        ("from mdan_zoo._version import __version__\nfrom mdan_zoo._util.files import f", []),
    ],
)
def test_private_imports_are_found(text, expected):
    assert private_imports({"mdan_zoo/b/three.py": text}, MODULES) == expected


def test_private_members_are_found():
    sources = {
        "mdan_zoo/a/one.py": "class A:\n    def __init__(self):\n        self._x = 1",
        "mdan_zoo/a/two.py": "def f(a):\n    return a._x",
        "mdan_zoo/b/three.py": "def f(a):\n    return a._x",
    }
    assert private_members(sources) == ["mdan_zoo/b/three.py:2: a._x"]


@pytest.mark.parametrize(
    "text",
    ["from PIL import Image\nImage.open(f)", "import PIL.Image\nPIL.Image.open(f)"],
)
def test_opened_images_are_found(text):
    assert len(opened_images({"x.py": text})) == 1
    assert len(opened_images({"x.py": "from PIL.Image import open"})) == 1
    assert opened_images({"x.py": "from PIL import Image\nImage.new('RGB', (1, 1))"}) == []


def test_bad_module_docstrings_are_found():
    bad = ["x = 1", '"""What a run needs."""', '"""How: by hand."""']
    for text in bad:
        assert len(bad_module_docstrings({"x.py": text})) == 1
    assert bad_module_docstrings({"x.py": '"""Howard\'s metric: a name."""'}) == []


def test_missing_paths_are_found(tmp_path):
    (tmp_path / "models").mkdir()
    assert missing_paths("add `models/NAME.py`, not `nets/NAME.py`\nor `setup.cfg`", tmp_path) == [
        "1: nets/NAME.py",
        "2: setup.cfg",
    ]
