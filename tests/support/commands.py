"""Commands of the harness in the process of a test, and their interruption."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from harness.__main__ import main
from harness.run import main as main_of_run


def run_harness(*args: Any, code: int = 0) -> None:
    """Runs `harness` with these arguments, which must exit with this code, or return where it is 0."""
    with pytest.raises(SystemExit) if code else nullcontext() as end:
        main([*map(str, args)])
    assert not code or (end is not None and end.value.code == code)


def run(*args: Any, code: int = 0) -> None:
    """Runs `harness run` with these arguments, which must exit with this code."""
    with pytest.raises(SystemExit) as end:
        main_of_run([*map(str, args)])
    assert end.value.code == code


@contextmanager
def sigterm_at_step(number: int, before: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Sends SIGTERM to this process at a step of training."""
    from harness.engine import training

    training_steps = training.training_steps

    def steps(*args: Any, **keywords: Any) -> Iterator[training.Step]:
        for step in training_steps(*args, **keywords):
            if step.number == number:
                before()
                os.kill(os.getpid(), signal.SIGTERM)
            yield step

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "training_steps", steps)
        yield
