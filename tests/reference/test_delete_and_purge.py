"""Deleting: missing exchanges, and conditions on quorum queues.

Spec: https://www.rabbitmq.com/docs/queues, https://www.rabbitmq.com/docs/quorum-queues
Reference: QDEL-04, XDECL-11, QDEL-05, QDEL-09, STREAM-23
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

    @behaviour("QDEL-05")
    @lie("queue-delete-ignored")
    def test_of_a_stream_ignores_if_unused_and_if_empty(self, connection, channel, lookup):
        """The two conditions protect no stream: it goes with its readers and its messages."""
        channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
        channel.basic_publish("", "log", b"kept for years")
        reader = connection.channel()
        reader.basic_qos(prefetch_count=1)
        reader.basic_consume("log", lambda *_: None)

        channel.queue_delete("log", if_unused=True, if_empty=True)

        assert lookup("queue", "log") == "missing"

    @behaviour("QDEL-09", "STREAM-23")
    @lie("cancel-swallowed")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum", "stream"])
    def test_cancels_the_consumers_of_the_queue(self, connection, channel, cancelled_consumers, eventually, queue_type):
        """A worker would otherwise wait for ever for messages of a queue that is not there."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type})
        consumer = connection.channel()
        cancelled = cancelled_consumers(consumer)
        consumer.basic_qos(prefetch_count=1)
        consumer.basic_consume("work", lambda *_: None, consumer_tag="worker")

        channel.queue_delete("work")

        eventually(cancelled, ["worker"])


class TestExchangeDelete:
    """RabbitMQ: `exchange.delete`."""

    @behaviour("XDECL-11")
    @lie("deleting-the-missing-refused")
    def test_of_a_missing_exchange_is_no_error(self, refusal):
        """Two programs may clean up at the same time; the AMQP specification asks for a 404 here."""
        said = refusal(lambda channel: channel.exchange_delete("nowhere"))

        assert said.closed == "nothing"
