"""Frames: what the broker does with bytes that are no frame, and with frames that come where others belong.

A client library keeps its user from all of these. Whoever writes one, or a proxy, sees them.

Spec: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, https://www.rabbitmq.com/docs/channels#error-handling
Reference: FRAMES-01, FRAMES-02, FRAMES-04…09, FRAMES-13…16, FRAMES-18…20, TUNE-06
"""

import struct

import pytest
from pika import BasicProperties, frame, spec

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

END = b"\xce"
PUBLISH = frame.Method(1, spec.Basic.Publish(exchange="", routing_key="work"))
EMPTY_HEADER = frame.Header(1, 0, BasicProperties())
PUBLISHING = spec.Basic.Publish
DECLARING = spec.Queue.Declare
NO_METHOD = None


def raw_frame(kind, payload=b"", channel=1, end=END):
    """A frame with any type and any last byte."""
    return struct.pack(">BHL", kind, channel, len(payload)) + payload + end


def queue_declare(name):
    """The arguments of a `queue.declare`, with this name as it is."""
    return raw_frame(1, struct.pack(">HHH", 50, 10, 0) + name + b"\x00" + struct.pack(">L", 0))


def content_header(class_id, weight, size=0):
    """A content header; pika writes those of the class basic, with a weight of 0."""
    return raw_frame(2, struct.pack(">HHQH", class_id, weight, size, 0))


# What is sent, the method that the broker names, and what its text says.
UNEXPECTED = {
    "body_without_header": ([PUBLISH, frame.Body(1, b"body")], PUBLISHING, "expected content header for class 60"),
    "header_without_method": ([EMPTY_HEADER], NO_METHOD, "expected method frame"),
    "body_without_method": ([frame.Body(1, b"body")], NO_METHOD, "expected method frame"),
    "body_after_an_empty_message": (
        [PUBLISH, EMPTY_HEADER, frame.Body(1, b"body")],
        NO_METHOD,
        "expected method frame",
    ),
    "method_instead_of_header": (
        [PUBLISH, frame.Method(1, spec.Basic.Qos())],
        PUBLISHING,
        "expected content header for class 60",
    ),
    "header_of_another_class": ([PUBLISH, content_header(50, 0)], PUBLISHING, "got one for class 50"),
    "header_with_a_weight": ([PUBLISH, content_header(60, 1)], PUBLISHING, "expected content header for class 60"),
    "heartbeat_on_a_channel": ([raw_frame(8)], NO_METHOD, "type 8"),
}

MALFORMED = {
    "unknown_type": (raw_frame(9), NO_METHOD, "type 9, all octets = <<>>: unknown_frame"),
    "heartbeat_with_payload": (raw_frame(8, b"x", channel=0), NO_METHOD, "unknown_frame"),
    "no_end_byte": (raw_frame(1, b"\x00\x14\x00\x0a", end=b"\x00"), NO_METHOD, "invalid_frame_end_marker"),
    "larger_than_frame_max": (raw_frame(3, b"x" * 131_073), NO_METHOD, "frame_too_large"),
    "string_beyond_its_frame": (raw_frame(1, b"\x00\x32\x00\x0a\x00\x00\xffabc"), DECLARING, "cannot decode"),
    "method_without_its_arguments": (raw_frame(1, b"\x00\x32\x00\x0a"), DECLARING, "cannot decode"),
    "name_that_is_no_utf_8": (queue_declare(b"\x03\xff\xfe\xfd"), NO_METHOD, "Malformed UTF-8 in shortstr"),
}


class TestUnexpectedFrame:
    """RabbitMQ: a frame that is whole, where another one belongs."""

    @behaviour("FRAMES-01", "FRAMES-02", "FRAMES-04", "FRAMES-05", "FRAMES-13", "FRAMES-15", "CHAN-04")
    @lie("connection-code-changed")
    @pytest.mark.parametrize(("sent", "method", "text"), UNEXPECTED.values(), ids=UNEXPECTED)
    def test_closes_the_connection_with_505(self, raw_client, method_at_fault, sent, method, text):
        """The broker cannot tell which message the frame belongs to, so nothing after it can be trusted."""
        client = raw_client().open(1)

        client.send(*sent)

        close = client.hears_close()
        assert close.reply_code == 505
        assert "UNEXPECTED_FRAME" in close.reply_text
        assert text in close.reply_text
        assert method_at_fault(close) is method
        client.hears_the_end()


class TestMalformedFrame:
    """RabbitMQ: bytes that are no frame, or no method."""

    @behaviour("FRAMES-06", "FRAMES-07", "FRAMES-08", "FRAMES-18", "FRAMES-19", "FRAMES-20", "TUNE-06", "CHAN-04")
    @lie("connection-code-changed")
    @pytest.mark.parametrize(("sent", "method", "text"), MALFORMED.values(), ids=MALFORMED)
    def test_closes_the_connection_with_501(self, raw_client, method_at_fault, sent, method, text):
        """Where one frame ends is where the next begins: after a broken one the rest of the stream means nothing."""
        client = raw_client().open(1)

        client.send(sent)

        close = client.hears("connection.close")
        assert close.reply_code == 501
        assert "FRAME_ERROR" in close.reply_text
        assert text in close.reply_text
        assert method_at_fault(close) is method

    @behaviour("FRAMES-16")
    @lie(None, because="the broker says nothing that could be another, and the proxy cannot read what the client says")
    @pytest.mark.parametrize(
        "method", [b"\x00\x63\x00\x0a", b"\x00\x32\x00\x63"], ids=["class_99", "method_99_of_queue"]
    )
    def test_of_an_unknown_method_ends_the_connection_without_connection_close(self, raw_client, method):
        """A client that uses an extension of another broker sees its socket close, and no reason."""
        client = raw_client().open(1)

        client.send(raw_frame(1, method))

        client.hears_the_end()


class TestContentFrame:
    """RabbitMQ: the frames of one message."""

    @behaviour("FRAMES-14", "FRAMES-13")
    @lie("body-falsified")
    def test_may_be_empty_between_others(self, raw_client, channel, receive):
        """A client may split a body as it likes: only the sum of the parts counts."""
        channel.queue_declare("work", durable=True)
        client = raw_client().open(1)

        parts = [frame.Body(1, part) for part in (b"one ", b"", b"body")]
        client.send(PUBLISH, frame.Header(1, 8, BasicProperties()), *parts, PUBLISH, EMPTY_HEADER)

        assert [delivery.body for delivery in receive("work", 2)] == [b"one body", b""]


class TestClosingChannel:
    """RabbitMQ: a channel that the broker has closed, before the client has answered `channel.close-ok`."""

    @behaviour("FRAMES-09", "CHAN-03", "CHAN-16")
    @lie("mistake-costs-connection")
    def test_ignores_methods_and_messages_that_the_client_still_sends_on_it(self, raw_client, channel, lookup, drain):
        """What was on its way when the channel failed has no effect: it must be sent again on another channel."""
        channel.queue_declare("work", durable=True)
        client = raw_client().open(1)

        client.send(
            frame.Method(1, spec.Queue.Declare(queue="missing", passive=True)),
            frame.Method(1, spec.Queue.Declare(queue="too late", durable=True)),
            PUBLISH,
            EMPTY_HEADER,
        )

        assert client.hears("channel.close").reply_code == 404
        client.send(frame.Method(2, spec.Channel.Open()))
        client.hears("channel.open-ok")
        assert lookup("queue", "too late") == "missing"
        channel.basic_publish("", "work", b"on another channel")
        assert drain("work") == [b"on another channel"]
