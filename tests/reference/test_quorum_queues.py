"""Quorum queues: arguments that belong to one queue type only.

Spec: https://www.rabbitmq.com/docs/quorum-queues#feature-comparison
Reference: QQDECL-02, QQDECL-03
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
