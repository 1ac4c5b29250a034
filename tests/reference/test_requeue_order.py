"""Requeue order: where requeued messages stand in a classic queue.

Spec: https://www.rabbitmq.com/docs/confirms#consumer-nacks-requeue
Reference: CHAN-09, NACK-02, ORDER-02, ORDER-03, ORDER-09, ORDER-11
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


@pytest.fixture
def queue(channel):
    """A queue with three messages."""
    channel.queue_declare("work", durable=True)
    for body in (b"first", b"second", b"third"):
        channel.basic_publish("", "work", body)
    return "work"


@pytest.fixture
def consumer(connection, queue):
    """A channel that has received the first two messages, with the delivery tags 1 and 2, and has acked neither."""
    channel = connection.channel()
    channel.basic_get(queue)
    channel.basic_get(queue)
    return channel


class TestRequeue:
    """RabbitMQ: unacked messages that return to their queue."""

    @behaviour("CHAN-09")
    @lie("acks-not-awaited")
    def test_returns_all_unacked_messages_when_the_channel_closes(self, consumer, drain_when_ready):
        """The connection may stay open: an application that loses one channel loses no message."""
        consumer.close()

        assert sorted(drain_when_ready("work", 3)) == [b"first", b"second", b"third"]

    @behaviour("NACK-02")
    @lie("nack-multiple-lost")
    def test_by_nack_with_multiple_returns_messages_in_their_original_order(self, consumer, drain_when_ready):
        """A consumer that stops returns all that it has not begun by one nack."""
        consumer.basic_nack(delivery_tag=2, multiple=True, requeue=True)

        assert drain_when_ready("work", 3) == [b"first", b"second", b"third"]


class TestQuorumQueueRequeue:
    """RabbitMQ: messages that return to a quorum queue."""

    @pytest.fixture
    def requeued(self, connection, channel, get_without_ack):
        """A quorum queue with the messages 1 to 5, of which 2, 3 and 1 were returned in this order."""
        channel.queue_declare("agreed", durable=True, arguments={"x-queue-type": "quorum"})
        consumer = connection.channel()
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "agreed", body)
            get_without_ack(consumer, "agreed")
        for body in (b"4", b"5"):
            channel.basic_publish("", "agreed", body)
        for tag in (2, 3, 1):
            consumer.basic_nack(tag, requeue=True)
        return "agreed"

    @behaviour("ORDER-02", "ORDER-03", "ORDER-11")
    @rabbitmq(since="4.0")
    @lie("queue-type-lost")
    def test_puts_messages_since_4_0_before_all_others_in_the_order_of_their_return(self, requeued, drain_when_ready):
        """A classic queue puts them back where they were; here the last one that fails is the last that comes again."""
        assert drain_when_ready(requeued, 5) == [b"2", b"3", b"1", b"4", b"5"]

    @behaviour("ORDER-02", "ORDER-03")
    @rabbitmq(before="4.0")
    @lie("queue-type-lost")
    def test_puts_messages_before_4_0_behind_all_others_in_the_order_of_their_return(self, requeued, drain_when_ready):
        """A message that fails waits for all that came later; on a long queue it is late by hours."""
        assert drain_when_ready(requeued, 5) == [b"4", b"5", b"2", b"3", b"1"]


class TestRecover:
    """RabbitMQ: `basic.recover`."""

    @behaviour("ORDER-09")
    @lie("acks-awaited")
    def test_does_not_requeue_auto_acked_messages(self, connection, queue, drain):
        """With auto-ack the broker forgets a message when it sends it: there is nothing left to recover."""
        consumer = connection.channel()
        consumer.basic_get(queue, auto_ack=True)
        consumer.basic_get(queue)

        consumer.basic_recover(requeue=True)

        assert drain(queue) == [b"second", b"third"]
