"""How every command of the harness ends: the user's mistakes in plain words, with exit code 2 and no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import UserError
from harness.system.signals import Interrupted


@contextmanager
def exit_code_on_error() -> Iterator[None]:
    """Turns a UserError into its message and exit code 2, and an interruption into the shell's code for its signal."""
    try:
        try:
            yield
            sys.stdout.flush()  # while a reader that has gone is still no surprise
        except SystemExit:
            sys.stdout.flush()
            raise
    except UserError as error:
        process = os.environ.get("RANK", "0")
        speaker = "" if process == "0" else f"[process {process}] "
        print(f"{speaker}error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)
    except Interrupted as stop:
        print(stop, file=sys.stderr, flush=True)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
