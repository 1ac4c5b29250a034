"""The link: the thread and the connection under publisher, consumer and calls.

Code: rmqspec/client/link.py, rmqspec/client/link_states.py, rmqspec/client/lives.py, rmqspec/client/quiet.py
"""

import errno
import logging
import socket
import threading
import time
from itertools import pairwise
from types import SimpleNamespace

import pika
import pytest

from rmqspec.client import Publisher, Settings, connect, open_connections
from rmqspec.client.errors import ClientError, ConnectionLost, LoginRefused, Unreachable, WrongThread
from rmqspec.client.link import Link, open_loop
from rmqspec.client.link_states import TRANSITIONS, Event, State
from rmqspec.client.lives import FIRST_PAUSE
from rmqspec.tools.wire import Proxy


class Tenant:
    """Does nothing, and notes what it is told; `channel` is called with each channel and its loop."""

    def __init__(self, channel=lambda _channel, _loop: None):
        self.lost, self.channels, self.ended, self.opened = [], [], threading.Event(), threading.Event()
        self._channel = channel

    def on_channel(self, channel, loop):
        self.channels.append(time.monotonic())
        self.opened.set()
        self._channel(channel, loop)

    def on_lost(self, reason, *, final):
        self.lost.append((reason, final))
        if final:
            self.ended.set()

    def on_blocked(self, reason):
        pass

    def on_work(self):
        pass


@pytest.fixture
def proxy(broker):
    with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
        yield proxy


@pytest.fixture
def longest_pauses(monkeypatch):
    """Pauses as long as they may be, and lives that are short on a busy machine too."""
    monkeypatch.setattr("rmqspec.client.lives.random", SimpleNamespace(uniform=lambda _, longest: longest))
    monkeypatch.setattr("rmqspec.client.lives.SHORT_LIFE", 60.0)


def assert_pauses_double(times):
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert all(gap >= FIRST_PAUSE * 2**number for number, gap in enumerate(gaps)), gaps


class TestTransitions:
    """The table."""

    @pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED])
    def test_lead_from_each_state_to_the_end(self, state):
        """A state without a way out is a thread that stays for ever."""
        reached, new = set(), {state}
        while new:
            reached |= new
            new = {to for one in new for to in TRANSITIONS[one].values()} - reached

        assert State.ENDED in reached

    @pytest.mark.parametrize("state", [State.CONNECTING, State.OPENING, State.UP, State.CLOSING])
    def test_know_the_end_of_the_loop_wherever_one_runs(self, state):
        """A connection may be lost at any moment."""
        assert TRANSITIONS[state][Event.LOOP_ENDED] is State.PAUSING


class TestDefect:
    """What nobody expected."""

    def test_is_told_to_the_tenant(self, url):
        """An exception that nobody expected ends the thread; whoever waited for it would wait for ever."""

        def fail(*_):
            raise ZeroDivisionError("a defect")

        tenant = Tenant(fail)

        with pytest.raises(ClientError, match="ended by a defect"):
            Link(Settings.of(url), "defective", tenant).open()

        assert [(str(reason), final) for reason, final in tenant.lost] == [
            ("the connection's thread ended by a defect (ZeroDivisionError('a defect')): please report it", True)
        ]

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ZeroDivisionError])
    def test_in_a_callback_is_told_too(self, url, patience, error):
        """sys.exit() ends a thread without a word: the next publish would wait for ever."""

        def leave():
            raise error

        tenant = Tenant(lambda _, loop: loop.ioloop.call_later(0, leave))

        Link(Settings.of(url), "left", tenant).start()

        assert tenant.ended.wait(patience)
        assert error.__name__ in str(tenant.lost[-1][0])
        assert "left" not in [connection.name for connection in open_connections()]


class TestClose:
    """`Link.close`."""

    def test_says_goodbye_after_a_last_look(self, url, patience):
        """What is handed over while the tenant looks, and before the close, was thrown away: acknowledgements, say."""
        looks = []

        class Busy(Tenant):
            def on_work(self):
                if self.channels:
                    looks.append(link.state)
                    if len(looks) == 1:  # a handler hands over its last outcome now, and the consumer closes
                        link.close(wait=False)

        link = Link(Settings.of(url), "busy", Busy())
        link.open()
        link._thread.join(patience)

        assert looks[:2] == [State.UP, State.UP]

    def test_in_a_callback_is_an_error(self, url, patience):
        """The link's thread would wait for itself, and with it everybody who waits for the link."""
        errors, called = [], threading.Event()

        def close():
            with pytest.raises(WrongThread, match=r"close\(\) in a callback would wait"):
                link.close()
            errors.append(None)
            called.set()

        link = Link(Settings.of(url), "calls back", Tenant(lambda _, loop: loop.ioloop.call_later(0, close)))
        link.open()

        assert called.wait(patience)
        link.close()
        assert errors == [None]

    def test_takes_two_seconds_while_it_connects_to_what_does_not_answer(self):
        """A firewall that swallows packets holds a connect for as long as it may take; a stop must not wait for it."""
        with socket.create_server(("127.0.0.1", 0)) as mute:
            link = Link(Settings(urls=(f"amqp://127.0.0.1:{mute.getsockname()[1]}",)), "stopped", Tenant())
            link.start()
            with mute.accept()[0]:
                begin = time.monotonic()
                link.close()

        assert time.monotonic() - begin < 2
        assert link.state is State.ENDED

    def test_comes_at_any_moment_of_a_reconnection(self, url, proxy):
        """In a pause, while it connects, when it has just connected: nobody waits for the next try."""
        for milliseconds in range(0, 100, 4):
            publisher = Publisher(proxy.url(url))
            proxy.cut()
            threading.Event().wait(milliseconds / 1000)  # the moment is what is tested
            publisher.close(timeout=5.0)

            assert publisher._link._thread.is_alive() is False, milliseconds
        assert open_connections() == []


class TestReconnection:
    """Opened again when it is lost."""

    def test_takes_a_peer_that_is_gone_again_for_unreachable(self, url, monkeypatch):
        """A broker that restarts hangs up at any moment, also before the socket is looked at; that is no defect."""

        def hung_up(_):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        monkeypatch.setattr(socket.socket, "getpeername", hung_up)

        for open_it in (Publisher, lambda url: connect(url, "late")):
            with pytest.raises(Unreachable, match="no broker answers"):
                open_it(url)

    def test_pauses_no_longer_than_it_may(self, url, proxy, monkeypatch, patience):
        """A pause that doubles with each attempt is an hour after the seventeenth; here the hundredth comes at once."""
        attempts, hundredth = [], threading.Event()

        def refuse(*_):
            attempts.append(None)
            if len(attempts) == 100:
                hundredth.set()
            raise Unreachable("nobody listens")

        with Publisher(Settings(urls=(proxy.url(url),), max_backoff=0.001)):
            monkeypatch.setattr("rmqspec.client.link.open_loop", refuse)
            proxy.cut()

            assert hundredth.wait(patience)

    def test_pauses_longer_each_time_where_connections_die_young_and_ends(
        self, url, longest_pauses, monkeypatch, patience
    ):
        """A message that kills each connection would otherwise do so hundreds of times a second, for ever."""
        monkeypatch.setattr("rmqspec.client.lives.SHORT_LIVES", 6)
        monkeypatch.setattr("rmqspec.client.lives.SHORT_SPAN", 0.5)
        tenant = Tenant(lambda _, loop: loop.ioloop.call_later(0.01, loop.cut))

        Link(Settings.of(url), "dies young", tenant).start()

        assert tenant.ended.wait(patience)
        assert str(tenant.lost[-1][0]).startswith("6 connections in ")
        assert "ended right after they were opened: look into the broker's log" in str(tenant.lost[-1][0])
        assert len(tenant.channels) == 6
        assert_pauses_double(tenant.channels)

    def test_pauses_before_another_channel_where_channels_die_young(self, url, longest_pauses, patience):
        """A channel that is refused again and again would be opened hundreds of times a second."""
        fifth = threading.Event()

        def spoil(channel, _):
            channel.basic_consume("nowhere", id)
            if len(tenant.channels) == 5:
                fifth.set()

        tenant = Tenant(spoil)
        link = Link(Settings.of(url), "refused", tenant)
        link.open()

        assert fifth.wait(patience)
        link.close()
        assert_pauses_double(tenant.channels)

    @pytest.mark.parametrize("final", [False, True])
    def test_tries_again_after_a_refusal_unless_that_is_final(self, url, proxy, monkeypatch, patience, final):
        """A password that is being changed, or a limit that is reached for a minute, is no reason to end a service."""
        tenant, refusals = Tenant(), iter([LoginRefused("refused", 403)] * 2)
        link = Link(Settings(urls=(proxy.url(url),), refusal_is_final=final), "refused", tenant)
        link.open()

        def refuse_twice(*arguments):
            if (refusal := next(refusals, None)) is not None:
                raise refusal
            return open_loop(*arguments)

        monkeypatch.setattr("rmqspec.client.link.open_loop", refuse_twice)
        tenant.opened.clear()
        proxy.cut()

        assert (tenant.ended if final else tenant.opened).wait(patience)
        link.close()


class TestLog:
    """What an operator reads."""

    def test_says_what_was_lost_and_when_it_was_back(self, url, proxy, caplog, eventually):
        """A service that was away for a minute and says nothing is blamed for the minute."""
        back = []
        link = Link(Settings.of(proxy.url(url)), "orders", Tenant(), on_reconnect=back.append)
        link.open()
        with caplog.at_level(logging.INFO):
            proxy.cut()
            eventually(lambda: len(back), 1)
            link.close()

        said = [record.getMessage() for record in caplog.records if record.name == "rmqspec.client"]
        assert said[0].startswith("orders: lost the broker")
        assert said[1].startswith("orders: back after 0.")
        assert [record.name for record in caplog.records if record.name.startswith("pika")] == []

    def test_lets_other_connections_of_pika_speak(self, url, caplog):
        """A user's own are none of our business."""
        link = Link(Settings.of(url), "quiet", Tenant())
        link.open()
        with caplog.at_level(logging.INFO):
            pika.BlockingConnection(pika.URLParameters(url)).close()
        link.close()

        assert {record.name for record in caplog.records if record.name.startswith("pika")} > {"pika.connection"}

    def test_goes_on_if_a_hook_fails(self, url, proxy, caplog, eventually):
        """What watches a service must not end it."""
        link = Link(Settings.of(proxy.url(url)), "watched", Tenant(), on_reconnect=lambda _: 1 // 0)
        link.open()
        proxy.cut()

        eventually(lambda: "watched: a hook failed" in caplog.text, True)
        eventually(lambda: link.connected, True)
        link.close()

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()], ids=repr)
    def test_goes_on_if_a_hook_ends_its_program(self, url, proxy, caplog, eventually, error):
        """It ends the thread that it runs in, and not the program, which would publish into nothing."""

        def hook(_):
            raise error

        with Publisher(proxy.url(url), on_reconnect=hook) as publisher:
            proxy.cut()
            eventually(lambda: "a hook failed" in caplog.text, True)

            assert publisher.connected

    def test_says_why_it_ends(self, url, caplog, patience, monkeypatch):
        """The thread's end is the service's."""
        monkeypatch.setattr("rmqspec.client.lives.SHORT_LIVES", 1)
        monkeypatch.setattr("rmqspec.client.lives.SHORT_SPAN", 0.0)
        tenant = Tenant(lambda _, loop: loop.ioloop.call_later(0.01, loop.cut))
        Link(Settings.of(url), "short", tenant).start()

        assert tenant.ended.wait(patience)
        assert isinstance(tenant.lost[-1][0], ConnectionLost)
        assert "short: ends: 1 connections in" in caplog.text
