"""Consumer priority: values and queue types for which `x-priority` is not accepted.

Spec: https://www.rabbitmq.com/docs/consumer-priority
Reference: CPRIO-01…05
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestConsumerPriority:
    """RabbitMQ: the argument `x-priority` of `basic.consume`."""

    @behaviour("CPRIO-03", "CPRIO-05", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        ("queue_type", "priority"),
        [("classic", "high"), ("stream", 10)],
        ids=["text_on_a_classic_queue", "number_on_a_stream"],
    )
    def test_closes_the_channel_with_406_if_text_or_on_a_stream(
        self, channel, refusal, new_consumer, queue_type, priority
    ):
        """Consumers of a stream do not compete for messages, so there is nothing to prefer."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type})

        def consume(careless):
            careless.basic_qos(prefetch_count=1)
            careless.basic_consume("work", print, arguments={"x-priority": priority})

        said = refusal(consume)

        assert said.code == 406
        assert said.closed == "channel"
        assert "x-priority" in said.text
        assert new_consumer("work", prefetch=1).channel.is_open
