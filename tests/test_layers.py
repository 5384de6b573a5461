"""Who may import whom: rooms look down only, only the engine loads heavy libraries, and its parts know few others."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "harness"
PATHS = {path.stem: path for path in sorted(FOLDER.rglob("*.py")) if path.stem != "__init__"}
MODULES = sorted(PATHS)

HEAVY = ("accelerate", "datasets", "evaluate", "scipy", "sklearn", "torch", "transformers")
"""Seconds to import: what only reads or shows files answers without them."""

ROOMS = [
    "facts",
    "system",
    "rows",
    "engine",
    "stats",
    "reports",
    "kept",
    "running",
    "inspection",
    "sweeps",
    "harness",
]
"""Each imports only from those before it; last the commands, which lie in no room."""

FACTS = ["yaml_file", "recipes", "metrics", "places", "tasks", "row_values", "records"]
"""Each imports only those before it."""

STORIES = {"preparation", "companion_tasks", "fetching"}
"""Outside the commands, those who may introduce parts of the engine to each other."""


def room_of(module: str) -> str:
    """The folder that it lies in; `errors`, which anybody may raise, lies before them all."""
    return PATHS[module].parent.name if module != "errors" else ""


COMMANDS = [module for module in MODULES if room_of(module) == "harness"]
ENGINE = [module for module in MODULES if room_of(module) == "engine"]

SIBLINGS = {
    "token_cache": {"encoding"},
    "batches": {"encoding"},
    "vocabulary": {"encoding"},
    "training": {"batches", "compiling", "dropout", "losses"},
    "plain_loop": {"batches", "encoding"},
    "inference": {"batches"},
    "memory": {"batches", "losses"},
    "checkpoints": {"training"},
    "predictions": {"inference"},
}


def _tree(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text(encoding="utf-8"))


def _imports(module: str) -> set[str]:
    """Modules of the package that it imports anywhere, also inside its functions and for its types only."""
    return {name.rpartition(".")[2] for name in _names(_tree(module)) if name.startswith("harness.")} & set(MODULES)


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_modules_are_found_and_their_imports_read() -> None:
    """Or the tests below would try nothing."""
    assert {room_of(module) for module in MODULES} == {"", *ROOMS}
    names = [path.stem for path in FOLDER.rglob("*.py") if path.stem != "__init__"]
    assert sorted(names) == MODULES, "no name is there twice"
    assert _imports("tasks") == {"errors", "metrics", "places", "recipes", "yaml_file"}
    assert {"data", "models", "batches", "training", "inference", "provenance"} <= set(ENGINE)
    assert {"run", "sweep", "predict", "leaderboard"} <= set(COMMANDS)
    text = (
        "import harness.rows.compression, os\nfrom harness.engine import models\nfrom harness.facts.tasks import load"
    )
    assert set(_names(ast.parse(text))) == {
        "harness.rows.compression",
        "os",
        "harness.engine",
        "harness.engine.models",
        "harness.facts.tasks",
        "harness.facts.tasks.load",
    }


def test_modules_outside_the_engine_load_no_heavy_library() -> None:
    light = [PATHS[module].relative_to(ROOT).with_suffix("").parts for module in MODULES if module not in ENGINE]
    program = f"""
import importlib, json, sys
first = {{}}
for name in {[".".join(parts) for parts in light]!r}:
    importlib.import_module(name)
    for library in set(sys.modules) & set({HEAVY!r}):
        first.setdefault(library, name)
print(json.dumps(first))
"""
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == {}, "library: the module that loaded it"


@pytest.mark.parametrize("module", MODULES)
def test_module_looks_down_only(module: str) -> None:
    order = ["", *ROOMS]
    assert [name for name in _imports(module) if order.index(room_of(name)) > order.index(room_of(module))] == []


@pytest.mark.parametrize("module", FACTS)
def test_facts_import_only_the_facts_above_them(module: str) -> None:
    assert set(FACTS) == {module for module in MODULES if room_of(module) == "facts"}
    assert _imports(module) <= {"errors", *FACTS[: FACTS.index(module)]}


@pytest.mark.parametrize("module", ENGINE)
def test_engine_part_knows_no_other(module: str) -> None:
    assert _imports(module) & set(ENGINE) == SIBLINGS.get(module, set())


@pytest.mark.parametrize("module", [module for module in MODULES if module not in COMMANDS])
def test_only_commands_import_a_story(module: str) -> None:
    assert _imports(module) & STORIES <= ({"companion_tasks"} if module == "preparation" else set())


def test_imports_run_in_no_circle() -> None:
    waiting = {module: _imports(module) - {module} for module in MODULES}
    while ready := {module for module, needs in waiting.items() if not needs & set(waiting)}:
        waiting = {module: needs for module, needs in waiting.items() if module not in ready}
    assert waiting == {}


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short_enough_to_be_one_idea(module: str) -> None:
    assert PATHS[module].read_text(encoding="utf-8").count("\n") <= 400


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_is(module: str) -> None:
    docstring = ast.get_docstring(_tree(module))
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("module", MODULES)
def test_module_is_no_drawer(module: str) -> None:
    """A helper lives with its only user, or it is an idea and has its own name."""
    assert module not in {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "tools"}
