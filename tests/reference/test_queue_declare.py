"""Declaring queues: reserved names, invalid arguments, and the counts that the broker returns.

Spec: https://www.rabbitmq.com/docs/queues
Reference: QDECL-04, QDECL-11, GET-01
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestQueueDeclare:
    """RabbitMQ: `queue.declare`."""

    @behaviour("QDECL-04", "CHAN-03")
    @lie("refusal-hidden")
    def test_closes_the_channel_with_403_for_a_new_name_with_prefix_amq(self, refusal):
        """Names that begin with `amq.` are the broker's own; no program can pass its queue off as one."""
        said = refusal(lambda channel: channel.queue_declare("amq.mine", durable=True))

        assert said.code == 403
        assert said.closed == "channel"
        assert "contains reserved prefix 'amq.*'" in said.text

    @behaviour("QDECL-11", "CHAN-03")
    @lie("leader-locator-lost")
    def test_closes_the_channel_with_406_for_an_unknown_queue_leader_locator(self, refusal):
        """A misspelt value is found when the queue is declared, and not when all leaders are on one node."""
        arguments = {"x-queue-type": "quorum", "x-queue-leader-locator": "nearby"}

        said = refusal(lambda channel: channel.queue_declare("work", durable=True, arguments=arguments))

        assert said.code == 406
        assert said.closed == "channel"
        assert "x-queue-leader-locator" in said.text


class TestBasicGet:
    """RabbitMQ: the count in the answer to `basic.get`."""

    @behaviour("GET-01")
    @lie("left-count-wrong")
    def test_returns_the_number_of_messages_that_remain_ready(self, channel):
        """A program that empties a queue by `basic.get` knows how much is left without another request."""
        channel.queue_declare("work", durable=True)
        for body in (b"first", b"second"):
            channel.basic_publish("", "work", body)

        first, _, _ = channel.basic_get("work")
        second, _, _ = channel.basic_get("work")
        third, _, _ = channel.basic_get("work")

        assert first.message_count == 1
        assert second.message_count == 0
        assert third is None
