"""The wire proxy's harms, as a client sees them.

Where bytes are counted the far end is an echo of our own; where a client has to notice it is a real broker.

Code: rmqspec/tools/wire/proxy.py, rmqspec/tools/wire/harm.py, rmqspec/tools/wire/pump.py
"""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from pika.exceptions import StreamLostError

from rmqspec.client import connect as open_connection
from rmqspec.tools.wire import Proxy

from .echo import Echo, asked, calling, serving, told


@pytest.fixture(scope="module")
def echo():
    with serving(Echo) as port:
        yield port


@pytest.fixture
def proxy(echo):
    with Proxy("127.0.0.1", echo) as proxy:
        yield proxy


@pytest.fixture
def on_the_way(broker):
    """A proxy before the broker of this run."""
    with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
        yield proxy


class TestHarm:
    """What is done to a connection, as its client sees it."""

    def test_cuts_what_is_open_now(self, on_the_way, url):
        """No goodbye and no end: a client hears that the connection was reset, and may come again at once."""
        connection = open_connection(on_the_way.url(url), "to be cut")

        assert (on_the_way.connections, on_the_way.cut(), on_the_way.connections) == (1, 1, 0)
        with pytest.raises(StreamLostError, match="reset by peer"):
            connection.process_data_events(5)
        with closing(open_connection(on_the_way.url(url), "after the cut")) as connection:
            assert connection.is_open

    def test_keeps_what_is_said_into_the_silence(self, proxy):
        """TCP loses no byte in the middle: what a network swallowed for a while comes late, and once."""
        with calling(proxy) as link, calling(proxy) as other:
            asked(link, b"before"), asked(other, b"before")
            proxy.half_open()
            link.sendall(b"during")
            link.settimeout(0.1)
            with pytest.raises(TimeoutError):
                link.recv(1)
            proxy.heal()
            link.settimeout(10)

            assert told(link, 6) == b"during"

    def test_accepts_and_says_nothing_when_half_open(self, proxy):
        """That a connection can be opened does not prove that anybody is there."""
        proxy.half_open()

        with calling(proxy) as link:
            link.sendall(b"anybody there?")
            link.settimeout(0.1)
            with pytest.raises(TimeoutError):
                link.recv(1)
            proxy.heal()
            link.settimeout(10)
            assert told(link, 14) == b"anybody there?"

    def test_delays_without_changing_the_order(self, proxy):
        """Even what came when the delay was already shorter stays behind what came before."""
        with calling(proxy) as link:
            for number, seconds in enumerate((0.1, 0.01, 0.0)):
                proxy.delay(seconds)
                link.sendall(b"%d" % number * 70_000)
            received = told(link, 210_000)

        assert received == b"0" * 70_000 + b"1" * 70_000 + b"2" * 70_000

    def test_is_late_by_the_delay_in_each_direction(self, proxy):
        """A round trip costs it twice, as distance does."""
        with calling(proxy) as link:
            asked(link, b"before")
            proxy.delay(0.05)
            begin = time.monotonic()
            asked(link, b"x")

            assert time.monotonic() - begin >= 0.1

    def test_throttles_to_bytes_per_second(self, proxy):
        """The last of 20,000 bytes leaves at 100,000 a second a fifth of a second later, but for one slice."""
        with calling(proxy) as link:
            proxy.throttle(100_000)
            begin = time.monotonic()
            received = asked(link, b"x" * 20_000)

        assert (received, time.monotonic() - begin >= 0.17) == (b"x" * 20_000, True)

    def test_drops_the_connection_after_so_many_bytes(self, proxy):
        """The end comes in the middle of a frame: a client must not take a part for the whole."""
        with calling(proxy) as link:
            asked(link, b"not counted")
            proxy.drop_after(1_000)
            link.sendall(b"0123456789" * 1_000)

            assert told(link, 10_000) == b"0123456789" * 100

    def test_refuses_newcomers_and_keeps_the_others(self, proxy):
        """So a broker looks that has run out of file descriptors."""
        with calling(proxy) as link:
            asked(link, b"before")
            proxy.accept_no_connections()

            with pytest.raises(ConnectionResetError), calling(proxy) as newcomer:
                newcomer.recv(1)
            assert asked(link, b"still here") == b"still here"

    def test_tells_an_end_late_and_what_came_before_in_time(self, proxy):
        """A broker holds what a dead client had in hand until it knows that the client is dead."""
        proxy.linger(1000)
        with calling(proxy) as link:
            link.sendall(b"last words")
            link.shutdown(socket.SHUT_WR)
            assert told(link, 10) == b"last words"
            link.settimeout(0.1)
            with pytest.raises(TimeoutError):  # the far end has not gone: it does not know
                link.recv(1)
            proxy.heal()
            link.settimeout(10)

            assert link.recv(1) == b""

    def test_heals_all_harm(self, proxy):
        """What waits comes at once, and whoever comes now is served."""
        with calling(proxy) as link:
            asked(link, b"before")
            for harm, size in ((proxy.delay, 1000), (proxy.throttle, 1), (proxy.drop_after, 3)):
                harm(size)
            proxy.accept_no_connections()
            link.sendall(b"waiting")
            proxy.heal()

            with calling(proxy) as newcomer:
                assert (told(link, 7), asked(newcomer, b"welcome")) == (b"waiting", b"welcome")

    def test_is_done_from_any_thread(self, proxy):
        """A fault comes when it comes; the test that sends it does not stand in the proxy's thread."""
        harms = [proxy.cut, proxy.half_open, proxy.heal, proxy.accept_no_connections, lambda: proxy.delay(0.001)] * 20
        with calling(proxy), ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda harm: harm(), harms))
        proxy.heal()

        with calling(proxy) as link:
            assert asked(link, b"well again") == b"well again"

    @pytest.mark.parametrize(("harm", "size"), [("delay", -1), ("throttle", 0), ("linger", -1), ("drop_after", 0)])
    def test_refuses_a_size_without_meaning(self, proxy, harm, size):
        """A harm that does nothing makes every test behind it green for nothing."""
        with pytest.raises(ValueError, match=r": give 0 or more|: half_open\(\) does that|: cut\(\) does that"):
            getattr(proxy, harm)(size)
