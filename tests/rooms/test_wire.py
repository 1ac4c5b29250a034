"""The wire proxy: what it is not asked to harm arrives byte for byte.

Code: rmqspec/tools/wire/proxy.py, rmqspec/tools/wire/pair.py, rmqspec/tools/wire/pump.py
"""

import hashlib
import socket
import socketserver
import ssl
import threading
from contextlib import closing
from select import select

import psutil
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from rmqspec.client import connect as open_connection
from rmqspec.client.errors import Unreachable
from rmqspec.tools.broker.ports import ReservedPort
from rmqspec.tools.wire import Proxy

from .echo import Echo, asked, calling, serving, told


@pytest.fixture(scope="module")
def echo():
    with serving(Echo) as port:
        yield port


@pytest.fixture(scope="module")
def healthy(echo):
    """One proxy for all tests that do no harm."""
    with Proxy("127.0.0.1", echo) as proxy:
        yield proxy


@pytest.fixture
def on_the_way(broker):
    """A proxy before the broker of this run."""
    with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
        yield proxy


class TestProxy:
    """As long as nothing is wrong."""

    @given(st.lists(st.binary(min_size=1, max_size=5000), max_size=20))
    @settings(deadline=None, max_examples=50)
    def test_passes_bytes_whatever_their_pieces(self, healthy, pieces):
        """AMQP frames begin anywhere in what one read brings: a proxy that counts on them loses the odd one."""
        with calling(healthy) as link:
            for piece in pieces:
                link.sendall(piece)
            link.shutdown(socket.SHUT_WR)

            assert told(link, 1_000_000) == b"".join(pieces)

    def test_tells_the_end_after_the_last_byte(self, healthy, eventually):
        """Who says goodbye still listens: a proxy that hangs up at once swallows the broker's close-ok."""
        data = b"0123456789" * 300_000

        with calling(healthy) as link:
            sender = threading.Thread(target=lambda: (link.sendall(data), link.shutdown(socket.SHUT_WR)))
            sender.start()
            received = told(link, len(data) + 1)
            sender.join()

        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        eventually(lambda: healthy.connections, 0)

    def test_holds_up_a_sender_that_nobody_reads(self):
        """The broker stops a publisher by not reading: a proxy that reads on would fill its memory and hide that."""
        go, chunk, sent, got = threading.Event(), bytes(1 << 20), 0, []

        class Slow(socketserver.BaseRequestHandler):
            def handle(self):
                go.wait(10)
                got.append(len(told(self.request, 1 << 30)))

        with serving(Slow) as port, Proxy("127.0.0.1", port) as proxy, calling(proxy) as link:
            link.setblocking(False)
            while sent < 1 << 28 and select([], [link], [], 0.2)[1]:
                sent += link.send(chunk)
            go.set()
            link.settimeout(10)
            link.shutdown(socket.SHUT_WR)
            assert link.recv(1) == b""

        assert (got, sent < 1 << 28) == ([sent], True)

    def test_carries_a_conversation_with_a_broker(self, on_the_way, url):
        """Bodies of many frames, on channels that take turns within one stream of bytes."""
        bodies = [bytes([number]) * 500_000 for number in range(1, 4)]

        with closing(open_connection(on_the_way.url(url), "by proxy")) as connection:
            channels = [connection.channel() for _ in bodies]
            channels[0].queue_declare("q", durable=True)
            for channel, body in zip(channels, bodies, strict=True):
                channel.confirm_delivery()
                channel.basic_publish("", "q", body)
            received = [channel.basic_get("q", auto_ack=True)[2] for channel in channels]

        assert received == bodies

    def test_leaves_tls_to_the_ends(self):
        """The certificate is the server's own, and what is said stays between the two."""
        authority = trustme.CA()
        at_server, at_client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("localhost").configure_cert(at_server)
        authority.configure_trust(at_client)

        with (
            serving(Echo, at_server) as port,
            Proxy("127.0.0.1", port) as proxy,
            calling(proxy) as plain,
            at_client.wrap_socket(plain, server_hostname="localhost") as link,
        ):
            assert asked(link, b"secret" * 50_000) == b"secret" * 50_000

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("amqp://guy:y%40g@far:5672/a%2Fb?heartbeat=1", "amqp://guy:y%40g@127.0.0.1:{}/a%2Fb?heartbeat=1"),
            ("amqps://guy:yug@[::1]:5671/%2F", "amqps://guy:yug@127.0.0.1:{}/%2F"),
            ("amqp://far", "amqp://127.0.0.1:{}"),
        ],
        ids=["all_parts", "tls", "host_alone"],
    )
    def test_puts_itself_into_a_url(self, healthy, url, expected):
        """Code under test is given a URL and knows of no proxy."""
        assert healthy.url(url) == expected.format(healthy.port)

    def test_hangs_up_while_the_broker_is_down(self, eventually):
        """A client that gets no answer at all would wait for its timeout instead of trying again."""
        port = ReservedPort()
        with Proxy("127.0.0.1", port.number) as proxy:
            with pytest.raises(Unreachable):
                open_connection(f"amqp://guest:guest@127.0.0.1:{proxy.port}/", "too early")

            eventually(lambda: proxy.connections, 0)
        port.release()

    def test_leaves_nothing_behind(self, echo):
        """A suite makes hundreds of them."""
        with Proxy("127.0.0.1", echo) as proxy, calling(proxy) as link:
            asked(link, b"hello")
            proxy.close()
            with pytest.raises(ConnectionResetError):
                link.recv(1)

        names = [thread.name for thread in threading.enumerate()]
        ports = [end.laddr.port for end in psutil.Process().net_connections("tcp") if end.status != "TIME_WAIT"]
        assert (f"proxy {proxy.port}" in names, proxy.port in ports, proxy.connections) == (False, False, 0)
        with pytest.raises(RuntimeError, match="the proxy has been closed"):
            proxy.cut()

    def test_says_that_its_port_is_taken(self, healthy):
        """A number alone (98) sends people to a search engine."""
        with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1:{healthy.port} \(.+\): choose another port"):
            Proxy("127.0.0.1", 5672, listen_port=healthy.port)
