"""An unreachable Hub is detected once, unless the user has set a variable that decides."""

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
def open_url():
    """The URL of a port that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed_url():
    """The URL of a port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def clean_process(monkeypatch):
    """A process that has not imported the client, and an environment without variables that decide."""
    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    for name in (*offline.OFFLINE_VARIABLES, *offline.PROXY_VARIABLES, *map(str.lower, offline.PROXY_VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def test_reachable_hub_is_used(monkeypatch, open_url):
    monkeypatch.setenv("HF_ENDPOINT", open_url)
    assert use_cache_unless_reachable() is None
    assert "HF_HUB_OFFLINE" not in os.environ


def test_unreachable_hub_is_named_and_not_used(monkeypatch, closed_url):
    monkeypatch.setenv("HF_ENDPOINT", closed_url)
    message = use_cache_unless_reachable()
    assert os.environ.pop("HF_HUB_OFFLINE") == "1"
    assert closed_url in message
    assert "refused" in message


def test_password_of_the_address_is_not_shown(monkeypatch, closed_url):
    monkeypatch.setenv("HF_ENDPOINT", closed_url.replace("://", "://user:secret@"))
    message = use_cache_unless_reachable()
    del os.environ["HF_HUB_OFFLINE"]
    assert "cannot be reached" in message
    assert "secret" not in message


def test_silent_hub_is_given_up_after_the_timeout(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr(offline, "TIMEOUT", 0.05)
    monkeypatch.setattr(socket, "create_connection", _silent)
    began = time.perf_counter()
    assert "0.05 s" in use_cache_unless_reachable()
    del os.environ["HF_HUB_OFFLINE"]
    assert time.perf_counter() - began < 0.4


def _silent(address, timeout):
    """A name server that never answers."""
    assert (address, timeout) == (("hub.invalid", 443), 0.05)
    threading.Event().wait(0.5)
    raise OSError("too late")


@pytest.mark.parametrize(
    "name, value", [("HF_HUB_OFFLINE", "0"), ("HF_DATASETS_OFFLINE", "1"), ("https_proxy", "http://proxy.invalid:3128")]
)
def test_variables_of_the_user_win(monkeypatch, closed_url, name, value):
    monkeypatch.setenv("HF_ENDPOINT", closed_url)
    monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert use_cache_unless_reachable() is None
    assert dict(os.environ) == before


def test_client_that_is_already_imported_is_left_alone(monkeypatch, closed_url):
    monkeypatch.setenv("HF_ENDPOINT", closed_url)
    monkeypatch.setitem(sys.modules, "huggingface_hub", sys)
    assert use_cache_unless_reachable() is None


def test_command_imports_no_client_before_the_check():
    program = "import json, sys, harness.run; print(json.dumps('huggingface_hub' in sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) is False
