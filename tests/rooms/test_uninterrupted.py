"""Ctrl-C while the engine is at work."""

import threading

import pytest

from rmqspec.tools.broker.uninterrupted import uninterrupted


class TestUninterrupted:
    @pytest.mark.parametrize("begun", [True, False])
    def test_leaves_no_call_behind(self, monkeypatch, begun):
        """An interrupt in the middle of a thread's start left a container that nobody knew of."""
        start, at_work, never, ended = threading.Thread.start, threading.Event(), threading.Event(), []

        def interrupted(thread):
            if begun:
                start(thread)
                at_work.wait(5)
            raise KeyboardInterrupt

        def call():
            at_work.set()
            never.wait(0.2)
            ended.append(True)

        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            uninterrupted(call)

        assert ended == [True] * begun

    def test_hands_on_what_the_engine_says(self):
        """Its answer, or its error."""
        assert uninterrupted(lambda: 1) == 1
        with pytest.raises(ZeroDivisionError):
            uninterrupted(lambda: 1 // 0)
