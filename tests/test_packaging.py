"""The project's own files agree with each other: versions, commands, and no name that shadows a library."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import harness

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "harness").rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PYTHONS = ("3.11", "3.12", "3.13")
TARGETS = {"architectures", "coverage", "help", "demo", "test", "lint", "check", "docs", "schema", "clean"}
LIBRARIES = {"accelerate", "datasets", "evaluate", "tokenizers", "torch", "transformers"}


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _project() -> dict[str, Any]:
    return tomllib.loads(_text("pyproject.toml"))["project"]


def _pins() -> dict[str, Version]:
    """The one version of each package that constraints.txt allows."""
    pins: dict[str, Version] = {}
    for line in _text("constraints.txt").splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert canonicalize_name(name) not in pins, f"duplicate {name}"
            pins[canonicalize_name(name)] = Version(version)
    return pins


def _requirements() -> list[Requirement]:
    """Requirements of the package and all its extras, without the package itself."""
    project = _project()
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    every = [Requirement(line) for line in lines]
    return [requirement for requirement in every if requirement.name != project["name"]]


def _make_targets() -> dict[str, str]:
    """Help texts by target, for the targets that have one."""
    return dict(re.findall(r"^([a-z]+):.*?## (.+)$", _text("Makefile"), flags=re.MULTILINE))


@pytest.mark.parametrize("requirement", _requirements(), ids=lambda requirement: requirement.name)
def test_constraints_name_a_version_that_the_range_allows(requirement: Requirement) -> None:
    pins = _pins()
    name = canonicalize_name(requirement.name)
    assert name in pins, f"constraints.txt does not name {name}"
    assert pins[name] in requirement.specifier


def test_no_constraint_has_a_local_version() -> None:
    """A version such as 2.13.0+cpu is on one index only."""
    assert [name for name, version in _pins().items() if version.local] == []


def test_project_makefile_and_ci_support_the_same_pythons() -> None:
    specifier = SpecifierSet(_project()["requires-python"])
    assert all(f"{python}.0" in specifier for python in PYTHONS)
    assert not any(f"{python}.0" in specifier for python in ("3.10", "3.14"))
    named = {line.rsplit(" ", 1)[1] for line in _project()["classifiers"] if "Python :: 3." in line}
    assert named == set(PYTHONS)
    workflow = yaml.safe_load(_text(".github/workflows/ci.yml"))
    assert tuple(workflow["jobs"]["check"]["strategy"]["matrix"]["python"]) == PYTHONS
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in _text("Makefile")
    assert SpecifierSet(_project()["requires-python"]).contains(".".join(map(str, sys.version_info[:3])))


def test_every_make_target_has_a_help_text() -> None:
    assert set(_make_targets()) == TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_document_names_only_existing_make_targets(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"(?:`|^ *|^\$ )make ([a-z]+)(?=`|$| {2}| [A-Z]+=)", text, flags=re.MULTILINE)
    assert set(named) <= TARGETS


def test_ci_runs_lint_tests_documentation_and_wheel() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    for command in ("make lint", "make test", "make docs", "--wheel", "run --task rte --test-mode"):
        assert command in text
    steps = yaml.safe_load(_text(".github/workflows/ci.yml"))["jobs"]["check"]["steps"]
    assert steps[-1]["run"] == ".ci/run"


def test_pre_commit_runs_what_make_lint_runs() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.+\n)+)", _text("Makefile"), flags=re.MULTILINE)
    assert recipe
    linted = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    (repository,) = yaml.safe_load(_text(".pre-commit-config.yaml"))["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == linted


def test_changelog_has_a_section_for_the_version() -> None:
    assert f"## [{harness.__version__}]" in _text("CHANGELOG.md")


def test_modules_and_rooms_shadow_no_library() -> None:
    """`accelerate launch harness/run.py` puts harness/ first on sys.path, until run.py replaces it."""
    names = {path.stem for path in (ROOT / "harness").iterdir()} - {"__main__"}
    assert names & (LIBRARIES | sys.stdlib_module_names) == set()


_distributions = functools.cache(packages_distributions)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_declared_dependencies(module: Path) -> None:
    project = _project()
    lines = project["dependencies"] + [
        line for name in ("peft", "tensorboard") for line in project["optional-dependencies"][name]
    ]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported = {str(node.module).split(".")[0]}
        else:
            continue
        for name in imported - sys.stdlib_module_names - {"harness"}:
            owners = {canonicalize_name(owner) for owner in _distributions().get(name, [name])}
            assert owners & declared, f"line {node.lineno}: undeclared dependency {name}"
