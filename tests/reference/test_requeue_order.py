"""Requeue order: where requeued messages stand in a classic queue.

Spec: https://www.rabbitmq.com/docs/confirms#consumer-nacks-requeue
Reference: CHAN-09, NACK-02
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


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
