"""SIGTERM and Ctrl-C: they stop a command at once, but a training run after its step, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """A signal has asked the command to stop. No `except Exception` of a library must swallow it."""

    def __init__(self, number: int, step: int | None = None, is_saved: bool = False) -> None:
        """`step` is the last step of a run that has begun to train."""
        number = number or signal.SIGTERM  # 0: another process received the signal
        name = signal.Signals(number).name
        next_time = "resumes from there" if is_saved else "starts over: no checkpoint can be saved here"
        if step is None:
            super().__init__(f"stopped by {name}; run the same command again")
        else:
            super().__init__(f"stopped by {name} after step {step}; the same command {next_time}")
        self.exit_code = 128 + number


class StopRequest:
    """The signal that has asked this process to stop, or 0."""

    signal = 0


_missed = StopRequest()
"""The signal for which Interrupted was raised. A library may have swallowed it, so that training must stop instead."""


@contextmanager
def stop_at_once() -> Iterator[None]:
    """SIGTERM raises Interrupted inside the block, as Ctrl-C raises KeyboardInterrupt."""

    def stop(number: int, frame: FrameType | None) -> None:
        _missed.signal = number
        raise Interrupted(number)

    with _handlers({signal.SIGTERM: stop}):
        try:
            yield
        finally:
            _missed.signal = 0


@contextmanager
def end_by_signal() -> Iterator[None]:
    """SIGTERM and Ctrl-C end the process inside the block, where a library may wait for hours and runs no handler."""
    with _handlers(dict.fromkeys((signal.SIGTERM, signal.SIGINT), signal.SIG_DFL)):
        yield


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """SIGTERM and SIGINT only set the request inside the block; a second Ctrl-C stops at once.

    It is set from the beginning when a library has swallowed an earlier SIGTERM.
    """
    stop_request = StopRequest()
    stop_request.signal = _missed.signal

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop_request.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop_request.signal = number

    with _handlers({signal.SIGTERM: request_stop, signal.SIGINT: request_stop}):
        yield stop_request


@contextmanager
def _handlers(
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None] | signal.Handlers],
) -> Iterator[None]:
    """Does nothing outside the main thread, the only one that can install Python's signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
