"""Protocol versions: what a broker answers to the first eight bytes, and the smallest frame that it agrees to.

A client begins with a protocol header. If the broker does not speak that version, it answers with the header of one
that it speaks, and closes the socket.

Spec: https://www.rabbitmq.com/docs/specification, https://www.rabbitmq.com/docs/connections
Reference: PROTO-02, PROTO-09, PROTO-17…19, PROTO-32
"""

import socket

import pika
import pytest
from pika import exceptions, frame

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

AMQP_0_8 = b"AMQP\x01\x01\x08\x00"
AMQP_0_9 = b"AMQP\x01\x01\x00\x09"
AMQP_0_9_1 = b"AMQP\x00\x00\x09\x01"
AMQP_1_0 = b"AMQP\x00\x01\x00\x00"
AMQP_1_0_SASL = b"AMQP\x03\x01\x00\x00"


def read_or_end(link):
    """What has come; nothing if the broker has closed the socket, in good order or not."""
    try:
        return link.recv(65536)
    except ConnectionResetError:
        return b""


class Greeting:
    """What a broker sends after a client's first eight bytes.

    Attributes:
        first: Its first eight bytes.
        closed: Whether it closed the socket after those.
        method: The method that it sent instead of a header, such as `connection.start`; None if it sent none.
    """

    def __init__(self, url, header, patience):
        parameters = pika.URLParameters(url)
        with socket.create_connection((parameters.host, parameters.port), patience) as link:
            link.sendall(header)
            received = b""
            self.closed = False
            self.method = None
            while self.method is None and not self.closed:
                chunk = read_or_end(link)
                received += chunk
                self.closed = not chunk
                if received[:4] != b"AMQP":
                    _, whole = frame.decode_frame(received)
                    self.method = getattr(whole, "method", None)
                elif received[8:]:
                    break
        self.first = received[:8]


@pytest.fixture
def greet(url, wait_limit):
    """Sends a protocol header, and reads what comes: `greet(b"AMQP…")` is a `Greeting`."""
    return lambda header: Greeting(url, header, wait_limit)


class TestUnknownProtocolHeader:
    """RabbitMQ: a protocol header of a version that the broker does not speak, or of no version of AMQP."""

    @behaviour("PROTO-02", "PROTO-17")
    @rabbitmq(before="4.0")
    @lie(None, because="a protocol header is no method, and lies are told about methods")
    @pytest.mark.parametrize("header", [b"AMQP\x07\x07\x07\x07", b"GET / HT", AMQP_1_0], ids=["7", "http", "1.0"])
    def test_is_answered_with_amqp_0_9_1_before_4_0(self, greet, header):
        """A client that negotiates tries again with the version that the broker names."""
        said = greet(header)

        assert said.first == AMQP_0_9_1
        assert said.closed is True

    @behaviour("PROTO-02", "PROTO-17")
    @rabbitmq(since="4.0")
    @lie(None, because="a protocol header is no method, and lies are told about methods")
    @pytest.mark.parametrize(
        "header", [b"AMQP\x07\x07\x07\x07", b"GET / HT", AMQP_1_0, AMQP_0_8], ids=["7", "http", "1.0", "0.8"]
    )
    def test_is_answered_with_amqp_1_0_since_4_0(self, greet, header):
        """A client of 0-9-1 that negotiates by the answer gives up: the broker names a version that it cannot speak."""
        said = greet(header)

        assert said.first == AMQP_1_0_SASL
        assert said.closed is True


class TestOldProtocolHeader:
    """RabbitMQ: the protocol headers of AMQP 0-8 and 0-9."""

    @behaviour("PROTO-18", "PROTO-19")
    @lie("protocol-version-changed")
    @pytest.mark.parametrize(
        ("header", "version"),
        [
            pytest.param(AMQP_0_8, (8, 0), id="0.8", marks=rabbitmq(before="4.0")),
            pytest.param(AMQP_0_9, (0, 9), id="0.9"),
        ],
    )
    def test_is_served_for_0_9_and_before_4_0_for_0_8(self, greet, header, version):
        """Clients that were written before 2010 still connect, those of 0-8 only until the upgrade to 4.0."""
        said = greet(header)

        assert said.method.NAME == "Connection.Start"
        assert (said.method.version_major, said.method.version_minor) == version


class TestAmqp10Header:
    """RabbitMQ: the protocol header of AMQP 1.0 with SASL, at the port for AMQP 0-9-1."""

    @behaviour("PROTO-32")
    @rabbitmq(before="4.0")
    @lie(None, because="a protocol header is no method, and lies are told about methods")
    def test_is_refused_before_4_0_without_its_plugin(self, greet):
        """A client of AMQP 1.0 needs the plugin rabbitmq_amqp1_0 until the upgrade to 4.0."""
        said = greet(AMQP_1_0_SASL)

        assert said.first == AMQP_0_9_1
        assert said.closed is True

    @behaviour("PROTO-32")
    @rabbitmq(since="4.0")
    @lie(None, because="a protocol header is no method, and lies are told about methods")
    def test_is_served_since_4_0(self, greet):
        """Clients of both versions share a port and the queues behind it."""
        said = greet(AMQP_1_0_SASL)

        assert said.first == AMQP_1_0_SASL
        assert said.closed is False


class TestFrameMax:
    """RabbitMQ: a `frame_max` of 4096 bytes, as amqplib for Node.js asked for before its release 0.10.7."""

    @behaviour("PROTO-09")
    @rabbitmq(before="4.1")
    @lie("message-lost")
    def test_of_4096_bytes_is_accepted_before_4_1_and_does_not_limit_the_message_size(self, url):
        """A message that is larger than a frame comes in several; no client has to care."""
        with pika.BlockingConnection(small_frames(url)) as connection:
            channel = connection.channel()
            channel.queue_declare("work", durable=True)
            channel.basic_publish("", "work", b"x" * 10_000)
            _, _, body = channel.basic_get("work", auto_ack=True)

        assert body == b"x" * 10_000

    @behaviour("PROTO-09")
    @rabbitmq(since="4.1")
    @lie("frame-max-raised")
    def test_of_4096_bytes_is_refused_since_4_1(self, url, connection):
        """The socket closes without `connection.close`, so that the client seems to have lost its network."""
        with pytest.raises(exceptions.ProbableAccessDeniedError):
            pika.BlockingConnection(small_frames(url)).close()

        assert connection.channel().is_open


def small_frames(url):
    """The parameters of a connection that asks for frames of 4096 bytes."""
    parameters = pika.URLParameters(url)
    parameters.frame_max = 4096
    return parameters
