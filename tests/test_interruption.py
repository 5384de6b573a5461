"""Interruption: signals leave word and are put back as they were."""

import os
import signal
import threading

import pytest

from harness.system.signals import Interrupted, catch_stop_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_only_leaves_word(number):
    before = signal.getsignal(number)
    with catch_stop_signals() as asked:
        assert asked.signal == 0
        os.kill(os.getpid(), number)
        assert asked.signal == number
    assert signal.getsignal(number) == before


def test_a_second_control_c_stops_at_once():
    with catch_stop_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_take_no_signals():
    seen = []

    def work():
        with catch_stop_signals() as asked:
            seen.append(asked.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]


def test_exit_code_is_the_shells():
    assert Interrupted(signal.SIGTERM, 3, True).exit_code == 143
    assert Interrupted(signal.SIGINT, 3, True).exit_code == 130
    assert Interrupted(0, 3, True).exit_code == 143
    assert "from the beginning" in str(Interrupted(0, 3, False))
