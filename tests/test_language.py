"""The code speaks the field's language: no participles as names, no fragments as docstrings, one meaning per name."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("harness", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py"))
PUBLIC = [path for path in FILES if path.is_relative_to(ROOT / "harness")]

BANNED_NAMES = frozenset(
    """
    told said seen looked stood asked given apart found taken kept wished answered anew settled worked_out stands lies
    goes place places placed word words sentence sentences remarks incidents hints held claim headline headlines update
    updates window windows replies reply Replies Row like versus Versus sign letters minder todo todos Todo
    """.split()
)
"""Participles, adverbs and words that the field has another name for."""

ALLOWED_NAMES = {
    ("harness/engine/display.py", "update"): "the method that tqdm's users expect",
}
"""At most five, each with its reason."""

BANNED_OPENING = re.compile(
    r"(What|Whether|How|Where|Which|Who|Whom|Whose|When|Why|Of|With|Without|As|In|From|By|For|On|Onto|To|At|Beside|"
    r"Among|Within|Between|Than|Or|And|But|Those|That|Such)\b"
)
"""A docstring that begins so is a clause or continues the name of its symbol."""

ALLOWED_TWICE = {"main", "run"}
"""Every command has a `main`; `harness.api` offers one of them as a function of the same meaning."""


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names that the code binds: variables, arguments, attributes of classes, functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes and functions, and texts below an attribute, which document it."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            continue
        for position, statement in enumerate(body):
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not is_text or not isinstance(statement.value.value, str):
                continue
            if position == 0 or isinstance(body[position - 1], (ast.Assign, ast.AnnAssign)):
                yield statement.lineno, statement.value.value


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_no_name_is_a_participle_or_has_a_better_word(path: Path) -> None:
    bound = [(line, name) for line, name in _names(_tree(path)) if name.strip("_") in BANNED_NAMES]
    assert [(line, name) for line, name in bound if (_relative(path), name) not in ALLOWED_NAMES] == []


@pytest.mark.parametrize("path", PUBLIC, ids=_relative)
def test_docstring_is_a_sentence_or_names_the_thing(path: Path) -> None:
    assert [(line, text[:60]) for line, text in _docstrings(_tree(path)) if BANNED_OPENING.match(text)] == []


def test_a_public_name_has_one_meaning() -> None:
    modules = defaultdict(list)
    for path in PUBLIC:
        for node in _tree(path).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                modules[node.name].append(_relative(path))
    twice = {name: paths for name, paths in modules.items() if len(paths) > 1 and name not in ALLOWED_TWICE}
    assert twice == {}


def test_exceptions_are_few() -> None:
    assert max(len(ALLOWED_NAMES), len(ALLOWED_TWICE)) <= 5
