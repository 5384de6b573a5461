"""Retries: moods of the network are waited for, anything else is not."""

import pytest

from harness.system.hub import PAUSES, persistently


class Moody:
    def __init__(self, *failures):
        self.failures, self.calls = list(failures), 0

    def __call__(self):
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "rows"


@pytest.mark.parametrize(
    "failure",
    [
        OSError("503 Server Error: Service Unavailable"),
        TimeoutError("timed out"),
        ConnectionResetError("[Errno 104] ConnectionResetError"),
        OSError("Consistency check failed: file should be of size 10 but has size 5"),
        OSError("peer closed connection without sending complete message body"),
    ],
)
def test_a_mood_of_the_network_is_waited_for(failure, capsys):
    call = Moody(failure, failure)
    assert persistently("org/name", call, pauses=(0, 0, 0)) == "rows"
    assert call.calls == 3
    assert capsys.readouterr().err.count("org/name") == 2


def test_the_cause_behind_an_error_counts():
    outer = ValueError("could not load the data set")
    outer.__cause__ = OSError("502 Bad Gateway")
    call = Moody(outer)
    assert persistently("org/name", call, pauses=(0,)) == "rows"


def test_what_another_try_would_not_mend_is_not_tried_again():
    for failure in (FileNotFoundError("404: Repository not found"), FileNotFoundError("/models/step-500/config.json")):
        call = Moody(failure)
        with pytest.raises(FileNotFoundError):
            persistently("org/name", call, pauses=(0, 0))
        assert call.calls == 1


def test_the_last_failure_comes_through():
    call = Moody(*[OSError("503 Server Error")] * 9)
    with pytest.raises(OSError, match="503"):
        persistently("org/name", call, pauses=(0, 0))
    assert call.calls == 3


def test_pauses_grow_and_end_within_minutes():
    assert list(PAUSES) == sorted(PAUSES)
    assert 60 <= sum(PAUSES) <= 600
