"""Interruption: signals set a request, and their handlers are restored."""

import os
import signal
import threading
from contextlib import suppress

import pytest

from harness.system.signals import Interrupted, catch_stop_signals, stop_at_once


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_only_sets_the_request(number):
    before = signal.getsignal(number)
    with catch_stop_signals() as stop_request:
        assert stop_request.signal == 0
        os.kill(os.getpid(), number)
        assert stop_request.signal == number
    assert signal.getsignal(number) == before


def test_sigterm_stops_at_once_where_no_step_waits_for_it():
    before = signal.getsignal(signal.SIGTERM)
    assert not issubclass(Interrupted, Exception), "a library that catches every exception must not swallow it"
    with stop_at_once(), pytest.raises(Interrupted, match="SIGTERM") as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_signal_that_an_extension_module_swallowed_stops_the_run_at_its_first_step():
    with stop_at_once():
        with suppress(Interrupted):
            os.kill(os.getpid(), signal.SIGTERM)
        with catch_stop_signals() as stop_request:
            assert stop_request.signal == signal.SIGTERM
    with catch_stop_signals() as stop_request:
        assert stop_request.signal == 0


def test_second_ctrl_c_stops_at_once():
    with catch_stop_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_install_no_handlers():
    requests = []

    def work():
        with catch_stop_signals() as stop_request:
            requests.append(stop_request.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert requests == [0]


def test_exit_code_is_that_of_a_shell():
    assert Interrupted(signal.SIGTERM, 3, True).exit_code == 143
    assert Interrupted(signal.SIGINT, 3, True).exit_code == 130
    assert Interrupted(0, 3, True).exit_code == 143


def test_message_names_the_signal_the_step_and_whether_a_checkpoint_was_saved():
    saved, unsaved = (str(Interrupted(0, 3, is_saved)) for is_saved in (True, False))
    assert "SIGTERM after step 3" in saved
    assert "resumes" in saved
    assert "resumes" not in unsaved
