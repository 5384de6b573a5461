"""The end of every command: mistakes and failures of the outside world as one message, our faults with a traceback."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from harness.errors import UserError, disk_advice, is_of_another_process, is_of_the_outside_world, reason
from harness.system.output import standard_streams
from harness.system.redaction import redact_command, redact_secrets
from harness.system.signals import Interrupted, stop_at_once

FIRST_PROCESS_SECONDS = 2.0
"""Seconds that every process but the first waits before it ends with an error: the first mostly prints the same one."""

MAX_CHARACTERS = 10_000
"""Characters of a message; it may repeat a value of any size from a file."""


@contextmanager
def exit_code_on_error(is_output_optional: bool = False) -> Iterator[None]:
    """Ends the process with its exit code when the block raises.

    2 is for a UserError, and for a failure of the outside world that no boundary has named, such as a full disk; 1,
    with a traceback, for any other error, which is a fault of the harness; 128 + its number for a signal. Of several
    processes, the first reports signals, and errors that all of them have.
    `is_output_optional`: the work continues when standard output cannot be written.
    """
    with standard_streams(is_output_optional):
        try:
            if sys.flags.optimize >= 2:  # it removes docstrings
                raise UserError(
                    "Python runs without docstrings (python -OO or PYTHONOPTIMIZE=2), and transformers cannot be "
                    "loaded without them. Use python without -OO, and unset PYTHONOPTIMIZE."
                )
            with stop_at_once(), _flushed_output():
                yield
        except SystemExit as end:
            if end.code == 2 and not is_first_process():  # an invalid flag, which the first process prints
                time.sleep(FIRST_PROCESS_SECONDS)
            raise
        except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
            sys.exit(0)
        except Interrupted as interruption:
            _end(str(interruption), interruption.exit_code)
        except KeyboardInterrupt:
            _end("interrupted", 130)
        except UserError as error:
            _end(f"error: {redact_secrets(str(error))}", 2)
        except Exception as error:
            if is_of_the_outside_world(error):
                file = getattr(error, "filename", None)
                name = f"{os.fsdecode(file)}: " if isinstance(file, (str, bytes)) else ""
                _end(f"error: {name}{reason(error)}. {disk_advice(error)}".rstrip(), 2)
            if is_of_another_process(error):
                _end("stopped, because another process of this run has ended; its own message is the cause", 1)
            _end(
                f"{redact_secrets(traceback.format_exc())}\n"
                "This is a fault of the harness. Please report it, with the lines above and this command:\n"
                f"{redact_command(sys.argv)}",
                1,
            )


def is_first_process() -> bool:
    """True in the first of the processes that a launcher has started, and in a process of its own."""
    return os.environ.get("RANK", "") in ("", "0")


@contextmanager
def _flushed_output() -> Iterator[None]:
    """Writes standard output when the block ends, also by `sys.exit`, where a failure can still be described."""
    try:
        yield
    except SystemExit:
        with suppress(BrokenPipeError):  # the exit code is known already
            sys.stdout.flush()
        raise
    sys.stdout.flush()


def _end(message: str, code: int) -> None:
    prefix = "" if is_first_process() else f"[process {os.environ['RANK']}] "
    if prefix and code > 128:  # a signal reaches the first process, too, which reports it
        sys.exit(code)
    if prefix:  # when the first process has ended, the launcher ends this one meanwhile
        time.sleep(FIRST_PROCESS_SECONDS)
    cut = "" if len(message) <= MAX_CHARACTERS else f" ... ({len(message):,} characters)"
    print(f"{prefix}{message[:MAX_CHARACTERS]}{cut}", file=sys.stderr, flush=True)
    sys.exit(code)
