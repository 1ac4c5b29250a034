"""Quorum queues: arguments that belong to one queue type only.

Spec: https://www.rabbitmq.com/docs/quorum-queues#feature-comparison
Reference: QQDECL-02, QQDECL-03, QQDECL-05, QQDECL-06
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestQueueArgument:
    """RabbitMQ: an optional argument of `queue.declare`."""

    @behaviour("QQDECL-02", "QQDECL-03", "POISON-08", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        ("argument", "value", "own_type", "other_type"),
        [
            ("x-max-priority", 2, "classic", "quorum"),
            ("x-delivery-limit", 2, "quorum", "classic"),
            ("x-dead-letter-strategy", "at-least-once", "quorum", "classic"),
        ],
        ids=["max_priority_on_quorum", "delivery_limit_on_classic", "dead_letter_strategy_on_classic"],
    )
    def test_of_another_queue_type_closes_the_channel_with_406(
        self, channel, refusal, argument, value, own_type, other_type
    ):
        """Ignored, a delivery limit on a classic queue would be a protection that does not exist."""
        given = {argument: value, "x-queue-type": other_type}

        said = refusal(lambda careless: careless.queue_declare("work", durable=True, arguments=given))

        assert said.code == 406
        assert said.closed == "channel"
        assert f"'{argument}'" in said.text
        assert said.text.endswith(f"rabbit_{other_type}_queue")
        channel.queue_declare("work", durable=True, arguments={argument: value, "x-queue-type": own_type})


class TestQuorumQueue:
    """RabbitMQ: a quorum queue in the place of a classic one."""

    @behaviour("QQDECL-05")
    @lie("ack-swallowed")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_supports_publish_get_consume_ack_purge_and_delete_like_a_classic_queue(
        self, connection, channel, get_without_ack, new_consumer, drain_when_ready, lookup, queue_type
    ):
        """A program whose queues change their type needs no other line, as long as it uses no more than this."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type})
        for body in (b"fetched", b"consumed", b"rejected", b"purged"):
            channel.basic_publish("", "work", body)
        getter = connection.channel()
        tag, fetched = get_without_ack(getter, "work")
        getter.basic_ack(tag)
        consumer = new_consumer("work", prefetch=2)
        received = list(consumer.wait_for(2))
        consumer.channel.basic_ack(consumer.tags[0])
        consumer.channel.basic_cancel(consumer.consumer_tag)
        consumer.channel.basic_reject(consumer.tags[1], requeue=False)
        getter.close()
        consumer.channel.close()

        assert fetched == b"fetched"
        assert received == [b"consumed", b"rejected"]
        assert drain_when_ready("work", 1) == [b"purged"]
        channel.basic_publish("", "work", b"purged")
        assert channel.queue_purge("work").method.message_count == 1
        assert channel.queue_delete("work").method.message_count == 0
        assert lookup("queue", "work") == "missing"


class TestDeliveryLimitByGet:
    """RabbitMQ: `x-delivery-limit` of a quorum queue whose messages are fetched by `basic.get`."""

    @behaviour("QQDECL-06")
    @lie("delivery-limit-lost")
    def test_counts_a_get_like_a_delivery(self, channel, get_without_ack, receive):
        """A program that polls, and fails each time, does not poll the same message for ever."""
        channel.queue_declare("dead", durable=True)
        arguments = {
            "x-queue-type": "quorum",
            "x-delivery-limit": 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "dead",
        }
        channel.queue_declare("work", durable=True, arguments=arguments)
        channel.basic_publish("", "work", b"poison")

        for _ in range(2):
            tag, _ = get_without_ack(channel, "work")
            channel.basic_reject(tag, requeue=True)

        (dead,) = receive("dead")
        assert dead.body == b"poison"
        assert dead.died_of == "delivery_limit"
