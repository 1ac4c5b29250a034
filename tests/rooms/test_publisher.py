"""The publisher's edges: what cannot be sent is told at once, to whoever sent it, and harms nobody else."""

import errno
import socket
import threading

import pytest
from pika import BasicProperties

from rmqspec.client import Publisher, Settings, connect, open_connections
from rmqspec.client.errors import ClientError, Unencodable, Unreachable
from rmqspec.client.link import Link
from rmqspec.tools.wire import Proxy


class TestPublish:
    """Handing a message over."""

    @pytest.mark.parametrize(
        ("key", "properties", "body", "words"),
        [
            ("k" * 256, {}, b"", "of more than 255 bytes"),
            ("key", {"message_id": 7}, b"", "non-string value was supplied for self.message_id"),
            ("key", {"priority": 256}, b"", "one of its properties"),
            ("key", {"headers": {"at": object()}}, b"", "a header of type object"),
            ("key", {"headers": {"note": "n" * 200_000}}, b"", "its headers need more than one frame"),
            ("key", {}, "text", "the body is of type str, not bytes"),
        ],
        ids=["long_key", "number_as_text", "large_priority", "foreign_header", "long_headers", "text_body"],
    )
    def test_tells_its_caller_what_amqp_cannot_carry(self, url, bound_queue, drain, key, properties, body, words):
        """Encoded in the I/O thread instead, one such message would end the connection under all the others."""
        queue = bound_queue("amq.direct", "order")

        with Publisher(url) as publisher:
            with pytest.raises(Unencodable, match=words) as error:
                publisher.publish("amq.direct", key, body, BasicProperties(**properties))
            publisher.publish("amq.direct", "order", b"the next").result(10)

        assert error.value.message.routing_key == key
        assert drain(queue) == [b"the next"]

    def test_cannot_be_called_back(self, url, bound_queue, drain):
        """A future that pretended to be cancelled would hide that the broker has the message."""
        queue = bound_queue("amq.direct", "order")

        with Publisher(url) as publisher:
            future = publisher.publish("amq.direct", "order", b"on its way")
            cancelled = future.cancel()

        assert (cancelled, future.result(0).message.body) == (False, b"on its way")
        assert drain(queue) == [b"on its way"]

    @pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 300_000], ids=["none", "one", "full", "more", "three"])
    def test_frames_a_body_of_any_size(self, url, bound_queue, drain, size):
        """The negotiated frame holds 131,064 bytes of body; one more byte begins a second frame."""
        queue, body = bound_queue("amq.direct", "order"), bytes(range(256)) * (size // 256) + b"x" * (size % 256)

        with Publisher(url) as publisher:
            publisher.publish("amq.direct", "order", body).result(10)

        assert drain(queue) == [body]


class TestLink:
    """The thread under publisher, consumer and calls."""

    def test_tells_its_tenant_of_a_defect(self, url):
        """An exception that nobody expected ends the thread; whoever waited for it would wait for ever."""

        class Tenant:
            def on_channel(self, _channel, _loop):
                raise ZeroDivisionError("a defect")

            def on_lost(self, reason, *, final):
                self.told = (str(reason), final)

            def on_work(self):
                pass

        tenant = Tenant()

        with pytest.raises(ClientError, match="ended by a defect"):
            Link(Settings.of(url), "defective", tenant).open()

        assert tenant.told == (
            "the connection's thread ended by a defect (ZeroDivisionError('a defect')): please report it",
            True,
        )

    def test_takes_a_peer_that_is_gone_again_for_unreachable(self, url, monkeypatch):
        """A broker that restarts hangs up at any moment, also before the socket is looked at; that is no defect."""

        def hung_up(_):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        monkeypatch.setattr(socket.socket, "getpeername", hung_up)

        for open_it in (Publisher, lambda url: connect(url, "late")):
            with pytest.raises(Unreachable, match="no broker answers"):
                open_it(url)

    def test_pauses_no_longer_than_it_may(self, broker, url, monkeypatch, patience):
        """A pause that doubles with each attempt is an hour after the seventeenth; here the hundredth comes at once."""
        attempts, hundredth = [], threading.Event()

        def refuse(*_):
            attempts.append(None)
            if len(attempts) == 100:
                hundredth.set()
            raise Unreachable("nobody listens")

        with (
            Proxy(broker.endpoint.host, broker.endpoint.port) as proxy,
            Publisher(Settings(urls=(proxy.url(url),), max_backoff=0.001)),
        ):
            monkeypatch.setattr("rmqspec.client.link.open_loop", refuse)
            proxy.cut()

            assert hundredth.wait(patience)

    def test_closes_at_any_moment_of_a_reconnection(self, broker, url):
        """In a pause, while it connects, when it has just connected: it hangs up, and nobody waits for the next try."""
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            for milliseconds in range(0, 100, 4):
                publisher = Publisher(proxy.url(url))
                proxy.cut()
                threading.Event().wait(milliseconds / 1000)  # the moment is what is tested
                publisher.close(timeout=5.0)

                assert publisher._link._thread.is_alive() is False, milliseconds
        assert open_connections() == []
