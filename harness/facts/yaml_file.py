"""YAML as the harness reads it: labels stay texts, no key stands twice, and each key knows its line."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError


def read_yaml(path: Path, what_it_holds: str) -> tuple[dict[str, Any], yaml.Node | None]:
    """The keys and values of a file, and the tree that knows their lines.

    Raises:
        UserError: `file:line: what is wrong`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Loader)
        values = yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: this is not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}:1: {what_it_holds}.")
    return {str(key): value for key, value in values.items()}, node


def yaml_text(values: Mapping[str, Any]) -> str:
    """What `read_yaml` reads as these values, and any other reader of YAML too."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def line_of(node: yaml.Node | None, location: tuple[Hashable, ...]) -> int:
    """The line of the innermost key or list item of `location` that the file has, from 1."""
    line = 1
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        pair = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        if pair is None:
            break
        line, node = pair[0].start_mark.line + 1, pair[1]
    return line


class _Loader(yaml.SafeLoader):
    """YAML where `no`, 010 and 2024-01-31 are texts, as labels are, 2e-5 is a number and no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, regexp) for tag, regexp in resolvers if tag.endswith((":float", ":merge", ":null"))]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


class _Dumper(yaml.SafeDumper):
    """Puts quotes around every text that `_Loader` or another reader would take for something else."""


_Dumper.yaml_implicit_resolvers = {
    letter: [*_Loader.yaml_implicit_resolvers.get(letter, []), *yaml.SafeDumper.yaml_implicit_resolvers.get(letter, [])]
    for letter in {*_Loader.yaml_implicit_resolvers, *yaml.SafeDumper.yaml_implicit_resolvers}
}
