"""The engine's libraries imported without the garbage collector, which costs a third of that time and finds nothing."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Stops the garbage collector during the body, and has it leave alone from then on the modules that came in.

    Modules stay for good, and yet each full collection would look at their 700,000 objects: 0.4 s with torch,
    transformers and datasets, and many of them while these are imported.
    """
    was_on, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > modules:
            gc.freeze()
        if was_on:
            gc.enable()
