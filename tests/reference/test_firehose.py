"""The firehose: a copy of each message that is published or delivered, for whoever looks for a fault.

Spec: https://www.rabbitmq.com/docs/firehose
Reference: TRACE-01, TRACE-02
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def trace(broker, vhost):
    """Turns the firehose of this test's vhost on or off: `trace(True)`."""
    return lambda on: broker.management.put(f"vhosts/{vhost}", {"tracing": on})


@pytest.fixture(autouse=True)
def topology(channel):
    """The queue `work` behind the exchange `shop`, and the queue `traces` for all traces."""
    channel.exchange_declare("shop", "direct", durable=True)
    channel.queue_declare("work", durable=True)
    channel.queue_bind("work", "shop", "order")
    channel.queue_declare("traces", durable=True)
    channel.queue_bind("traces", "amq.rabbitmq.trace", "#")


class TestFirehose:
    """RabbitMQ: the exchange `amq.rabbitmq.trace` of a vhost whose tracing is on."""

    @behaviour("TRACE-01", "TRACE-04")
    @lie("delivered-headers-lost")
    def test_publishes_each_message_under_publish_and_its_exchange_and_under_deliver_and_its_queue(
        self, channel, trace, receive, eventually, message_count
    ):
        """Who gets what, and from whom, is seen without a change in any program."""
        trace(True)
        channel.basic_publish("shop", "order", b"one", BasicProperties(message_id="7"))
        channel.basic_get("work", auto_ack=True)
        eventually(lambda: message_count("traces"), 2)
        trace(False)  # or the traces would be traced as they are received

        published, delivered = receive("traces", 2)

        assert published.routing_key == "publish.shop"
        assert published.body == b"one"
        assert published.headers.get("exchange_name") == "shop"
        assert published.headers.get("routing_keys") == ["order"]
        assert published.headers.get("routed_queues") == ["work"]
        assert published.headers["properties"]["message_id"] == "7"
        assert delivered.routing_key == "deliver.work"
        assert delivered.body == b"one"
        assert delivered.headers.get("redelivered") == 0

    @behaviour("TRACE-02")
    @lie("published-twice")
    def test_ends_when_it_is_turned_off_however_often_it_was_turned_on(self, channel, trace, receive):
        """It costs a copy of everything: turn it off when the fault is found."""
        trace(True)
        trace(True)
        trace(False)

        channel.basic_publish("shop", "order", b"one")
        channel.basic_publish("", "traces", b"a sentinel")
        channel.basic_publish("", "traces", b"another")

        assert [delivery.body for delivery in receive("traces", 2)] == [b"a sentinel", b"another"]
