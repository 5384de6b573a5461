"""The end of every command: the user's mistakes as a plain message with exit code 2 and no traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import UserError
from harness.system.redaction import redact_secrets
from harness.system.signals import Interrupted


@contextmanager
def exit_code_on_error() -> Iterator[None]:
    """Turns a UserError into its message and exit code 2, and an interruption into the shell's code for its signal."""
    try:
        try:
            yield
            sys.stdout.flush()  # here a closed pipe is still handled below
        except SystemExit:
            sys.stdout.flush()
            raise
    except UserError as error:
        process = os.environ.get("RANK", "0")
        prefix = "" if process == "0" else f"[process {process}] "
        print(f"{prefix}error: {redact_secrets(str(error))}", file=sys.stderr, flush=True)
        sys.exit(2)
    except Interrupted as interruption:
        print(interruption, file=sys.stderr, flush=True)
        sys.exit(interruption.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
