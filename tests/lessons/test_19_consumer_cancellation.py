"""Consumer cancellation: when the broker takes a subscription away.

A subscription can end from either side. A consumer that cancels gets no more messages, but what it holds it still
holds. The broker cancels when there is nothing left to consume, because somebody has deleted the queue: it says so
once, to those clients that have announced that they listen. Who does not listen sits at an open connection, healthy
to look at, and waits for ever. A subscription may also be refused: because another one is exclusive, or because
there is no such queue. Our consumer ends with an error in each of these cases, so that somebody hears of it.

Spec: https://www.rabbitmq.com/docs/consumer-cancel
Code: rmqspec/client/consumer.py, rmqspec/client/errors.py
"""

import pika
import pytest
from pika import exceptions

from rmqspec.client import Connection, Consumer, Outcome, Queue, Topology
from rmqspec.client.errors import ConsumerCancelled

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


def ignore(*_):
    """A consumer that holds what it is sent and does nothing."""


@pytest.fixture
def queue(channel):
    channel.queue_declare("work", durable=True)
    channel.basic_publish("", "work", b"first")
    return "work"


@pytest.fixture
def told():
    """Listens to a channel: `told(channel)()` is which consumer tags the broker has cancelled there so far."""

    def listen(channel):
        tags = []
        channel.add_on_cancel_callback(lambda frame: tags.append(frame.method.consumer_tag))

        def look():
            channel.connection.process_data_events(time_limit=0)
            return tags

        return look

    return listen


@pytest.fixture
def consumers(channel):
    """How many consumers a queue has."""
    return lambda queue: channel.queue_declare(queue, passive=True).method.consumer_count


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("CANCELNOTIFY-01", "CANCELNOTIFY-02")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum", "stream"])
    @lie("cancel-swallowed")
    def test_tells_a_consumer_when_its_queue_goes(self, connection, channel, told, eventually, queue_type):
        """Nothing else happens to it: no error, no closed channel; without this word it would wait for ever."""
        for name in ("deleted", "kept"):
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": queue_type})
        consumer = connection.channel()
        consumer.basic_qos(prefetch_count=1)
        cancelled = told(consumer)
        for name in ("deleted", "kept"):
            consumer.basic_consume(name, ignore, consumer_tag=f"reader of {name}")

        channel.queue_delete("deleted")

        eventually(cancelled, ["reader of deleted"])
        assert consumer.is_open

    @behaviour("CANCELNOTIFY-01")
    @lie("cancel-swallowed")
    def test_tells_nothing_to_who_does_not_listen(
        self, url, patience, connection, channel, queue, told, eventually, drain
    ):
        """An old client would not know the word; it is not on the new queue either, and looks alive all the same."""
        parameters = pika.URLParameters(url)
        parameters.client_properties = {"capabilities": {"consumer_cancel_notify": False}}
        with Connection(parameters) as old:
            old.patience = patience
            channels = old.channel(), connection.channel()
            deaf, listening = (told(each) for each in channels)
            for each in channels:
                each.basic_consume(queue, ignore, consumer_tag="reader")

            channel.queue_delete(queue)

            eventually(listening, ["reader"])
            channel.queue_declare(queue, durable=True)
            channel.basic_publish("", queue, b"new")
            assert (deaf(), channels[0].is_open, drain(queue)) == ([], True, [b"new"])

    @behaviour("CANCELNOTIFY-03")
    @lie("cancel-swallowed")
    def test_takes_a_late_ack_for_a_deleted_queue(
        self, connection, channel, queue, subscribe_without_ack, told, eventually
    ):
        """The work was in hand when the queue went: saying that it is done harms nobody, and the channel lives on."""
        consumer = connection.channel()
        cancelled, holder = told(consumer), subscribe_without_ack(consumer, queue)
        holder.wait_for(1)
        channel.queue_delete(queue)
        eventually(cancelled, [holder.consumer_tag])

        consumer.basic_ack(holder.tags[0])

        assert consumer.queue_declare("another", durable=True).method.queue == "another"

    @behaviour("CANCELNOTIFY-04", "ACKTIMEOUT-06")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("cancel-swallowed")
    def test_takes_from_who_holds_for_too_long(self, connection, channel, told, eventually, receive):
        """A consumer that hangs loses subscription and message, and is told by the same word; its channel stays."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_publish("", "work", b"first")
        hanging = connection.channel()
        cancelled = told(hanging)
        hanging.basic_consume("work", ignore, consumer_tag="reader", arguments={"x-consumer-timeout": 50})

        eventually(cancelled, ["reader"])

        assert [(delivery.body, delivery.redelivered) for delivery in receive("work")] == [(b"first", True)]
        assert hanging.is_open

    @behaviour("CONSUME-07")
    @lie("cancel-ignored")
    def test_delivers_nothing_after_a_cancel(self, connection, channel, queue, subscribe_without_ack, drain):
        """What comes after the reply is left to others: a consumer can be taken out of a running system."""
        consumer = connection.channel()
        before = subscribe_without_ack(consumer, queue)
        before.wait_for(1)

        consumer.basic_cancel(before.consumer_tag)
        channel.basic_publish("", queue, b"second")

        assert (drain(queue), before.bodies) == ([b"second"], [b"first"])

    @behaviour("CONSUME-08")
    @lie("redelivered-lost")
    def test_leaves_what_a_cancelled_consumer_holds(self, connection, queue, subscribe_without_ack, receive, drain):
        """To cancel is not to give back: until its channel closes nobody else gets what it had not finished."""
        consumer = connection.channel()
        holder = subscribe_without_ack(consumer, queue)
        holder.wait_for(1)

        consumer.basic_cancel(holder.consumer_tag)
        held = drain(queue)
        consumer.close()

        assert held == []
        assert [(delivery.body, delivery.redelivered) for delivery in receive(queue)] == [(b"first", True)]

    @behaviour("CONSUME-09")
    @lie("ack-requeues")
    def test_takes_an_ack_after_a_cancel(self, connection, channel, queue, subscribe_without_ack, receive, drain):
        """The way to stop in good order: no new work, finish the old, say so, close."""
        consumer = connection.channel()
        holder = subscribe_without_ack(consumer, queue)
        holder.wait_for(1)
        consumer.basic_cancel(holder.consumer_tag)

        consumer.basic_ack(holder.tags[0])
        consumer.close()

        channel.basic_publish("", queue, b"second")
        assert ([delivery.body for delivery in receive(queue)], drain(queue)) == ([b"second"], [])

    @behaviour("CONSUME-04", "CHAN-03")
    @lie("absence-hidden")
    def test_refuses_to_consume_from_no_queue(self, connection, channel, queue):
        """A typing error in the name is an error here, and not an empty queue that nobody ever fills."""
        lost = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="no queue 'wrok'") as error:
            lost.basic_consume("wrok", ignore)

        assert (error.value.reply_code, lost.is_closed, connection.is_open) == (404, True, True)
        assert channel.basic_consume(queue, ignore, consumer_tag="worker") == "worker"

    @behaviour("CONSUME-11", "CHAN-03")
    @pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)], ids=["holds_it", "asks_for_it"])
    @lie("consumer-exclusivity-lost")
    def test_refuses_company_to_an_exclusive(self, connection, queue, consumers, first, second):
        """Either it is alone or it does not begin: order is kept by one reader, and two by mistake are noticed."""
        alone, late = connection.channel(), connection.channel()
        alone.basic_consume(queue, ignore, exclusive=first)

        with pytest.raises(exceptions.ChannelClosedByBroker, match="in exclusive use") as error:
            late.basic_consume(queue, ignore, exclusive=second)

        assert (error.value.reply_code, late.is_closed, connection.is_open) == (403, True, True)
        assert (alone.is_open, consumers(queue)) == (True, 1)

    @behaviour("CONSUME-11")
    @lie("consumer-count-wrong")
    def test_frees_a_queue_with_its_only_reader(self, connection, queue, consumers):
        """The next may begin, but has to ask: who was refused is not called (chapter 25 has a better way)."""
        alone, late = connection.channel(), connection.channel()
        tag = alone.basic_consume(queue, ignore, exclusive=True)

        alone.basic_cancel(tag)
        late.basic_consume(queue, ignore, exclusive=True)

        assert (late.is_open, consumers(queue)) == (True, 1)

    @behaviour("CONSUME-11")
    @lie("consumer-count-wrong")
    def test_ignores_exclusive_on_a_quorum_queue(self, connection, channel, consumers):
        """The flag is taken and means nothing: after a change of the queue type two readers mix up the order."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": "quorum"})

        for _ in range(2):
            connection.channel().basic_consume("work", ignore, exclusive=True)

        assert consumers("work") == 2


class TestConsumer:
    """What our consumer adds."""

    @lie("cancel-swallowed")
    def test_ends_with_an_error_with_its_queue(self, source, channel, queue, run_until_it_ends):
        """A process that ends is started again or missed; what it had in hand is finished first."""

        def delete(_):
            channel.queue_delete(queue)
            return Outcome.ACK

        consumer = Consumer(source, queue, delete)

        with pytest.raises(ConsumerCancelled, match="the subscription to 'work': was the queue deleted"):
            run_until_it_ends(consumer)

        assert consumer.outcomes == {Outcome.ACK: 1}

    @lie("ack-requeues")
    def test_ends_without_an_error_when_stopped(self, source, queue, drain, run_until_it_ends):
        """An end that was asked for is none to worry about."""
        consumer = Consumer(source, queue, lambda _: consumer.stop() or Outcome.ACK)

        run_until_it_ends(consumer)

        assert consumer.outcomes == {Outcome.ACK: 1}
        assert drain(queue) == []

    @lie("cancel-swallowed")
    def test_does_not_make_a_deleted_queue_anew(self, source, channel, queue, run_until_it_ends):
        """Even with a topology at hand: made anew at once, the queue would hide that all that was in it is lost."""

        def delete(_):
            channel.queue_delete(queue)
            return Outcome.ACK

        with pytest.raises(ConsumerCancelled, match="was the queue deleted"):
            run_until_it_ends(Consumer(source, queue, delete, topology=Topology(queues=(Queue(queue),))))

        with pytest.raises(exceptions.UnroutableError):
            channel.basic_publish("", queue, b"second", mandatory=True)
        assert channel.is_open
