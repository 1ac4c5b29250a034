"""Consumers: missing queues, exclusive consumers, and cancel notifications at the edge.

Spec: https://www.rabbitmq.com/docs/consumers
Reference: CONSUME-04, CONSUME-11, CANCELNOTIFY-01, CANCELNOTIFY-03
"""

import pika
import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    """A queue with one message."""
    channel.queue_declare("work", durable=True)
    channel.basic_publish("", "work", b"first")
    return "work"


def ignore(*_):
    """A consumer that acks nothing and does nothing."""


class TestBasicConsume:
    """RabbitMQ: `basic.consume`."""

    @behaviour("CONSUME-04", "CHAN-03")
    @lie("absence-hidden")
    def test_from_a_missing_queue_closes_the_channel_with_404(self, channel, queue, refusal):
        """A typo in the name is an error, and not an empty queue into which nobody ever publishes."""
        said = refusal(lambda careless: careless.basic_consume("wrok", ignore))

        assert said.code == 404
        assert said.closed == "channel"
        assert "no queue 'wrok'" in said.text
        assert channel.basic_consume(queue, ignore, consumer_tag="worker") == "worker"


class TestExclusiveConsumer:
    """RabbitMQ: a consumer that was started with `exclusive`."""

    @behaviour("CONSUME-11", "CHAN-03")
    @lie("consumer-exclusivity-lost")
    @pytest.mark.parametrize(
        ("first", "second"), [(True, False), (False, True)], ids=["exclusive_first", "exclusive_second"]
    )
    def test_beside_another_consumer_closes_the_channel_of_the_later_one_with_403(
        self, connection, channel, queue, refusal, first, second
    ):
        """Order is kept by a single consumer; a second one that is started by mistake is noticed."""
        connection.channel().basic_consume(queue, ignore, exclusive=first)

        said = refusal(lambda late: late.basic_consume(queue, ignore, exclusive=second))

        assert said.code == 403
        assert said.closed == "channel"
        assert "in exclusive use" in said.text
        assert channel.queue_declare(queue, passive=True).method.consumer_count == 1

    @behaviour("CONSUME-11")
    @lie("cancel-ignored")
    def test_leaves_the_queue_to_another_exclusive_consumer_when_it_is_cancelled(self, connection, queue, refusal):
        """The next one has to try again: nobody notifies a consumer that was refused."""
        alone = connection.channel()
        tag = alone.basic_consume(queue, ignore, exclusive=True)
        while_it_consumes = refusal(lambda late: late.basic_consume(queue, ignore, exclusive=True))

        alone.basic_cancel(tag)
        afterwards = refusal(lambda late: late.basic_consume(queue, ignore, exclusive=True))

        assert while_it_consumes.code == 403
        assert afterwards.closed == "nothing"

    @behaviour("CONSUME-11")
    @lie("queue-type-lost")
    def test_is_not_exclusive_on_a_quorum_queue(self, connection, channel, refusal):
        """The flag is accepted and ignored: after a change of the queue type two consumers mix up the order."""
        channel.queue_declare("agreed", durable=True, arguments={"x-queue-type": "quorum"})
        connection.channel().basic_consume("agreed", ignore, exclusive=True)

        said = refusal(lambda late: late.basic_consume("agreed", ignore, exclusive=True))

        assert said.closed == "nothing"


class TestCancelNotification:
    """RabbitMQ: `basic.cancel` that the broker sends to a consumer."""

    @behaviour("CANCELNOTIFY-01")
    @lie("cancel-capability-assumed")
    def test_is_not_sent_without_the_capability_consumer_cancel_notify(
        self, url, connection, channel, queue, cancelled_consumers, eventually, drain
    ):
        """An old client is not consuming from the new queue of that name, and nothing tells it so."""
        parameters = pika.URLParameters(url)
        parameters.client_properties = {"capabilities": {"consumer_cancel_notify": False}}
        with pika.BlockingConnection(parameters) as old:
            without = old.channel()
            with_capability = connection.channel()
            cancelled_without = cancelled_consumers(without)
            cancelled_with = cancelled_consumers(with_capability)
            for each in (without, with_capability):
                each.basic_consume(queue, ignore, consumer_tag="consumer")

            channel.queue_delete(queue)

            eventually(cancelled_with, ["consumer"])
            channel.queue_declare(queue, durable=True)
            channel.basic_publish("", queue, b"new")
            without.basic_qos(prefetch_count=1)  # its answer comes after all that was sent before
            assert cancelled_without() == []
            assert drain(queue) == [b"new"]

    @behaviour("CANCELNOTIFY-03")
    @lie("late-ack-refused")
    def test_leaves_the_channel_able_to_ack_messages_of_the_deleted_queue(
        self, channel, queue, subscribe_without_ack, cancelled_consumers, eventually, refusal
    ):
        """A consumer that was working when its queue was deleted acks as usual, and keeps its channel."""

        def ack_late(consumer_channel):
            cancelled = cancelled_consumers(consumer_channel)
            consumer = subscribe_without_ack(consumer_channel, queue)
            consumer.wait_for(1)
            channel.queue_delete(queue)
            eventually(cancelled, [consumer.consumer_tag])
            consumer_channel.basic_ack(consumer.tags[0])

        said = refusal(ack_late)

        assert said.closed == "nothing"
