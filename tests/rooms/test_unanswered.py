"""A broker that says nothing: the connection stands, and an answer does not come. Whoever waits for it is told.

Code: rmqspec/client/overdue.py, rmqspec/client/connection.py, rmqspec/client/publisher.py
"""

import threading
import time
from contextlib import closing

import pytest

from rmqspec.client import Consumer, Outcome, Publisher, RpcClient, Settings, connect, open_connections
from rmqspec.client.errors import OutcomeUnknown, Unanswered, Unreachable
from rmqspec.client.overdue import Overdue
from rmqspec.tools.wire import Proxy
from rmqspec.tools.wire.liar import Liar
from rmqspec.tools.wire.lies import LIES, Lie


@pytest.fixture
def silent(broker, url):
    """Settings of a broker that keeps one kind of answer back: `silent("confirm-swallowed")`."""
    with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
        liar = Liar()
        liar.stand_in(proxy)

        def keeping_back(lie):
            liar.lie = LIES[lie]
            return Settings(urls=(proxy.url(url),), answer_timeout=1.0)

        yield keeping_back


class TestConnection:
    """`connect`."""

    def test_waits_no_longer_than_it_is_told(self, silent):
        """pika itself waits for ever, and so would a service, with nothing in its log."""
        connection = connect(silent("queue-name-changed"), "patient")  # pika takes the answer for that to another
        begin = time.monotonic()

        with pytest.raises(Unanswered, match=r"the broker has not answered queue_declare within 1 s"):
            connection.channel().queue_declare("q", exclusive=True)

        assert (1.0 <= time.monotonic() - begin < 5, connection.unanswered) == (True, True)
        assert not connection.is_open

    @pytest.mark.parametrize("channels", [0, 1])
    def test_is_closed_by_a_goodbye_that_is_not_answered(self, broker, url, channels):
        """Its socket stayed open until the end of the program, or until somebody closed it once more."""
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            connection = connect(Settings(urls=(proxy.url(url),), answer_timeout=0.5), "patient")
            for _ in range(channels):
                connection.channel()
            proxy.half_open()

            with pytest.raises(Unanswered, match=r"the broker has not answered close within 0.5 s"):
                connection.close()

            assert (connection.is_open, connection.is_closed) == (False, True)

    @pytest.mark.parametrize(
        ("asked", "kept"),
        [("basic_publish", "basic.ack"), ("basic_get", "basic.get-empty"), ("tx_select", "tx.select-ok")],
    )
    def test_names_what_was_asked(self, silent, monkeypatch, channel, asked, kept):
        """One of a hundred calls of a service was never answered: which?"""
        monkeypatch.setitem(LIES, "mute", Lie.of("mute", "An answer is kept back.", kept, lambda *_: None))
        channel.queue_declare("q", durable=True)
        connection = connect(silent("mute"), "patient")
        asking = connection.channel()
        if asked == "basic_publish":
            asking.confirm_delivery()
        arguments = {"basic_publish": ("", "q", b"order"), "basic_get": ("q",), "tx_select": ()}[asked]

        with pytest.raises(Unanswered, match=rf"the broker has not answered {asked} within 1 s"):
            getattr(asking, asked)(*arguments)

        assert not connection.is_open

    def test_waits_for_a_message_as_long_as_its_caller_says(self, url):
        """What comes when it comes is no answer; the limit is for what the broker owes."""
        with closing(connect(Settings(urls=(url,), answer_timeout=2.0), "listener")) as connection:
            channel = connection.channel()
            queue = channel.queue_declare("", exclusive=True).method.queue
            begin = time.monotonic()

            assert next(channel.consume(queue, inactivity_timeout=2.5)) == (None, None, None)
            assert time.monotonic() - begin >= 2.5
            channel.cancel()


class TestPublisher:
    """`Publisher`."""

    @pytest.mark.parametrize("resend", [False, True])
    def test_tells_what_was_never_confirmed(self, silent, channel, drain, resend):
        """It is on its way or it has arrived; to send it again on the same connection could only double it."""
        channel.queue_declare("work", durable=True)
        begin = time.monotonic()
        with Publisher(silent("confirm-swallowed"), resend=resend) as publisher:
            promises = [publisher.publish("", "work", b"order") for _ in range(3)]

            errors = [promise.exception(5) for promise in promises]
            assert publisher.flush(1)  # the window is free again

        assert [type(error) for error in errors] == [OutcomeUnknown] * 3
        assert "does not answer" in str(errors[0])
        assert str(errors[0].__cause__) == "the broker has not confirmed a message within 1 s"
        assert 1.0 <= time.monotonic() - begin < 5
        assert drain("work") == [b"order"] * 3

    def test_gives_each_message_its_own_time(self, silent, channel):
        """One that was sent a moment ago is not to be given up with one that has waited for long."""
        channel.queue_declare("work", durable=True)
        with Publisher(silent("confirm-swallowed")) as publisher:
            first = publisher.publish("", "work", b"first")
            threading.Event().wait(0.25)  # half of the time that is allowed
            second, sent = publisher.publish("", "work", b"second"), time.monotonic()

            assert isinstance(first.exception(5), OutcomeUnknown)
            assert not second.done()
            assert isinstance(second.exception(5), OutcomeUnknown)
            assert time.monotonic() - sent >= 1.0


class TestLink:
    """What our clients stand on."""

    @pytest.mark.parametrize("way", [Publisher, RpcClient], ids=["publisher", "rpc"])
    def test_waits_no_longer_for_its_channel(self, silent, monkeypatch, way):
        """A service that starts beside a broker in trouble says so, instead of hanging before its first line."""
        mute = Lie.of("no-channel", "No channel opens.", "channel.open-ok", lambda *_: None)
        monkeypatch.setitem(LIES, "no-channel", mute)
        begin = time.monotonic()

        with pytest.raises(Unreachable, match=r"opened no channel within 1 s: try again"):
            way(silent("no-channel"))

        assert 1.0 <= time.monotonic() - begin < 5


class TestConsumer:
    """`Consumer.stop`."""

    def test_goes_without_a_goodbye(self, silent, channel, eventually, monkeypatch):
        """Who is to be restarted is not to wait for a broker that does not answer."""
        goodbyes = "basic.cancel-ok channel.close-ok connection.close-ok"
        lie = Lie.of("no-goodbye", "No goodbye is answered.", goodbyes, lambda *_: None)
        monkeypatch.setitem(LIES, "no-goodbye", lie)
        channel.queue_declare("q", durable=True)
        consumer = Consumer(silent("no-goodbye"), "q", lambda _: Outcome.ACK, name="nobody knows this tag")
        thread = threading.Thread(target=consumer.run)
        thread.start()
        eventually(lambda: channel.queue_declare("q", passive=True).method.consumer_count, 1)
        begin = time.monotonic()

        consumer.stop()
        thread.join()

        assert 1.0 <= time.monotonic() - begin < 5
        assert "nobody knows this tag" not in [one.name for one in open_connections()]


class Loop:
    """Time that a test turns on."""

    def __init__(self):
        self.ioloop, self.now, self.calls = self, 0.0, []

    def call_later(self, seconds, call):
        self.calls.append((self.now + seconds, call))
        return len(self.calls)

    def wait(self, seconds):
        until = self.now + seconds
        while due := [entry for entry in self.calls if entry[0] <= until]:
            self.calls.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = until


class TestOverdue:
    """`Overdue`, without a broker."""

    @pytest.fixture
    def loop(self):
        return Loop()

    @pytest.fixture
    def limits(self):
        """Up to which tag it had looked, each time."""
        return []

    def test_looks_for_what_was_sent_before_the_time_began(self, loop, limits):
        """It looks four times in the while: who waits is told after a quarter more at most."""
        overdue = Overdue(4.0, lambda limit: limits.append(limit) or True)
        overdue.watch(loop, lambda: 3)
        loop.wait(3.9)
        assert set(limits) <= {0}
        loop.wait(0.2)

        assert limits[-1] == 3

    def test_rests_when_nothing_waits(self, loop, limits):
        """An idle publisher must not wake a processor."""
        overdue = Overdue(4.0, lambda limit: bool(limits.append(limit)))
        overdue.watch(loop, lambda: 3)
        loop.wait(60)

        assert (limits, loop.calls) == ([0], [])

    def test_gives_the_whole_time_again_after_an_alarm(self, loop, limits):
        """While it blocks publishers a broker owes them nothing."""
        overdue = Overdue(4.0, lambda limit: limits.append(limit) or True)
        overdue.watch(loop, lambda: 3)
        loop.wait(3.5)
        overdue.restart()
        loop.wait(3.5)

        assert set(limits) == {0}

    def test_begins_anew_with_another_channel(self, loop, limits):
        """Looks of the old channel that still come would halve the time of the new one."""
        overdue = Overdue(4.0, lambda limit: limits.append(limit) or True)
        overdue.watch(loop, lambda: 3)
        loop.wait(0.5)
        overdue.forget()
        overdue.watch(loop, lambda: 7)
        loop.wait(3.9)
        assert set(limits) <= {0}
        loop.wait(0.2)

        assert limits[-1] == 7

    def test_waits_for_ever_if_it_is_told_so(self, loop):
        """Some brokers are allowed to be slow."""
        Overdue(None, lambda _: True).watch(loop, lambda: 1)

        assert loop.calls == []
