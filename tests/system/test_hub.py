"""Retries: short outages of the network are retried, anything else is not."""

import re

import pytest

from harness.errors import UserError
from harness.system.hub import PAUSES, TOTAL_SECONDS, call_with_retries
from harness.system.offline import use_cache_unless_reachable


class Unreliable:
    """A call that fails with each of the failures, then succeeds."""

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
def test_short_outage_is_retried(failure, capsys):
    call = Unreliable(failure, failure)
    assert call_with_retries("org/name", call, pauses=(0, 0, 0)) == "rows"
    assert call.calls == 3
    assert capsys.readouterr().err.count("org/name") == 2


def test_transient_cause_of_an_error_is_retried():
    outer = ValueError("could not load the data set")
    outer.__cause__ = OSError("502 Bad Gateway")
    call = Unreliable(outer)
    assert call_with_retries("org/name", call, pauses=(0,)) == "rows"


def test_permanent_error_is_not_retried():
    for failure in (FileNotFoundError("404: Repository not found"), FileNotFoundError("/models/step-500/config.json")):
        call = Unreliable(failure)
        with pytest.raises(FileNotFoundError):
            call_with_retries("org/name", call, pauses=(0, 0))
        assert call.calls == 1


def test_last_failure_is_raised():
    call = Unreliable(*[OSError("503 Server Error")] * 9)
    with pytest.raises(OSError, match="503"):
        call_with_retries("org/name", call, pauses=(0, 0))
    assert call.calls == 3


def test_pauses_grow():
    assert list(PAUSES) == sorted(PAUSES)


@pytest.mark.parametrize("seconds_per_call", [0, 0.1, 23, 200])
def test_retries_end_after_about_two_minutes_however_long_a_call_takes(seconds_per_call, monkeypatch, capsys):
    now = 0.0

    def advance(seconds):
        nonlocal now
        now += seconds

    def fail():
        advance(seconds_per_call)
        raise OSError("500 Server Error: http://user:secret@hub.invalid")

    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("time.sleep", advance)
    with pytest.raises(OSError, match="500"):
        call_with_retries("org/name", fail)
    assert min(TOTAL_SECONDS, sum(PAUSES)) - max(PAUSES) <= now <= TOTAL_SECONDS + max(seconds_per_call, 1)
    assert "secret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:999999", "http://127.0.0.1:abc", "http://[::1", "hub.invalid", "ftp://a"]
)
def test_endpoint_that_is_no_url_is_named(url, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", url)
    with pytest.raises(UserError, match=f"HF_ENDPOINT {re.escape(url)}: invalid URL"):
        call_with_retries("org/name", lambda: None)
    with pytest.raises(UserError, match="HF_ENDPOINT"):
        use_cache_unless_reachable()
