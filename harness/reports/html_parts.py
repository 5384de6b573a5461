"""Parts that the HTML pages share: their templates, the names of models, cells, and links to records."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from harness.reports.cells import format_metric

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).with_name("templates")

GENERATOR = "harness leaderboard"
"""The name by which a page that this command wrote is known."""


def render_template(name: str, values: Mapping[str, Any], **filters: Callable[..., str]) -> str:
    """A page from `name` in the templates: style sheet and script within it, everything else escaped.

    The page may run that script alone, and load nothing.
    """
    style, script = ((_TEMPLATES / file).read_text(encoding="utf-8") for file in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shared = dict(style=style, script=script, script_hash=digest, generator=GENERATOR)
    return _environment(**filters).get_template(name).render({**shared, **values}) + "\n"


@functools.cache
def _environment(**filters: Callable[..., str]) -> jinja2.Environment:
    """The environment of the templates, which compiles each of them once."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment


def html_cell(**values: Any) -> dict[str, Any]:
    """A cell of the table of entries, empty but for these values."""
    empty: dict[str, Any] = dict(shown="", sort=None, spread="", interval="", ends=None, marks=[], runs=[], links=[])
    return empty | dict(is_best=False, is_tied=False, is_top=False) | values


def model_identity(label: str, variant: str, is_on_hub: bool) -> dict[str, Any]:
    """The names of a model, and its page on the Hub."""
    owner, _, name = label.partition("/")
    page = label.partition("@")[0]
    has_page = is_on_hub and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", page, re.ASCII) is not None
    names = dict(label=label, owner=owner if name else "", name=name or owner, recipe=variant)
    subtitle = "" if variant == "default" else variant
    return names | dict(subtitle=subtitle, tooltip="", page=f"https://huggingface.co/{page}" if has_page else None)


def entry_identity(entry: Mapping[str, Any], recipe: str | None = None) -> dict[str, Any]:
    """The names of an entry, with `recipe`, that of a single task, instead of its variant."""
    is_on_hub = not entry["revision"].startswith("sha256:")
    identity = model_identity(entry.get("label", entry["model"]), entry["variant"], is_on_hub)
    return identity if recipe is None else identity | dict(subtitle="" if recipe == "default" else recipe)


def record_links(result: Mapping[str, Any], as_percent: bool) -> list[dict[str, Any]]:
    """A link to the record of each run of a result."""
    return [
        dict(
            seed=run["seed"],
            href=quote(run["record"]),
            status=run["status"],
            tooltip=f"{format_metric(run['score'], as_percent)} ({run['status']})",
        )
        for run in result["runs"]
    ]
