"""Deleting: missing exchanges, and conditions on quorum queues.

Spec: https://www.rabbitmq.com/docs/queues, https://www.rabbitmq.com/docs/quorum-queues
Reference: QDEL-04, XDECL-11
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


class TestQueueDelete:
    """RabbitMQ: `queue.delete`."""

    @behaviour("QDEL-04", "CHAN-04")
    @lie("connection-code-changed")
    @pytest.mark.parametrize("condition", ["if_unused", "if_empty"])
    def test_with_if_unused_or_if_empty_closes_the_connection_with_540_for_a_quorum_queue(
        self, connect, channel, closed_connection, lookup, condition
    ):
        """The conditions are not implemented there, and the mistake costs every channel of the program."""
        channel.queue_declare("agreed", durable=True, arguments={"x-queue-type": "quorum"})

        said = closed_connection(connect(), lambda careful: careful.queue_delete("agreed", **{condition: True}))

        assert said.reply_code == 540
        assert said.reply_text.startswith("NOT_IMPLEMENTED")
        assert lookup("queue", "agreed") == "exists"


class TestExchangeDelete:
    """RabbitMQ: `exchange.delete`."""

    @behaviour("XDECL-11")
    @lie("deleting-the-missing-refused")
    def test_of_a_missing_exchange_is_no_error(self, refusal):
        """Two programs may clean up at the same time; the AMQP specification asks for a 404 here."""
        said = refusal(lambda channel: channel.exchange_delete("nowhere"))

        assert said.closed == "nothing"
