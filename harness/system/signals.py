"""SIGTERM and Ctrl-C as a question that the run answers at its next step, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop and has done so, with a checkpoint where it can keep one."""

    def __init__(self, number: int, step: int, is_saved: bool) -> None:
        number = number or signal.SIGTERM  # another process was asked
        again = "goes on from there" if is_saved else "starts from the beginning: no checkpoint can be kept here"
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; the same command {again}")
        self.exit_code = 128 + number


class StopRequest:
    """Whether a signal has asked this process to stop, and which; 0 when none has."""

    signal = 0


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Within it SIGTERM and SIGINT only leave word; a second Ctrl-C stops at once. Elsewhere than in the main thread,
    where Python takes no signals, it changes nothing."""
    asked = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def leave_word(number: int, frame: FrameType | None) -> None:
        if asked.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.signal = number

    before = {number: signal.signal(number, leave_word) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
