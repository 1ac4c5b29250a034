"""Ctrl-C and SIGTERM end a service that waits, and not only one that works.

Code: rmqspec/cli/signals.py
"""

import signal
import threading
from queue import SimpleQueue

import pytest

from rmqspec.cli import signals
from rmqspec.cli.signals import on_signals


class TestOnSignals:
    """As `rmqspec demo worker` uses it."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
    def test_needs_no_step_of_the_main_thread(self, number):
        """It waits for a message, and the signal arrives in another thread: nothing else would wake it."""
        inbox = SimpleQueue()
        sender = threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), number))

        with on_signals(lambda: inbox.put("stop"), lambda: inbox.put("end")):
            sender.start()

            assert inbox.get(timeout=5) == "stop"
        sender.join()

    def test_ends_at_a_second_ctrl_c(self, monkeypatch):
        """Somebody who presses Ctrl-C again does not want to wait for what the first one waits for."""
        monkeypatch.setattr(signals, "DOUBLED", 0.0)
        inbox = SimpleQueue()

        with on_signals(lambda: inbox.put("stop"), lambda: inbox.put("end")):
            for expected in ("stop", "end", "end"):
                signal.raise_signal(signal.SIGINT)
                assert inbox.get(timeout=5) == expected

    def test_takes_a_doubled_signal_for_one(self, monkeypatch):
        """`timeout` signals the process and then its group: the second one would end the work in hand at once."""
        monkeypatch.setattr(signals, "DOUBLED", 0.5)
        inbox = SimpleQueue()

        with on_signals(lambda: inbox.put("stop"), lambda: inbox.put("end")):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert inbox.get(timeout=5) == "stop"

        assert inbox.empty()

    def test_stops_once_however_often_it_is_sent_sigterm(self, monkeypatch):
        """A supervisor that repeats itself is not in a hurry; it has SIGKILL for that."""
        monkeypatch.setattr(signals, "DOUBLED", 0.0)
        inbox = SimpleQueue()

        with on_signals(lambda: inbox.put("stop"), lambda: inbox.put("end")):
            signal.raise_signal(signal.SIGTERM)
            assert inbox.get(timeout=5) == "stop"
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            assert inbox.get(timeout=5) == "end"

        assert inbox.empty()

    def test_leaves_all_as_it_was(self):
        """Who uses it for a while is interrupted afterwards as before."""
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

        with on_signals(lambda: None, lambda: None):
            assert signal.getsignal(signal.SIGTERM) is not before[1]

        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        assert "signals" not in [thread.name for thread in threading.enumerate()]
