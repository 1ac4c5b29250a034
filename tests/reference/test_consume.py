"""Consumers: missing queues, exclusive consumers, and cancel notifications at the edge.

Spec: https://www.rabbitmq.com/docs/consumers
Reference: CONSUME-04, CONSUME-11, CANCELNOTIFY-01, CANCELNOTIFY-03, CONSUME-01, CONSUME-03, CONSUME-12, CONSUME-14,
CONSUME-18, CONSUME-19, ACK-08
"""

import pika
import pytest
from pika import spec

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

    @behaviour("CANCELNOTIFY-03", "ACK-08")
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


class TestConsumerTag:
    """RabbitMQ: the name of a consumer on its channel."""

    @behaviour("CONSUME-01", "CONSUME-18")
    @lie("consumer-tag-changed")
    @pytest.mark.parametrize(
        ("asked", "begins"),
        [("", "amq.ctag-"), ("worker 1", "worker 1"), ("ö" * 127, "ö" * 127)],
        ids=["empty", "chosen", "254_bytes"],
    )
    def test_is_in_the_answer_and_is_made_up_by_the_broker_if_it_is_empty(self, raw_client, queue, asked, begins):
        """The tag is what a cancel needs: a client that lets the broker choose must keep it."""
        client = raw_client().open(1)

        client.say(spec.Basic.Consume(queue=queue, consumer_tag=asked), channel=1)

        assert client.hears("basic.consume-ok").consumer_tag.startswith(begins)

    @behaviour("CONSUME-03")
    @lie("one-consumer-gets-all")
    def test_may_be_the_same_on_two_channels(self, connection, channel, queue, subscribe_without_ack):
        """A program that starts ten workers need not number them."""
        consumers = []
        for _ in range(2):
            own = connection.channel()
            own.basic_qos(prefetch_count=1)
            consumers.append(subscribe_without_ack(own, queue, consumer_tag="worker"))

        channel.basic_publish("", queue, b"second")

        assert consumers[0].wait_for(1) == [b"first"]
        assert consumers[1].wait_for(1) == [b"second"]

    @behaviour("CONSUME-19")
    @lie("consumer-not-made")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_may_be_used_again_at_once_after_a_cancel(self, connection, channel, subscribe_without_ack, queue_type):
        """A consumer that is paused and started again keeps its name."""
        channel.queue_declare("again", durable=True, arguments={"x-queue-type": queue_type})
        own = connection.channel()
        subscribe_without_ack(own, "again", consumer_tag="worker")
        own.basic_cancel("worker")

        consumer = subscribe_without_ack(own, "again", consumer_tag="worker")
        channel.basic_publish("", "again", b"order")

        assert consumer.wait_for(1) == [b"order"]


class TestConsumerCount:
    """RabbitMQ: the count of consumers in the answer to `queue.declare`."""

    @behaviour("CONSUME-14")
    @lie("consumer-count-wrong")
    def test_follows_consume_and_cancel_on_a_classic_queue(self, connection, channel, queue):
        """A program can ask whether anybody works before it publishes."""

        def count():
            return channel.queue_declare(queue, passive=True).method.consumer_count

        at_first = count()
        consumer = connection.channel()
        tags = [consumer.basic_consume(queue, ignore) for _ in range(2)]
        with_two = count()
        consumer.basic_cancel(tags[0])

        assert at_first == 0
        assert with_two == 2
        assert count() == 1


class TestSingleActiveConsumer:
    """RabbitMQ: `basic.consume` with `exclusive` from a queue with `x-single-active-consumer`."""

    @behaviour("CONSUME-12", "CHAN-03")
    @lie("single-active-consumer-lost")
    def test_of_a_classic_queue_refuses_an_exclusive_consumer_with_403(self, channel, refusal):
        """Both keep the order by one consumer at a time; only the first lets the next one wait."""
        channel.queue_declare("single", durable=True, arguments={"x-single-active-consumer": True})

        said = refusal(lambda alone: alone.basic_consume("single", ignore, exclusive=True))

        assert said.code == 403
        assert said.closed == "channel"
        assert "in exclusive use" in said.text
