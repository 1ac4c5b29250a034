"""Consumer cancellation: a subscription can be ended by the consumer or by the broker.

A consumer that cancels gets no more messages, but the ones it has not acked stay unacked: it may finish them. The
broker cancels a consumer when its queue is deleted, and since RabbitMQ 4.3 when it exceeds the consumer timeout of a
quorum queue. It sends `basic.cancel`, once, to clients that have announced that they understand it; pika does. A
program that ignores it keeps an open connection, looks healthy, and waits for ever.

Before 4.3 a consumer that exceeds the timeout (delivery acknowledgement timeout, 30 minutes by default) is not
cancelled: its channel is closed with 406. Since 4.3 classic queues have no consumer timeout.

Our consumer ends with an error when it is cancelled, so that somebody notices.

Spec: https://www.rabbitmq.com/docs/consumer-cancel
Code: rmqspec/client/consumer.py, rmqspec/client/errors.py
Reference: CANCELNOTIFY-01…04, CONSUME-04, CONSUME-07…09, CONSUME-11, ACKTIMEOUT-01…06, ACKTIMEOUT-08
"""

import pytest

from rmqspec.client import Consumer, Outcome, Queue, Topology
from rmqspec.client.errors import ConsumerCancelled
from rmqspec.tools.broker import Configuration

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq
pytestmark = pytest.mark.timeout(180)  # a broker of its own is started


@pytest.fixture(scope="module")
def disposable_broker(another_broker):
    """A broker with a consumer timeout of 250 ms that checks it every 100 ms, and not every minute."""
    broker = another_broker(Configuration(lines=("consumer_timeout = 250",)))
    broker.control("eval", "application:set_env(rabbit, channel_tick_interval, 100).")
    return broker


@pytest.fixture
def queue(channel):
    """A queue with one message."""
    channel.queue_declare("work", durable=True)
    channel.basic_publish("", "work", b"first")
    return "work"


class TestCancelNotification:
    """RabbitMQ: `basic.cancel` that the broker sends to a consumer."""

    @behaviour("CANCELNOTIFY-01", "CANCELNOTIFY-02")
    @lie("cancel-swallowed")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum", "stream"])
    def test_is_sent_when_the_queue_is_deleted_and_the_channel_stays_open(
        self, connection, channel, served, queue_type
    ):
        """There is no error and no closed channel; a program that does not listen for it waits for ever."""
        for name in ("deleted", "kept"):
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": queue_type})
        consumer = connection.channel()
        cancelled = []
        consumer.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        consumer.basic_qos(prefetch_count=1)
        for name in ("deleted", "kept"):
            consumer.basic_consume(name, lambda *_: None, consumer_tag=f"consumer of {name}")

        channel.queue_delete("deleted")

        served(connection, lambda: cancelled, ["consumer of deleted"])
        assert consumer.is_open

    @behaviour("CANCELNOTIFY-04", "ACKTIMEOUT-06")
    @rabbitmq(since="4.3")
    @lie("cancel-swallowed")
    def test_is_sent_since_4_3_at_the_consumer_timeout_of_a_quorum_queue_and_the_message_is_requeued(
        self, connection, channel, cancelled_consumers, eventually, receive
    ):
        """A consumer that hangs loses its subscription and its message, and the rest of its channel goes on."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_publish("", "work", b"first")
        hanging = connection.channel()
        cancelled = cancelled_consumers(hanging)
        hanging.basic_consume("work", lambda *_: None, consumer_tag="hanging", arguments={"x-consumer-timeout": 50})

        eventually(cancelled, ["hanging"])

        (delivery,) = receive("work")
        assert delivery.body == b"first"
        assert delivery.redelivered is True
        assert hanging.is_open


class TestDeliveryAcknowledgementTimeout:
    """RabbitMQ before 4.3: a message that is unacked for longer than the consumer timeout."""

    @pytest.fixture
    def url(self, disposable_url):
        return disposable_url

    @behaviour("ACKTIMEOUT-01", "ACKTIMEOUT-02", "ACKTIMEOUT-03", "ACKTIMEOUT-04", "ACKTIMEOUT-05")
    @rabbitmq(before="4.3")
    @lie("code-406-changed")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_closes_the_channel_with_406_and_requeues_the_message_before_4_3(
        self, connection, channel, subscribe_without_ack, closed_channel, receive, queue_type
    ):
        """Everything else on that channel ends with it: other consumers and unconfirmed publishes."""
        channel.queue_declare(queue_type, durable=True, arguments={"x-queue-type": queue_type})
        channel.basic_publish("", queue_type, b"first")
        hanging = connection.channel()
        sibling = connection.channel()
        subscribe_without_ack(hanging, queue_type).wait_for(1)

        error = closed_channel(hanging)

        assert error.reply_code == 406
        assert "delivery acknowledgement on channel" in error.reply_text
        assert "timed out" in error.reply_text
        assert sibling.is_open
        (delivery,) = receive(queue_type)
        assert delivery.body == b"first"
        assert delivery.redelivered is True


class TestBasicCancel:
    """RabbitMQ: `basic.cancel` that a consumer sends to the broker."""

    @behaviour("CONSUME-07")
    @lie("cancel-ignored")
    def test_stops_deliveries_to_the_consumer(self, connection, channel, queue, subscribe_without_ack, drain):
        """Later messages are left to others: a consumer can be removed from a running system."""
        consumer_channel = connection.channel()
        consumer = subscribe_without_ack(consumer_channel, queue)
        consumer.wait_for(1)

        consumer_channel.basic_cancel(consumer.consumer_tag)

        channel.basic_publish("", queue, b"second")
        assert drain(queue) == [b"second"]
        assert consumer.bodies == [b"first"]

    @behaviour("CONSUME-08")
    @lie("cancel-requeues")
    def test_leaves_unacked_messages_unacked_until_the_channel_closes(
        self, connection, queue, subscribe_without_ack, receive, drain
    ):
        """Cancelling does not requeue: another consumer gets the unfinished message only when the channel is closed."""
        consumer_channel = connection.channel()
        consumer = subscribe_without_ack(consumer_channel, queue)
        consumer.wait_for(1)

        consumer_channel.basic_cancel(consumer.consumer_tag)
        requeued_by_the_cancel = drain(queue)
        consumer_channel.close()

        assert requeued_by_the_cancel == []
        (delivery,) = receive(queue)
        assert delivery.body == b"first"
        assert delivery.redelivered is True

    @behaviour("CONSUME-09")
    @lie("ack-swallowed")
    def test_leaves_the_channel_able_to_ack(self, connection, channel, queue, subscribe_without_ack, receive, drain):
        """This is an orderly shutdown: cancel, finish the messages that are unacked, ack them, close."""
        consumer_channel = connection.channel()
        consumer = subscribe_without_ack(consumer_channel, queue)
        consumer.wait_for(1)
        consumer_channel.basic_cancel(consumer.consumer_tag)

        consumer_channel.basic_ack(consumer.tags[0])
        consumer_channel.basic_recover(requeue=True)  # without the ack the message would be ready again

        channel.basic_publish("", queue, b"second")
        assert [delivery.body for delivery in receive(queue)] == [b"second"]
        assert drain(queue) == []


class TestConsumer:
    """Our consumer: an end that nobody asked for is an error."""

    @lie("cancel-swallowed")
    def test_raises_consumer_cancelled_when_its_queue_is_deleted(self, source, channel, queue, run_until_it_ends):
        """A process that ends is restarted, or somebody notices; the message that it was handling is finished first."""

        def delete(_):
            channel.queue_delete(queue)
            return Outcome.ACK

        consumer = Consumer(source, queue, delete)

        with pytest.raises(ConsumerCancelled, match="the subscription to 'work': was the queue deleted"):
            run_until_it_ends(consumer)

        assert consumer.outcomes == {Outcome.ACK: 1}

    @lie("cancel-swallowed")
    def test_raises_consumer_cancelled_without_redeclaring_its_deleted_queue_even_with_a_topology(
        self, source, channel, queue, run_until_it_ends, is_routed
    ):
        """Even with a topology: a new queue would hide that all messages of the old one are lost."""

        def delete(_):
            channel.queue_delete(queue)
            return Outcome.ACK

        consumer = Consumer(source, queue, delete, topology=Topology(queues=(Queue(queue),)))

        with pytest.raises(ConsumerCancelled, match="was the queue deleted"):
            run_until_it_ends(consumer)

        assert is_routed("", queue) is False

    @lie("ack-swallowed")
    def test_ends_without_an_error_when_it_is_stopped(self, source, queue, drain, run_until_it_ends):
        """This end was asked for; the message that it was handling is acked."""

        def stop(_):
            consumer.stop()
            return Outcome.ACK

        consumer = Consumer(source, queue, stop)

        run_until_it_ends(consumer)

        assert consumer.outcomes == {Outcome.ACK: 1}
        assert drain(queue) == []
