"""Retries: short outages of the network are retried, anything else is not."""

import io
import logging
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


def test_messages_of_the_clients_have_no_secret(monkeypatch, capsys):
    """They have the address of the Hub, of which a password may be part."""
    handler = logging.StreamHandler(stream := io.StringIO())
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [handler])

    def call():
        logging.getLogger("huggingface_hub.utils").warning("503 while requesting %s", "http://user:S3CR3T@host/file")
        raise OSError("503 Server Error for http://user:S3CR3T@host/file")

    with pytest.raises(OSError, match="503"):
        call_with_retries("org/name", call, pauses=(0,))
    printed = capsys.readouterr().err + stream.getvalue()
    assert "S3CR3T" not in printed
    assert printed.count("//***@host/file") == 3


@pytest.mark.parametrize(
    "text, when",
    [
        (
            "429 Client Error: Too Many Requests for url: https://huggingface.co/api\nRetry after 55 seconds (0/9)",
            "55 s",
        ),
        ("429 Client Error: Too Many Requests for url: https://huggingface.co/api/12345", "in a few minutes"),
    ],
)
def test_rate_limit_is_told_from_an_outage_and_names_the_token(text, when):
    outer = OSError("We couldn't connect to 'https://huggingface.co' to load the files")
    outer.__cause__ = OSError(text)
    call = Unreliable(outer, outer)
    with pytest.raises(UserError, match=rf"org/name: .*429.* {when}.*HF_TOKEN"):
        call_with_retries("org/name", call, pauses=(0,))
    assert call.calls == 2


def test_outage_is_not_told_as_a_rate_limit():
    with pytest.raises(OSError, match="503"):
        call_with_retries("org/name", Unreliable(OSError("503 Server Error: https://hub/429")), pauses=())
