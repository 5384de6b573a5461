"""Pictures that all look alike: one set of axes under a title, as SVG and PNG."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png")
LETTER = 0.075
"""Inches that a letter of 9 points takes on average."""
_TITLE = 50
"""Letters of a title in one line."""


def drawn(draw: Callable[[Axes], None], title: str, width: float, height: float) -> dict[str, bytes]:
    """By format: what `draw` puts on the axes, under a title; inches, wider where the title needs it.

    The same picture gives the same bytes, whatever the reader's own settings are.
    """
    from matplotlib.figure import Figure  # without pyplot there is no window and no global state

    with _plain_settings():
        lines = textwrap.wrap(title, _TITLE)
        width = max(width, max(map(len, lines)) * LETTER * 1.25)
        figure = Figure(figsize=(width, height + 0.2 * (len(lines) - 1)), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        figure.suptitle("\n".join(lines), parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
        return {form: _saved(figure, form) for form in FORMATS}


@contextmanager
def _plain_settings() -> Iterator[None]:
    """The same picture whatever the reader's own settings are, in the same bytes."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's font may have it
        matplotlib.rcdefaults()
        matplotlib.rcParams |= {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "harness"}
        yield


def _saved(figure: Any, form: str) -> bytes:
    written = io.BytesIO()
    nothing = {"Date": None} if form == "svg" else {"Software": None}
    figure.savefig(written, format=form, dpi=150, metadata=nothing)
    return written.getvalue()
