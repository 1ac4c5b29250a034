"""The publisher's window, without a broker: who gets a place, and in which order.

Code: rmqspec/client/window.py
"""

import threading

import pytest

from rmqspec.client.window import Window


@pytest.fixture
def asking(eventually):
    """Asks for a place in a thread, and returns when it is in the queue: `asking(window, 900)`."""
    threads = []

    def ask(window, size, timeout=10.0):
        answer, before = [], len(window._queue)
        thread = threading.Thread(target=lambda: answer.append(window.enter(size, timeout)))
        thread.start()
        threads.append(thread)
        eventually(lambda: len(window._queue), before + 1)
        return lambda: (thread.join(10), answer[0])[1]

    yield ask
    for thread in threads:
        thread.join(10)


class TestWindow:
    """Places for unanswered messages."""

    def test_limits_messages_and_bytes(self):
        """Either of them fills the memory: a thousand small ones, or a few large ones."""
        by_count, by_size = Window(2, 1_000), Window(1_000, 2)

        for window in (by_count, by_size):
            assert [window.enter(1, 0.0) for _ in range(3)] == [True, True, False]

    def test_accepts_a_single_message_of_any_size(self):
        """One that is larger than the bound could otherwise never be sent."""
        window = Window(10, 100)

        assert window.enter(101, 0.0)
        assert not window.enter(1, 0.0)

    def test_gives_places_in_the_order_of_asking(self, asking):
        """Small messages that overtake a large one leave it waiting for as long as they keep coming."""
        window = Window(100, 1_000)
        window.enter(500, 0.0)
        large = asking(window, 900)

        assert not window.enter(10, 0.0)
        small = asking(window, 10)
        window.leave(1, 500)

        assert (large(), small()) == (True, True)
        assert window.count == 2

    def test_lets_others_pass_when_a_large_message_gives_up(self, asking):
        """Otherwise they would wait for room that nobody waits for any more."""
        window = Window(100, 1_000)
        window.enter(500, 0.0)
        large = asking(window, 900, timeout=0.2)
        small = asking(window, 10)

        assert (large(), small()) == (False, True)

    def test_lets_a_callback_take_the_place_of_its_own_message(self, asking):
        """A callback cannot wait, and whoever waits outside would always be there first."""
        window = Window(1, 1_000)
        window.enter(10, 0.0)
        outside = asking(window, 10)

        window.returning(1, 10)
        in_callback = [window.enter_again(10), window.enter_again(10)]
        window.leave(1, 10, returned=True)

        assert (in_callback, window.count) == ([True, False], 1)
        window.leave(1, 10)
        assert (outside(), window.count) == (True, 1)

    def test_is_empty_when_the_last_has_left(self, eventually):
        """A flush that returned earlier would let a program end before its last message has arrived."""
        window, emptied = Window(10, 100), []
        window.enter(1, 0.0)
        assert not window.empty(0.01)
        thread = threading.Thread(target=lambda: emptied.append(window.empty(10)))
        thread.start()
        eventually(lambda: window._flushing, 1)

        window.leave(1, 1)
        thread.join(10)

        assert emptied == [True]

    def test_keeps_no_place_for_a_wait_that_was_interrupted(self, monkeypatch):
        """Ctrl-C ends the wait with an exception; a place taken for it would be missing for ever."""

        class Interrupted:
            def acquire(self, timeout=-1):
                if timeout != -1:
                    raise KeyboardInterrupt

        window = Window(1, 100)
        window.enter(1, 0.0)
        monkeypatch.setattr("rmqspec.client.window.threading.Lock", Interrupted)

        with pytest.raises(KeyboardInterrupt):
            window.enter(1, 10.0)
        window.leave(1, 1)

        assert (window.count, len(window._queue)) == (0, 0)
