"""Field tables: in which order headers arrive, and values that a broker cannot read.

Spec: https://www.rabbitmq.com/amqp-0-9-1-errata#section_3
Reference: TABLE-04, TABLE-05, TABLE-07
"""

import struct

import pytest
from pika import BasicProperties, frame, spec

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

SINCE_4_0 = [pytest.param(queue_type, marks=rabbitmq(since="4.0")) for queue_type in ("classic", "quorum")]
HEADERS = {"zone": "north", "amount": 3, "month": "May"}
PUBLISH = frame.Method(1, spec.Basic.Publish(exchange="", routing_key="work"))
ONLY_HEADERS = 1 << 13  # of the property flags

# The type and the value of a header, as they are on the wire.
UNREADABLE = {
    "double_that_is_no_number": b"d" + struct.pack(">d", float("nan")),
    "double_that_is_infinite": b"d" + struct.pack(">d", float("inf")),
    "float_that_is_no_number": b"f" + struct.pack(">f", float("nan")),
    "unknown_type": b"q" + bytes(4),
}


def content_header(field):
    """The content header of an empty message with the header `price`: its type and value are these bytes."""
    table = b"\x05price" + field
    payload = struct.pack(">HHQHL", spec.Basic.INDEX, 0, 0, ONLY_HEADERS, len(table)) + table
    return struct.pack(">BHL", spec.FRAME_HEADER, 1, len(payload)) + payload + bytes([spec.FRAME_END])


class TestHeaders:
    """RabbitMQ: the headers of one message, from its publisher to its consumer."""

    @pytest.fixture
    def arrived(self, connection, channel, subscribe_without_ack):
        """Publishes HEADERS in their order, and lists their names as they arrive: `arrived("stream")`."""

        def send(queue_type):
            channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type})
            consumer = connection.channel()
            consumer.basic_qos(prefetch_count=1)
            subscription = subscribe_without_ack(consumer, "work")
            channel.basic_publish("", "work", b"order", BasicProperties(headers=HEADERS))
            subscription.wait_for(1)
            return [name for name in subscription.headers[0] if not name.startswith("x-")]

        return send

    @behaviour("TABLE-07")
    @rabbitmq(before="3.13")
    @lie("headers-reversed")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_keep_the_order_of_their_publisher_in_a_classic_or_quorum_queue_before_3_13(self, arrived, queue_type):
        """A signature over the headers as they stand can be checked, as long as nothing is added on the way."""
        assert arrived(queue_type) == ["zone", "amount", "month"]

    @behaviour("TABLE-07")
    @lie("headers-reversed")
    @pytest.mark.parametrize("queue_type", [*SINCE_4_0, "stream"])
    def test_are_sorted_by_name_in_a_stream_and_since_4_0_in_every_queue(self, arrived, queue_type):
        """A table is no list: who needs an order puts it into the body, or into one header that is an array."""
        assert arrived(queue_type) == ["amount", "month", "zone"]


class TestUnreadableHeader:
    """RabbitMQ: a published message with a header whose type or value the broker has no word for."""

    @lie("error-text-lost")
    @pytest.mark.parametrize(
        "field",
        [
            pytest.param(field, id=name, marks=behaviour("TABLE-05" if name == "unknown_type" else "TABLE-04"))
            for name, field in UNREADABLE.items()
        ],
    )
    def test_closes_the_connection_with_541(self, raw_client, channel, drain, field):
        """A price of NaN, from a division of nothing by nothing, costs the program all its channels."""
        channel.queue_declare("work", durable=True)
        client = raw_client().open(1)

        client.send(PUBLISH, content_header(b"d" + struct.pack(">d", 9.5)))
        client.send(PUBLISH, content_header(field))

        close = client.hears_close()
        assert close.reply_code == 541
        assert close.reply_text == "INTERNAL_ERROR"
        assert drain("work") == [b""]
