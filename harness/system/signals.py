"""SIGTERM and Ctrl-C as a request that the run honours after its step, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The run has stopped on request, with a checkpoint where one can be saved."""

    def __init__(self, number: int, step: int, is_saved: bool) -> None:
        number = number or signal.SIGTERM  # 0: another process received the signal
        next_time = "resumes from there" if is_saved else "starts over: no checkpoint can be saved here"
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}; the same command {next_time}")
        self.exit_code = 128 + number


class StopRequest:
    """The signal that has asked this process to stop, or 0."""

    signal = 0


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """SIGTERM and SIGINT only set the request inside the block; a second Ctrl-C stops at once.

    Does nothing outside the main thread, the only one that can install Python's signal handlers.
    """
    stop_request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop_request
        return

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop_request.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop_request.signal = number

    handlers = {number: signal.signal(number, request_stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop_request
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
