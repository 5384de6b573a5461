"""The common look of all pictures: one set of axes under a title, as SVG and PNG."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.reports.drawing import plain_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png")
BLUE, ORANGE, GREEN, GRAY, INK = "#2a7fb8", "#d1690e", "#3f9b57", "#9e9e9e", "#757575"
CHARACTER = 0.075
"""Average width in inches of a character of 9 points."""
_TITLE_WIDTH = 50
"""Characters of a title per line."""


def draw_picture(draw: Callable[[Axes], None], title: str, width: float, height: float) -> dict[str, bytes]:
    """Returns the picture that `draw` makes on the axes, by format; width and height in inches, wider for a long title.

    Equal pictures have equal bytes, whatever the reader's own settings of matplotlib are.
    """
    import matplotlib
    from matplotlib.figure import Figure  # pyplot would open windows and keep global state

    with plain_style():
        matplotlib.rcParams |= {"font.size": 9, "svg.hashsalt": "harness"}
        lines = textwrap.wrap(title, _TITLE_WIDTH)
        width = max(width, max(map(len, lines)) * CHARACTER * 1.25)
        figure = Figure(figsize=(width, height + 0.2 * (len(lines) - 1)), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        figure.suptitle("\n".join(lines), parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
        picture = {}
        for form in FORMATS:
            buffer = io.BytesIO()
            metadata = {"Date": None} if form == "svg" else {"Software": None}
            figure.savefig(buffer, format=form, dpi=150, metadata=metadata)
            picture[form] = buffer.getvalue()
        return picture
