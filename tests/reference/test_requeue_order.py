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


@pytest.fixture
def wait_and_drain(channel, queue, drain, eventually):
    """Waits until so many messages are ready, and fetches them: a requeued message is ready a moment later."""

    def wait(count):
        eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count, count)
        return drain(queue)

    return wait


class TestRequeue:
    """RabbitMQ: unacked messages that return to their queue."""

    @behaviour("CHAN-09")
    @lie("acks-not-awaited")
    def test_returns_all_unacked_messages_when_the_channel_closes(self, consumer, wait_and_drain):
        """The connection may stay open: an application that loses one channel loses no message."""
        consumer.close()

        assert sorted(wait_and_drain(3)) == [b"first", b"second", b"third"]

    @behaviour("NACK-02")
    @lie("nack-multiple-lost")
    def test_by_nack_with_multiple_returns_messages_in_their_original_order(self, consumer, wait_and_drain):
        """A consumer that stops returns all that it has not begun by one nack."""
        consumer.basic_nack(delivery_tag=2, multiple=True, requeue=True)

        assert wait_and_drain(3) == [b"first", b"second", b"third"]
