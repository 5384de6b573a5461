"""The user's mistake as its own kind of error, and the outside world's failures turned into it."""

import difflib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

MAX_MESSAGE = 2000
"""Characters of a message; the middle of a longer one, such as a list of 10,000 labels, is left out."""


class UserError(Exception):
    """Ends the program with its message, no traceback, and exit code 2."""

    def __init__(self, message: str) -> None:
        is_long = len(message) > MAX_MESSAGE
        super().__init__(f"{message[: MAX_MESSAGE // 2]} [...] {message[-MAX_MESSAGE // 2 :]}" if is_long else message)


WORLD_ERRORS: tuple[type[Exception], ...] = (OSError, UnicodeError, OverflowError, RecursionError, MemoryError)
"""Failures that a file, a text, a number or a size causes, and no fault of the code."""


@contextmanager
def boundary(name: str, *library_errors: type[Exception], advice: str = "") -> Iterator[None]:
    """Turns a failure of the outside world inside the block into `UserError("<name>: <reason>. <advice>")`.

    Args:
        name: the flag, file, record, model or service as the user knows it, such as `--train-file rows.csv`.
        library_errors: further exceptions that a library raises for bad input here, such as `yaml.YAMLError`.
        advice: a sentence that says what to do; by default that of `disk_advice`.
    """
    try:
        yield
    except UserError:
        raise  # a border inside has named the failure
    except BrokenPipeError:
        raise  # a reader of our output has gone: no failure of the input
    except WORLD_ERRORS + library_errors as error:
        advice = advice or disk_advice(error)
        raise UserError(f"{name}: {reason(error)}.{advice and ' '}{advice}") from error


def is_of_the_outside_world(error: BaseException) -> bool:
    """True for a failure that no code can prevent, such as a full disk, a missing permission or no memory."""
    return isinstance(error, OSError) or is_out_of_memory(error)


_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""Texts of torch's errors without a type of their own: on a CPU, outside its allocator, and within cuBLAS and cuDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors of torch, on a GPU and on a CPU, and of the loader of shared libraries, too."""
    is_torch = type(error).__name__ == "OutOfMemoryError" or any(text in str(error) for text in _OUT_OF_MEMORY)
    is_library = isinstance(error, ImportError) and str(error).endswith("failed to map segment from shared object")
    return isinstance(error, MemoryError) or is_torch or is_library


def is_of_another_process(error: BaseException) -> bool:
    """True for the error of a process whose run lost another one, which perhaps has ended with a message."""
    texts = ("Connection closed by peer", "Connection reset by peer", "remote process exited")  # of gloo and NCCL
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)


_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def disk_advice(error: BaseException) -> str:
    """The advice for a full disk; empty for any other error."""
    is_full = isinstance(error, OSError) and error.errno in _FULL_DISK
    return "Free disk space, then run the same command again." if is_full else ""


def reason(error: BaseException) -> str:
    """The cause of a failure in the words people search for, without a full stop."""
    if isinstance(error, OSError) and error.strerror:
        if error.errno in _FULL_DISK:  # pyarrow has words of its own
            return os.strerror(error.errno).lower()
        return error.strerror[0].lower() + error.strerror[1:]
    if is_out_of_memory(error):
        return "out of memory"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return first_line(error).rstrip(".")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'metrics'?"` for the known name nearest to `name`, or an empty string when none is near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return f" Did you mean {by_folded[nearest[0]]!r}?" if nearest else ""


def list_first(items: Sequence[object], most: int) -> str:
    """`a, b, c`, or `a, b, ...` where there are more items than are listed."""
    return ", ".join([*map(str, items[:most]), *(["..."] if len(items) > most else [])])


def first_line(error: BaseException) -> str:
    """`ValueError: the first line of its message`, or the type alone when there is no message.

    A UserError has no type in it: its message is for the user already.
    """
    lines = str(error).strip().splitlines()
    if lines and isinstance(error, UserError):
        return lines[0].strip()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
