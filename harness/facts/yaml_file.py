"""YAML as the harness reads it: labels stay text, keys are unique, and every key knows its line.

Faults are described with the line and the nearest key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidatorFunctionWrapHandler, field_validator

from harness.errors import UserError, boundary, did_you_mean
from harness.system.paths import user_path

MAX_DEPTH = 50
"""Levels of lists and keys inside each other."""

MAX_ITEMS = 1_000_000
"""Keys, values and list items of a file, those that an alias repeats counted again."""

MAX_DIGITS = 1000
"""Digits of a whole number."""

MAX_SHOWN = 40
"""Characters of a value that a message repeats."""


Location = tuple[Hashable, ...]
"""Keys, and numbers of list items, from the top of a file."""

_EXPECTED = {
    **dict.fromkeys(("dict_type", "mapping_type", "model_type"), "expected keys and values"),
    **dict.fromkeys(("list_type", "tuple_type"), "expected a list"),
}
"""Messages for types of pydantic's errors, whose own messages name types of Python."""

_PARTS_OF_PYDANTIC = ("function-", "tuple[", "dict[", "[key]")
"""Beginnings of the parts of a location that pydantic adds to those of the file."""


class KeysOfFile(BaseModel):
    """The base of a model whose fields are the keys of a YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _refuse_switch(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        return validate_number(value, validate)


def validate_number(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Returns `validate(value)`, but makes no number of true or false, which pydantic reads as 1 and 0.

    Raises:
        ValueError: the value is true or false where a number is expected, or is invalid.
    """
    valid = validate(value)
    if isinstance(value, bool) and not isinstance(valid, bool):
        raise ValueError("expected a number")
    return valid


def read_yaml(path: Path, example: str) -> tuple[dict[str, Any], yaml.Node | None]:
    """The keys and values of a file, and the node tree that knows their lines.

    `example`: a line of such a file, for the message when it has no keys.

    Raises:
        UserError: `file:line: message`.
    """
    path = user_path("", path)
    with boundary(str(path)):
        octets = path.read_bytes()
    with boundary(f"{path}: invalid YAML", yaml.YAMLError):  # a control character, or not UTF-8
        loader = _Loader(octets.decode())
    try:
        node = loader.get_single_node()
        values = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: invalid YAML: {getattr(error, 'problem', None) or error}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}:1: expected keys and values, such as '{example}'.")
    return {str(key): value for key, value in values.items()}, node


def yaml_text(values: Mapping[str, Any]) -> str:
    """YAML that `read_yaml`, and any other reader of YAML, reads as these values."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def line_number(node: yaml.Node | None, location: Location) -> int:
    """The line, from 1, of the innermost key or list item of `location` that the file has.

    A list item is given by its number, from 0, or by its text.
    """
    line = 1
    for part in location:
        if isinstance(node, yaml.SequenceNode):
            items = {item.value: item for item in node.value if isinstance(item, yaml.ScalarNode)}
            is_number = isinstance(part, int) and part < len(node.value)
            item = node.value[part] if is_number else items.get(str(part))
            if item is None:
                break
            line, node = item.start_mark.line + 1, item
            continue
        if not isinstance(node, yaml.MappingNode):
            break
        pair = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        if pair is None:
            break
        line, node = pair[0].start_mark.line + 1, pair[1]
    return line


def refuse_keys(path: Path, node: yaml.Node | None, values: Mapping[str, Any], keys: Iterable[str], why: str) -> None:
    """Raises UserError, with the line and the reason `why`, when the file has one of these keys."""
    if key := next((key for key in keys if key in values), None):
        raise UserError(f"{path}:{line_number(node, (key,))}: unknown key {key!r}: {why}. Remove the key.")


def describe_faults(
    path: Path, node: yaml.Node | None, faults: Iterable[Any], model: type[BaseModel], not_keys: Collection[str] = ()
) -> str:
    """`file:line: message` for each of pydantic's errors, with the nearest known key for an unknown one.

    `not_keys` are the fields of the model that no file has.
    """
    return "\n".join(dict.fromkeys(_fault_message(path, node, fault, model, not_keys) for fault in faults))


def _fault_message(
    path: Path, node: yaml.Node | None, fault: Any, model: type[BaseModel], not_keys: Collection[str]
) -> str:
    location = tuple(part for part in fault["loc"] if not str(part).startswith(_PARTS_OF_PYDANTIC))
    message = _EXPECTED.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")
    item: list[str] = []  # of a list or of keys, if the first name in the message is one
    if not location and (named := message.partition(":")[0]) in model.model_fields:
        location, item = (named,), re.findall(r"^\w+: (?:unknown key )?'?((?<=')[^']*|\w+)", message)
    where, key = f"{path}:{line_number(node, (*location, *item))}", ".".join(map(str, location))
    if fault["type"] == "extra_forbidden":
        known = [name for name in _model_at(model, location).model_fields if name not in not_keys or len(location) > 1]
        return f"{where}: unknown key {location[-1]!r}.{did_you_mean(str(location[-1]), known)}"
    if fault["type"] == "missing":
        return f"{where}: missing key {key!r}."
    shown = f" (got {fault['input']!r})" if isinstance(fault["input"], (str, int, float)) else ""
    return f"{where}: {'' if message.startswith(f'{key}:') else f'{key}: '}{message}{shown}"


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """The model that has the last part of the location as a key; `model` has the first."""
    for part in location[:-1]:
        if part in model.model_fields:
            model = next(_models_in(model.model_fields[str(part)].annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


class _Loader(yaml.SafeLoader):
    """YAML where `no`, 010 and 2024-01-31 are text, as labels are, 2e-5 is a number and duplicate keys are errors.

    Its size is bounded before any value is made: a short file can name a list of lists a billion times.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.sizes: dict[int, int] = {}
        """The items of each complete node, itself included, by its id."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> Any:
        is_alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _invalid(f"nested deeper than {MAX_DEPTH} levels", mark)
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if is_alias and id(node) not in self.sizes:
            raise _invalid("an alias inside the value that it names", mark)
        if not is_alias:
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            children = (child for part in parts for child in (part if isinstance(part, tuple) else (part,)))
            self.sizes[id(node)] = 1 + sum(self.sizes[id(child)] for child in children)
        if self.sizes[id(node)] > MAX_ITEMS:
            raise _invalid(f"more than {MAX_ITEMS:,} items, counted with those that its aliases repeat", mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        shown = _shown(node)
        kind = node.tag.rpartition(":")[2]
        if kind == "int" and len(node.value) > MAX_DIGITS:
            raise _invalid(f"a number of more than {MAX_DIGITS:,} digits: {shown}", node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):  # PyYAML parses what a tag such as !!timestamp names
            raise _invalid(f"expected {kind}, got {shown}", node.start_mark) from None

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if re.search("[\ud800-\udfff]", str(node.value)):
            raise _invalid(f"half a character (a lone surrogate) in {_shown(node)}", node.start_mark)
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                raise _invalid(f"duplicate key {key.value!r}", key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


def _shown(node: yaml.Node) -> str:
    return repr(str(node.value)[:MAX_SHOWN]) + ("..." if len(node.value) > MAX_SHOWN else "")


def _invalid(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=mark)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag.endswith((":float", ":merge", ":null"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `_Loader` or another reader would read as something else."""


_Dumper.yaml_implicit_resolvers = {
    first: [*_Loader.yaml_implicit_resolvers.get(first, []), *yaml.SafeDumper.yaml_implicit_resolvers.get(first, [])]
    for first in {*_Loader.yaml_implicit_resolvers, *yaml.SafeDumper.yaml_implicit_resolvers}
}
