"""Rooms import only rooms above them, only the engine loads heavy libraries, and its parts know few others."""

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
PATHS = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts): path
    for path in sorted(FOLDER.rglob("*.py"))
    if path.name != "__init__.py" or path.stat().st_size > 200
}
"""Every module by its dotted name within the package, such as `rows.files`."""

MODULES = sorted(PATHS)

HEAVY = ("accelerate", "datasets", "evaluate", "peft", "ray", "scipy", "sklearn", "torch", "transformers")
"""Libraries that take seconds to import: commands that only read or show files work without them."""

LOADS_DATASETS = "rows.loading"
"""The one module outside the engine that loads a heavy library; the others import it inside functions."""

ROOMS = [
    "errors",
    "system",
    "metrics",
    "facts",
    "rows",
    "engine",
    "stats",
    "reports",
    "saved_models",
    "requests",
    "inspection",
    "sweeps",
    "commands",
    "",
]
"""Each imports only from itself and those before it; last the modules that are in no room, such as `run`."""

ENGINE_IMPORTS = {
    "adaptations.__init__": {
        "adaptations.adapters",
        "adaptations.cache",
        "adaptations.dropout",
        "adaptations.freezing",
        "adaptations.head",
        "adaptations.label_scaling",
        "adaptations.last_layer",
        "adaptations.vocabulary",
        "encoding",
    },
    "adaptations.adapters": {"adaptations.head", "sharding"},
    "adaptations.encoder_dropout": {"adaptations.head"},
    "adaptations.freezing": {"batches", "encoding", "layers"},
    "adaptations.label_scaling": {"adaptations.head"},
    "adaptations.vocabulary": {"encoding", "layers", "optimizers"},
    "batches": {"encoding"},
    "checkpoints": {"optimizers", "sharding", "training"},
    "display": {"training"},
    "evaluation": {"deployment", "encoding", "inference"},
    "inference": {"batches"},
    "memory": {"batches", "deployment", "losses", "optimizers"},
    "models": {"adaptations", "adaptations.head", "inputs", "layers", "model_code"},
    "model_code": {"batches"},
    "optimizers": {"layers"},
    "plain_loop": {"batches", "encoding"},
    "predictions": {"inference"},
    "progress": {"training"},
    "token_cache": {"encoding"},
    "step_graphs": {"batches"},
    "tiny_example": {"encoding", "models", "test_mode"},
    "sharding": {"layers"},
    "training": {
        *("adaptations", "adaptations.dropout", "adaptations.freezing", "adaptations.label_scaling"),
        *("batches", "compiling", "losses", "sharding", "step_graphs"),
    },
}
"""The parts of the engine that a part may import; the others import none. Type-only imports count too."""


def _room(module: str) -> str:
    return "errors" if module == "errors" else module.split(".")[0] if "." in module else ""


ENGINE = [module for module in MODULES if _room(module) == "engine"]


def _tree(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text(encoding="utf-8"))


def _names(tree: ast.AST) -> Iterator[str]:
    """Modules and names that are imported anywhere, also inside functions and for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _imports(module: str) -> set[str]:
    """Modules of the package that a module imports."""
    names = {name.removeprefix("harness.") for name in _names(_tree(module)) if name.startswith("harness.")}
    packages = {f"{name}.__init__" for name in names if f"{name}.__init__" in PATHS}
    return (names & set(MODULES)) | packages


def test_imports_are_read() -> None:
    assert {_room(module) for module in MODULES} == set(ROOMS)
    assert {"rows.files", "engine.training", "facts.tasks", "commands.sweep", "run"} <= set(MODULES)
    text = "import harness.rows.files, os\nfrom harness.engine import models\nfrom harness.facts.tasks import load"
    assert set(_names(ast.parse(text))) == {
        "harness.rows.files",
        "os",
        "harness.engine",
        "harness.engine.models",
        "harness.facts.tasks",
        "harness.facts.tasks.load",
    }
    assert {"facts.tasks", "engine.encoding"} & _imports("engine.batches") == {"engine.encoding"}


def test_modules_outside_the_engine_load_no_heavy_library() -> None:
    light = [
        f"harness.{module.removesuffix('.__init__')}" for module in MODULES if module not in {*ENGINE, LOADS_DATASETS}
    ]
    program = f"""
import importlib, json, sys
first = {{}}
for name in {light!r}:
    importlib.import_module(name)
    for library in set(sys.modules) & set({HEAVY!r}):
        first.setdefault(library, name)
print(json.dumps(first))
"""
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(output.stdout) == {}, "library: the module that loaded it"


@pytest.mark.parametrize("module", MODULES)
def test_room_imports_only_rooms_above_it(module: str) -> None:
    allowed = ROOMS[: ROOMS.index(_room(module)) + 1]
    assert [name for name in _imports(module) if _room(name) not in allowed] == []


@pytest.mark.parametrize("module", ENGINE)
def test_part_of_the_engine_knows_few_others(module: str) -> None:
    name = module.removeprefix("engine.")
    imports = {other.removeprefix("engine.").removesuffix(".__init__") for other in _imports(module) & set(ENGINE)}
    assert imports - {name.removesuffix(".__init__")} <= ENGINE_IMPORTS.get(name, set())


def test_imports_have_no_cycle() -> None:
    waiting = {module: _imports(module) - {module} for module in MODULES}
    while ready := {module for module, needs in waiting.items() if not needs & set(waiting)}:
        waiting = {module: needs for module, needs in waiting.items() if module not in ready}
    assert waiting == {}


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short_enough_to_be_one_idea(module: str) -> None:
    assert PATHS[module].read_text(encoding="utf-8").count("\n") <= 400


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_docstring(module: str) -> None:
    docstring = ast.get_docstring(_tree(module))
    assert docstring
    assert docstring.splitlines()[0].endswith(".")


@pytest.mark.parametrize("module", MODULES)
def test_module_is_no_drawer(module: str) -> None:
    """A helper is in the module of its only user, or it is an idea and has a name of its own."""
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "tools"}
    assert module.split(".")[-1] not in drawers
