"""Publishing: the flags `mandatory` and `immediate`, and how large a message may be.

The chapter on unroutable messages shows what `mandatory` is for. Here is what it does to a message that is routed, and
what became of `immediate`, the other flag of `basic.publish`.

Spec: https://www.rabbitmq.com/docs/publishers#unroutable, https://www.rabbitmq.com/docs/specification#methods
Reference: PUB-01, PUB-03, PUB-07, PUB-05, PUB-10, PUB-11, PUB-13, TUNE-05, TUNE-08
"""

import pika
import pytest
from pika import BasicProperties, spec

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

LARGE = b"x" * (16 * 1024 * 1024 + 1)


@pytest.fixture(autouse=True)
def orders_queue(channel):
    """Bound for the routing key `order`, and for no other."""
    channel.queue_declare("orders", durable=True)
    channel.queue_bind("orders", "amq.direct", "order")


class TestMandatoryPublish:
    """RabbitMQ: a message that was published with `mandatory`."""

    @behaviour("PUB-01")
    @lie("routed-returned")
    def test_is_not_returned_if_one_queue_is_bound(self, connection, confirm_log, drain):
        """A match with one queue is enough, so the flag costs nothing as long as the topology is right."""
        log = confirm_log(connection)

        log.channel.basic_publish("amq.direct", "order", b"two mice", mandatory=True)
        log.wait_for(1)

        assert log.methods == ["Basic.Ack"]
        assert drain("orders") == [b"two mice"]


class TestImmediatePublish:
    """RabbitMQ: a message that was published with `immediate`, which once meant: only to a consumer that is ready."""

    @behaviour("PUB-03")
    @lie("connection-code-changed")
    def test_closes_the_connection_with_540(self, connect, send_method, closed_connection, channel, drain):
        """RabbitMQ dropped the flag in version 3.0: an old client that still sets it loses all of its channels."""
        connection = connect()
        sibling = connection.channel()
        publish = spec.Basic.Publish(exchange="amq.direct", routing_key="order", immediate=True)

        said = closed_connection(
            connection, lambda publisher: send_method(publisher, publish, BasicProperties(), b"lost")
        )

        assert said.reply_code == 540
        assert said.reply_text == "NOT_IMPLEMENTED - immediate=true"
        assert sibling.is_closed
        channel.basic_publish("amq.direct", "order", b"kept, on another connection")
        assert drain("orders") == [b"kept, on another connection"]


class TestLargeMessage:
    """RabbitMQ: a message that is one byte larger than 16 MiB, while `max_message_size` is left at its default."""

    @behaviour("PUB-07")
    @rabbitmq(before="4.0")
    @lie("message-lost")
    def test_is_accepted_before_4_0(self, patient_connection):
        """A publisher of such messages works for years, and fails with the upgrade to 4.0."""
        channel = patient_connection.channel()

        channel.basic_publish("amq.direct", "order", LARGE)

        _, _, body = channel.basic_get("orders", auto_ack=True)
        assert body is not None
        assert len(body) == 16_777_217

    @behaviour("PUB-07", "CHAN-03")
    @rabbitmq(since="4.0")
    @lie("code-406-changed")
    def test_closes_the_channel_with_406_since_4_0(self, refusal, patient_connection, channel, drain):
        """The whole body is sent before the refusal comes. Store large bodies elsewhere, and publish where they are."""

        def publish(careless):
            careless.confirm_delivery()
            careless.basic_publish("amq.direct", "order", LARGE)

        said = refusal(publish, on=patient_connection)

        assert said.code == 406
        assert said.closed == "channel"
        assert "message size 16777217 is larger than configured max size 16777216" in said.text
        channel.basic_publish("amq.direct", "order", b"where the large one is")
        assert drain("orders") == [b"where the large one is"]


@pytest.fixture
def patient_connection(url):
    """A connection that waits for an answer as long as it takes: sixteen megabytes are not sent at once everywhere."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        yield connection


class TestPublish:
    """RabbitMQ: `basic.publish` and the queues behind it."""

    @behaviour("PUB-05")
    @lie("delivered-headers-lost")
    def test_distinguishes_missing_headers_from_an_empty_table(self, channel, receive):
        """A program that reads a header must expect that there is no table at all."""
        channel.queue_declare("work", durable=True)
        channel.basic_publish("", "work", b"none", BasicProperties())
        channel.basic_publish("", "work", b"empty", BasicProperties(headers={}))

        none, empty = receive("work", 2)

        assert none.properties.headers is None
        assert empty.properties.headers == {}

    @behaviour("PUB-10", "CHAN-03")
    @lie("code-404-changed")
    def test_to_a_missing_exchange_fails_at_the_next_method_that_is_answered(self, channel, refusal):
        """Without confirms a publish returns before the broker has seen it: the error meets another line of code."""
        channel.queue_declare("work", durable=True)

        def publish_and_ask(careless):
            careless.basic_publish("missing", "order", b"lost")
            assert careless.is_open
            careless.queue_declare("work", passive=True)

        said = refusal(publish_and_ask)

        assert said.code == 404
        assert said.closed == "channel"
        assert "no exchange 'missing'" in said.text

    @behaviour("PUB-11")
    @lie("deliveries-swapped")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_on_one_channel_keeps_its_order_in_every_queue(self, channel, bound_queue, receive, queue_type):
        """A change that was published after another is applied after it, by whoever consumes alone."""
        queues = [bound_queue("amq.fanout", **{"x-queue-type": queue_type}) for _ in range(2)]
        bodies = [str(number).encode() for number in range(20)]

        for body in bodies:
            channel.basic_publish("amq.fanout", "", body)

        for queue in queues:
            assert [delivery.body for delivery in receive(queue, 20)] == bodies

    @behaviour("PUB-13")
    @lie("key-lost", cases="longest")
    @lie("message-lost", cases="empty")
    @pytest.mark.parametrize("key", ["", "k" * 255], ids=["empty", "longest"])
    def test_routes_by_a_key_of_0_or_255_bytes(self, channel, bound_queue, drain, key):
        """There is no room for more: who puts data into keys has to cut it."""
        queue = bound_queue("amq.direct", key)

        channel.basic_publish("amq.direct", key, b"order")

        assert drain(queue) == [b"order"]


class TestMessageInSeveralFrames:
    """RabbitMQ: a message whose body needs several frames."""

    @behaviour("TUNE-05", "TUNE-08", "FRAMES-22")
    @lie("delivered-body-falsified")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum", "stream"])
    def test_reaches_every_queue_unchanged_also_through_smaller_frames(self, url, channel, bound_queue, queue_type):
        """How a body is cut is settled on each connection anew, and is nobody's business but the two sides'."""
        queues = [bound_queue("amq.fanout", **{"x-queue-type": queue_type}) for _ in range(2)]
        body = bytes(range(256)) * 1200  # 300 KiB: three frames from here, and 38 of those below

        channel.basic_publish("amq.fanout", "", body)

        with pika.BlockingConnection(pika.URLParameters(f"{url}?frame_max=8192")) as connection:
            for queue in queues:
                consumer = connection.channel()
                consumer.basic_qos(prefetch_count=1)
                arguments = {"x-stream-offset": "first"} if queue_type == "stream" else None
                received = next(consumer.consume(queue, arguments=arguments, inactivity_timeout=10))
                assert received[2] == body
