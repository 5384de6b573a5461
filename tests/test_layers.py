"""Who may import whom: facts load no library of the engine, whose parts do not know each other."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "harness"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")

HEAVY = ("accelerate", "datasets", "evaluate", "scipy", "sklearn", "torch", "transformers")
"""Seconds to import: what only reads or shows files answers without them."""

FACTS = ["errors", "yaml_file", "recipes", "metrics", "places", "tasks", "records"]
"""Each imports only those before it."""

LIGHT = [
    *FACTS,
    "answers",
    "bundles",
    "catalogue",
    "charsets",
    "columns",
    "command",
    "comparison",
    "console",
    "costs",
    "description",
    "description_plots",
    "description_report",
    "devices",
    "estimates",
    "evaluation_plots",
    "evaluation_report",
    "every_eval_ever",
    "exports",
    "formats",
    "grid",
    "groups",
    "hub",
    "identity",
    "influence",
    "importing",
    "interruption",
    "launching",
    "labels",
    "leaderboard",
    "leaderboard_files",
    "leaderboard_folder",
    "leaderboard_html",
    "leaderboard_page",
    "locks",
    "model_card",
    "offline",
    "options",
    "outcome",
    "own_data",
    "packed",
    "panels",
    "parents",
    "pictures",
    "plots",
    "progress",
    "publishing",
    "references",
    "replies",
    "report_files",
    "resampling",
    "row_values",
    "row_stream",
    "schedule",
    "shown_command",
    "scrutiny",
    "significance",
    "sources",
    "standings",
    "stratified",
    "sweep_display",
    "sweep_file",
    "sweep_plan",
    "sweep_work",
    "table_rows",
    "terminal_table",
    "testmode",
    "uncertainty",
]
"""They answer at once; anybody may import them."""

STORIES = [
    "__main__",
    "api",
    "companion_tasks",
    "describe",
    "evaluate",
    "fetching",
    "predict",
    "preparation",
    "run",
    "selfcheck",
    "submission",
    "sweep",
]
"""They answer at once too, and introduce the engine's parts to each other; nobody else imports them."""

ENGINE = [module for module in MODULES if module not in {*LIGHT, *STORIES}]
"""All others: each does one heavy thing and knows no other of them, except as said here."""

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


def _there(names: Iterable[str]) -> list[str]:
    return [name for name in names if name in MODULES]


def _imports(module: str) -> set[str]:
    """Modules of the package that it imports anywhere, also inside its functions and for its types only."""
    tree = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))
    return {name.split(".")[1] for name in _names(tree) if name.startswith("harness.")} & set(MODULES)


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(filter(None, ["harness" * (node.level > 0), node.module]))
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def test_modules_are_found_and_their_imports_read() -> None:
    """Or the tests below would try nothing."""
    assert set(FACTS) <= set(MODULES)
    assert _imports("tasks") == {"errors", "metrics", "places", "recipes", "yaml_file"}
    assert {"data", "models", "batches", "training", "inference", "provenance"} <= set(ENGINE)
    text = "import harness.data, os\nfrom harness import models\nfrom . import run\nfrom .batches import cut"
    assert set(_names(ast.parse(text))) == {
        "harness",
        "harness.batches",
        "harness.batches.cut",
        "harness.data",
        "harness.models",
        "harness.run",
        "os",
    }


@pytest.mark.parametrize("module", _there([*LIGHT, *STORIES]))
def test_light_module_loads_no_heavy_library(module: str) -> None:
    program = f"import json, sys, harness.{module}; print(json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))))"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == []


@pytest.mark.parametrize("module", FACTS)
def test_facts_import_only_the_facts_above_them(module: str) -> None:
    assert _imports(module) <= set(FACTS[: FACTS.index(module)])


@pytest.mark.parametrize("module", ENGINE)
def test_engine_part_knows_no_other(module: str) -> None:
    assert _imports(module) & set(ENGINE) == SIBLINGS.get(module, set())


@pytest.mark.parametrize("module", [module for module in MODULES if module not in STORIES])
def test_nobody_but_a_story_imports_a_story(module: str) -> None:
    assert _imports(module).isdisjoint(STORIES)


def test_imports_run_in_no_circle() -> None:
    waiting = {module: _imports(module) - {module} for module in MODULES}
    while ready := {module for module, needs in waiting.items() if not needs & set(waiting)}:
        waiting = {module: needs for module, needs in waiting.items() if module not in ready}
    assert waiting == {}


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short_enough_to_be_one_idea(module: str) -> None:
    lines = (FOLDER / f"{module}.py").read_text(encoding="utf-8").count("\n")
    assert lines <= 400


@pytest.mark.parametrize("module", MODULES)
def test_module_says_what_it_is(module: str) -> None:
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("module", MODULES)
def test_module_is_no_drawer(module: str) -> None:
    """A helper lives with its only user, or it is an idea and has its own name."""
    assert module not in {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "tools"}
