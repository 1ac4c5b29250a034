"""Refused frames: methods that a release no longer knows, and bodies that are larger than announced.

What a client library never sends is refused with the end of the connection; what a release refuses differs.

Spec: https://www.rabbitmq.com/docs/specification, https://www.rabbitmq.com/amqp-0-9-1-reference
Reference: FRAMES-11, FRAMES-12, FRAMES-24, FRAMES-25
"""

import struct
from contextlib import ExitStack

import pytest
from pika import BasicProperties, frame, spec

from tests.pika_internals import bytes_read

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

CREDIT, CREDIT_OK = (60, 200), (60, 201)  # class and method; pika has none of them
HALF_A_GIBIBYTE = 512 * 1024 * 1024


class Marshalled:
    """A frame that is written as it is."""

    def __init__(self, kind, channel, payload):
        self._bytes = struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"

    def marshal(self):
        return self._bytes


def credit(channel, tag):
    """`basic.credit`: five messages more for this consumer."""
    fields = bytes([len(tag)]) + tag.encode() + struct.pack(">IB", 5, 0)
    return Marshalled(1, channel.channel_number, struct.pack(">HH", *CREDIT) + fields)


def announced(channel, size):
    """`basic.publish` to the queue `work`, and a content header that announces so many bytes."""
    number = channel.channel_number
    publish = frame.Method(number, spec.Basic.Publish(exchange="", routing_key="work"))
    return publish, frame.Header(number, size, BasicProperties())


@pytest.fixture
def work(channel):
    """A queue with one message."""
    channel.queue_declare("work", durable=True)
    channel.basic_publish("", "work", b"letter")
    return "work"


class TestCredit:
    """RabbitMQ: `basic.credit`, by which clients said how many messages they want."""

    @behaviour("FRAMES-24")
    @rabbitmq(before="4.0")
    @lie(None, because="the answer is a method that pika does not know, and lies are told about methods of pika")
    def test_is_answered_with_credit_ok_before_4_0(self, connect, work, send_frames, bytes_from_broker, eventually):
        """It was made for the plugin of AMQP 1.0; a client that uses it breaks with the upgrade to 4.0."""
        connection = connect()
        consuming = connection.channel()
        consuming.basic_consume(work, print, consumer_tag="c")
        received = bytes_from_broker(connection)

        send_frames(consuming, credit(consuming, "c"))

        eventually(lambda: struct.pack(">HH", *CREDIT_OK) in received(), True)

    @behaviour("FRAMES-24", "CHAN-04")
    @rabbitmq(since="4.0")
    @lie("connection-code-changed")
    def test_closes_the_connection_with_503_since_4_0(self, connect, work, send_frames, closed_connection, drain):
        """Use the prefetch of a consumer: it is the flow control that AMQP 0-9-1 has."""
        connection = connect()
        sibling = connection.channel()

        said = closed_connection(connection, lambda channel: send_frames(channel, credit(channel, "c")))

        assert said.reply_code == 503
        assert said.reply_text == "COMMAND_INVALID - unimplemented method"
        assert sibling.is_closed
        assert drain(work) == [b"letter"]


class TestClientCancelOk:
    """RabbitMQ: `basic.cancel-ok` from a client, as some send it in answer to a consumer cancel notification."""

    @behaviour("FRAMES-25", "CHAN-04")
    @rabbitmq(before="4.3")
    @lie("connection-code-changed")
    def test_closes_the_connection_with_503_before_4_3(self, connect, work, send_method, closed_connection, drain):
        """Politeness costs the connection: the notification is not to be answered."""
        connection = connect()
        sibling = connection.channel()

        def answer(consuming):
            consuming.basic_consume(work, print, consumer_tag="c")
            send_method(consuming, spec.Basic.CancelOk("c"))
            consuming.queue_declare(work, passive=True)

        said = closed_connection(connection, answer)

        assert said.reply_code == 503
        assert said.reply_text == "COMMAND_INVALID - unimplemented method"
        assert sibling.is_closed

    @behaviour("FRAMES-25")
    @rabbitmq(since="4.3")
    @lie("consumer-count-wrong")
    def test_cancels_the_consumer_since_4_3(self, connection, work, send_method):
        """It ends the consumer that was to be cancelled, and the messages that it holds go back to the queue."""
        consuming = connection.channel()
        consuming.basic_consume(work, print, consumer_tag="c")
        assert consuming.queue_declare(work, passive=True).method.consumer_count == 1

        send_method(consuming, spec.Basic.CancelOk("c"))

        assert consuming.queue_declare(work, passive=True).method.consumer_count == 0


class TestBodyBeyondItsSize:
    """RabbitMQ: a body frame that is larger than the content header announced."""

    @behaviour("FRAMES-11", "CHAN-04")
    @lie("connection-code-changed")
    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            pytest.param(505, "expected content body", id="before_4_2", marks=rabbitmq(before="4.2")),
            pytest.param(501, "exceeds remaining content size", id="since_4_3", marks=rabbitmq(since="4.3")),
        ],
    )
    def test_closes_the_connection_with_505_and_since_4_3_with_501(
        self, connect, work, send_frames, closed_connection, drain, code, reason
    ):
        """Before 4.3 the broker noticed it only at the next frame, and blamed that one."""
        connection = connect()
        sibling = connection.channel()

        def publish(careless):
            header = announced(careless, 3)
            send_frames(careless, *header, frame.Body(careless.channel_number, b"12345"))
            send_frames(careless, frame.Method(careless.channel_number, spec.Confirm.Select()))

        said = closed_connection(connection, publish)

        assert said.reply_code == code
        assert reason in said.reply_text
        assert sibling.is_closed
        assert drain(work) == [b"letter"]


class TestHugeBody:
    """RabbitMQ: a content header that announces more than 512 MiB."""

    @behaviour("FRAMES-12")
    @rabbitmq(before="4.2")
    @lie("look-at-empty")
    def test_is_not_refused_at_its_header_before_4_2(self, connect, work, send_frames, cut):
        """The refusal comes only after all of it was sent, although no release accepts it."""
        connection = connect()
        large = connection.channel()
        sibling = connection.channel()

        send_frames(large, *announced(large, HALF_A_GIBIBYTE + 1))

        _, _, body = sibling.basic_get(work, auto_ack=True)
        assert body == b"letter"
        assert large.is_open
        cut(connection)

    @behaviour("FRAMES-12", "CHAN-04")
    @rabbitmq(since="4.3")
    @lie("connection-code-changed")
    def test_closes_the_connection_with_501_at_its_header_since_4_3(
        self, connect, work, send_frames, closed_connection, drain
    ):
        """The broker reserves no memory for what it refuses anyway."""
        connection = connect()
        sibling = connection.channel()

        def publish(large):
            select = frame.Method(large.channel_number, spec.Confirm.Select())
            send_frames(large, *announced(large, HALF_A_GIBIBYTE + 1), select)

        said = closed_connection(connection, publish)

        assert said.reply_code == 501
        assert "content body size 536870913 exceeds maximum allowed size 536870912" in said.reply_text
        assert sibling.is_closed
        assert drain(work) == [b"letter"]


@pytest.fixture
def bytes_from_broker(cut):
    """What a broker sends from now on, which pika does not see: `bytes_from_broker(connection)()`."""
    with ExitStack() as at_the_end:

        def listen(connection):
            at_the_end.callback(cut, connection)
            received = at_the_end.enter_context(bytes_read(connection))

            def so_far():
                connection.process_data_events(time_limit=0)
                return b"".join(received)

            return so_far

        yield listen
