"""`basic.get`: one message on request.

Spec: https://www.rabbitmq.com/docs/consumers#polling
Reference: GET-03, PREFETCH-06, GET-07
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestBasicGet:
    """RabbitMQ: `basic.get` beside a consumer with a prefetch."""

    @behaviour("GET-03", "PREFETCH-06")
    @lie("look-at-empty", "ack-multiple-always")
    def test_is_not_limited_by_prefetch_and_its_ack_brings_no_delivery_to_the_consumer(
        self, channel, get_without_ack, drain, subscribe_without_ack
    ):
        """A get is a request for one message. The prefetch limits deliveries to consumers only."""
        channel.queue_declare("tasks", durable=True)
        for body in (b"1", b"2", b"3", b"4"):
            channel.basic_publish("", "tasks", body)
        channel.basic_qos(prefetch_count=1)
        consumer = subscribe_without_ack(channel, "tasks")
        consumer.wait_for(1)

        tag, body = get_without_ack(channel, "tasks")
        channel.basic_ack(tag)

        assert body == b"2"
        assert drain("tasks") == [b"3", b"4"]
        assert consumer.bodies == [b"1"]


class TestRedelivered:
    """RabbitMQ: the flag `redelivered` of a message that `basic.get` returns."""

    @behaviour("GET-07")
    @lie("redelivered-lost")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_is_set_after_the_message_was_requeued(self, channel, get_without_ack, queue_type):
        """A program that polls can be careful with what somebody else may have begun."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type})
        channel.basic_publish("", "work", b"order")
        first, _, _ = channel.basic_get("work")
        channel.basic_nack(first.delivery_tag, requeue=True)

        second, _, body = channel.basic_get("work")

        assert first.redelivered is False
        assert second.redelivered is True
        assert body == b"order"
