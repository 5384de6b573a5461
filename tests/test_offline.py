"""An unreachable Hub is noticed once; whoever has settled the matter is not overruled."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from harness.system import offline
from harness.system.offline import use_cache_unless_reachable


@pytest.fixture
def catch_stop_signals():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def unsettled(monkeypatch):
    """A process that has not imported the client, and a user who has said nothing."""
    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    for name in (*offline.SETTLED_BY, *offline.PROXIES, *map(str.lower, offline.PROXIES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_a_hub_that_answers_is_asked(monkeypatch, catch_stop_signals):
    monkeypatch.setenv("HF_ENDPOINT", catch_stop_signals)
    assert use_cache_unless_reachable() is None
    assert "HF_HUB_OFFLINE" not in os.environ


def test_one_that_does_not_is_named_and_left_alone(monkeypatch, closed):
    monkeypatch.setenv("HF_ENDPOINT", closed)
    sentence = use_cache_unless_reachable()
    assert os.environ.pop("HF_HUB_OFFLINE") == "1"
    assert sentence.startswith(f"{closed} cannot be reached (")
    assert "refused" in sentence


def test_a_silent_one_is_not_waited_for(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(offline, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(socket, "create_connection", _silent)
    began = time.perf_counter()
    assert "no answer within 0.05 s" in use_cache_unless_reachable()
    del os.environ["HF_HUB_OFFLINE"]
    assert time.perf_counter() - began < 0.4


def _silent(place, timeout):
    """A name server that never answers."""
    assert (place, timeout) == (("hub.invalid", 443), 0.05)
    threading.Event().wait(0.5)
    raise OSError("too late")


@pytest.mark.parametrize(
    "name, value", [("HF_HUB_OFFLINE", "0"), ("HF_DATASETS_OFFLINE", "1"), ("https_proxy", "http://proxy.invalid:3128")]
)
def test_what_the_user_has_settled_stays(monkeypatch, closed, name, value):
    monkeypatch.setenv("HF_ENDPOINT", closed)
    monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert use_cache_unless_reachable() is None
    assert dict(os.environ) == before


def test_a_client_that_is_imported_already_is_left_as_it_is(monkeypatch, closed):
    monkeypatch.setenv("HF_ENDPOINT", closed)
    monkeypatch.setitem(sys.modules, "huggingface_hub", sys)
    assert use_cache_unless_reachable() is None


def test_no_client_is_imported_by_the_command_before_it_is_told():
    program = "import json, sys, harness.run; print(json.dumps('huggingface_hub' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
