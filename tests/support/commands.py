"""Commands of the harness in the process of a test."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from harness.__main__ import main


def run_harness(*args: Any, code: int = 0) -> None:
    """Runs `harness` with these arguments, which must exit with this code, or return where it is 0."""
    with pytest.raises(SystemExit) if code else nullcontext() as end:
        main([*map(str, args)])
    assert not code or (end is not None and end.value.code == code)
