"""Publishing: the flags `mandatory` and `immediate`, and how large a message may be.

The chapter on unroutable messages shows what `mandatory` is for. Here is what it does to a message that is routed, and
what became of `immediate`, the other flag of `basic.publish`.

Spec: https://www.rabbitmq.com/docs/publishers#unroutable, https://www.rabbitmq.com/docs/specification#methods
Reference: PUB-01, PUB-03, PUB-07
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
