"""Plain English: words and phrases that the documents, docstrings and messages do not use.

Needs only pytest and the standard library.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

AVOIDED = {
    r"anew": "again",
    r"own trees?|trees? of (?:your|one's|their|its) own": "custom hierarchy",
    r"(?:can|cannot|could|to) be had": "available, not available",
    r"told": "reported, said",
    r"so many": "as many, that number of",
    r"beside": "next to, in the same folder as",
    r"by heart": "overfit, memorise",
    r"whoever": "users who, anyone who",
    r"trainings": "training runs",
    r"emotion trees?": "hierarchy",
    r"weight files?": "checkpoint",
    r"data sets?": "dataset",
    r"pictures?": "image",
    r"(?:process|thread|folder|file|name|id) of its own": "a separate process, a unique name",
    r"(?:goes|gone|went|going) on (?:from|where|exactly)": "resumes",
    r"kept aside": "held out",
    r"comes? (?:un)?divided": "has an official split, has no official split",
    r"from elsewhere": "from other sources",
    r"formulas (?:as they )?stand": "the formulas of the paper as printed",
    r"takes? turns": "alternate",
    r"what (?:becomes|became|comes|came) of": "the result of",
    r"spread over (?:seeds|folds)|beyond (?:the|their) spread": "standard deviation over seeds",
    r"is for you to check": "you are responsible for checking",
    r"has to be obtained": "must be obtained",
    r"where there is (?:none|one)": "if there is one",
    r"for what, and not for what": "intended uses and limitations",
    r"how good (?:it is|they are)": "results",
}
"""What to avoid, as a regular expression for whole words, and what to write in its place."""

_PATTERN = re.compile(r"\b(?:" + "|".join(AVOIDED).replace(" ", r"\s+") + r")\b", re.IGNORECASE)

Text = tuple[int, str]
"""The line at which a text starts, and the text."""


def document_texts(text: str) -> Iterator[Text]:
    """Yield a document as a whole."""
    yield 1, text


def python_texts(source: str) -> Iterator[Text]:
    """Yield the docstrings, string literals and comments of a module.

    Adjoining comment lines are one text, and an f-string is one text with {} for its expressions.
    """
    for node in ast.walk(_with_joined_strings(ast.parse(source))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    yield from _comments(source)


def _comments(source: str) -> Iterator[Text]:
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        continues = token.start[0] == last + 1 and token.line.lstrip().startswith("#")
        if block and not continues:
            yield last - len(block) + 1, "\n".join(block)
            block = []
        block.append(token.string.lstrip("#: "))
        last = token.start[0]
    if block:
        yield last - len(block) + 1, "\n".join(block)


class _JoinStrings(ast.NodeTransformer):
    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:
        parts = [p.value if isinstance(p, ast.Constant) else "{}" for p in node.values]
        return ast.copy_location(ast.Constant("".join(parts)), node)


def _with_joined_strings(tree: ast.Module) -> ast.Module:
    joined: ast.Module = _JoinStrings().visit(tree)
    return joined


def sentence_at(text: str, start: int) -> str:
    """Return the sentence of a text that holds the character at `start`."""
    ends = [m.end() for m in re.finditer(r"[.!?:;]\s|\n\s*\n|\|", text)]
    first = max((end for end in ends if end <= start), default=0)
    last = min((end for end in ends if end > start), default=len(text))
    return " ".join(text[first:last].split())


def avoided_words(path: str, texts: Iterator[Text]) -> list[str]:
    """Return every use of an avoided word as "file:line: word: its sentence"."""
    found = []
    for line, text in texts:
        for match in _PATTERN.finditer(text):
            place = line + text.count("\n", 0, match.start())
            word = " ".join(match[0].split())
            found.append(f"{path}:{place}: {word!r}: {sentence_at(text, match.start())}")
    return found


def checked_files() -> list[Path]:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob(".github/**/*.md")]
    others = [ROOT / "Makefile", ROOT / "setup.cfg", *(ROOT / "mdan_zoo").rglob("*.toml")]
    sources = [ROOT / "hubconf.py", *(ROOT / "mdan_zoo").rglob("*.py")]
    for folder in ("examples", "benchmarks"):
        documents += (ROOT / folder).glob("*.md")
        sources += (ROOT / folder).glob("*.py")
    return sorted([*documents, *others, *sources])


def test_avoided_words_are_not_used():
    files = checked_files()
    assert {"README.md", "CHANGELOG.md", "hubconf.py"} <= {path.name for path in files}
    found = []
    for path in files:
        read = python_texts if path.suffix == ".py" else document_texts
        name = path.relative_to(ROOT).as_posix()
        found += avoided_words(name, read(path.read_text(encoding="utf-8")))
    if found:
        pytest.fail("\n".join(["", *found]), pytrace=False)


BAD_SOURCE = '''\
"""The module.

It is stored beside
the file.
"""
# A comment that is
# told to nobody.
x = 1  # anew
raise ValueError(
    f"the weights of {x} cannot "
    "be had. Look elsewhere."
)
'''


def test_avoided_words_are_found_with_their_line_and_sentence():
    assert sorted(avoided_words("x.py", python_texts(BAD_SOURCE))) == [
        "x.py:10: 'cannot be had': the weights of {} cannot be had.",
        "x.py:3: 'beside': It is stored beside the file.",
        "x.py:7: 'told': A comment that is told to nobody.",
        "x.py:8: 'anew': anew",
    ]
    document = "# Title\n\nA first sentence. There are so\nmany of them! A last one.\n"
    assert avoided_words("x.md", document_texts(document)) == [
        "x.md:3: 'so many': There are so many of them!"
    ]


@pytest.mark.parametrize("text", ["besides", "Every phone has a telltale.", "x = beside_it"])
def test_parts_of_words_are_not_found(text):
    assert avoided_words("x.md", document_texts(text)) == []


@pytest.mark.parametrize("pattern", AVOIDED)
def test_every_pattern_is_a_valid_expression_that_misses_ordinary_text(pattern):
    assert not re.search(rf"\b(?:{pattern})\b", "The model predicts the emotion of an image.")
