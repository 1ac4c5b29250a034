"""Single active consumer: one consumer gets all messages, the others wait to replace it.

Several consumers of a queue share its messages, so the messages are no longer processed in order. A queue that was
declared with `x-single-active-consumer` delivers to one consumer only, the first that subscribed. The others are
registered and get nothing. When the active consumer goes, the broker activates the next one: a hot standby without an
election among the clients.

Consumer priority is a softer rule, set by each consumer with `x-priority`: a consumer with a higher priority gets
messages first, and the others get those that exceed its prefetch. Our worker may share orders with others, so it needs
neither of them. A consumer that must process messages in order would need the first.

Spec: https://www.rabbitmq.com/docs/consumers#single-active-consumer
Code: rmqspec/client/consumer.py
Reference: SAC-01…08, CPRIO-01…05
"""

import threading
from contextlib import ExitStack

import pytest

from rmqspec.client import Consumer, Outcome

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
on_both_queue_types = pytest.mark.parametrize("queue_type", ["classic", "quorum"])

SINGLE = {"x-single-active-consumer": True}


@pytest.fixture
def queue(channel):
    """Declares `work` of this type: `queue("quorum", **SINGLE)` returns its name."""

    def declare(queue_type="classic", **arguments):
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type} | arguments)
        return "work"

    return declare


@pytest.fixture
def publish(channel):
    """Publishes to a queue: `publish("work", b"1", b"2")`."""

    def each(queue, *bodies):
        for body in bodies:
            channel.basic_publish("", queue, body)

    return each


class TestSingleActiveConsumer:
    """RabbitMQ: the active consumer of a queue with `x-single-active-consumer`."""

    @behaviour("SAC-01")
    @lie("single-active-consumer-lost")
    @on_both_queue_types
    def test_receives_all_messages_while_standby_consumers_get_none(self, connection, channel, served, queue_type):
        """Two consumers that update the same account at once could overwrite each other's result."""
        arguments = {"x-single-active-consumer": True, "x-queue-type": queue_type}
        channel.queue_declare("work", durable=True, arguments=arguments)
        active = []
        connection.channel().basic_consume("work", lambda _channel, _method, _properties, body: active.append(body))
        standby = []
        connection.channel().basic_consume("work", lambda _channel, _method, _properties, body: standby.append(body))

        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "work", body)

        served(connection, lambda: active, [b"1", b"2", b"3"])
        assert standby == []

    @behaviour("SAC-02", "ORDER-04")
    @lie("standby-never-served")
    @on_both_queue_types
    def test_passes_its_unacked_messages_in_order_to_the_next_when_its_channel_closes(
        self, queue, publish, new_consumer, queue_type
    ):
        """The next consumer continues where the other had acknowledged: none is missing, and the order is kept."""
        work = queue(queue_type, **SINGLE)
        active = new_consumer(work)
        second = new_consumer(work)
        third = new_consumer(work)
        publish(work, b"1", b"2", b"3")
        active.wait_for(3)
        active.channel.basic_ack(active.tags[0])

        active.channel.close()

        assert second.wait_for(2) == [b"2", b"3"]
        assert third.bodies == []

    @behaviour("SAC-02", "SAC-03")
    @lie("cancel-loses-unacked")
    @on_both_queue_types
    def test_keeps_its_unacked_messages_after_basic_cancel_while_the_next_becomes_active(
        self, queue, publish, new_consumer, queue_type
    ):
        """Until they are acknowledged two consumers work at once. Closing the channel instead requeues them."""
        work = queue(queue_type, **SINGLE)
        active = new_consumer(work)
        standby = new_consumer(work)
        publish(work, b"1")
        active.wait_for(1)

        active.channel.basic_cancel(active.consumer_tag)
        publish(work, b"2")

        assert standby.wait_for(1) == [b"2"]
        active.channel.basic_ack(active.tags[0])
        active.channel.close()
        publish(work, b"3")
        assert standby.wait_for(2) == [b"2", b"3"]
        assert active.bodies == [b"1"]


class TestConsumerPriority:
    """RabbitMQ: the argument `x-priority` of `basic.consume`, on a queue without a single active consumer."""

    @behaviour("CPRIO-01", "CPRIO-04")
    @lie("consumer-priority-lost")
    @on_both_queue_types
    def test_serves_the_highest_first_and_others_only_when_its_prefetch_is_full(
        self, queue, publish, connection, new_consumer, subscribe_without_ack, queue_type
    ):
        """A consumer near the broker does all it can, and a remote one only what is left, or all if it is alone."""
        work = queue(queue_type)
        remote = new_consumer(work)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=2)
        near = subscribe_without_ack(channel, work, arguments={"x-priority": 10})

        publish(work, b"1", b"2", b"3")

        assert near.wait_for(2) == [b"1", b"2"]
        assert remote.wait_for(1) == [b"3"]
        channel.basic_cancel(near.consumer_tag)
        publish(work, b"4")
        assert remote.wait_for(2) == [b"3", b"4"]

    @behaviour("CPRIO-02")
    @lie("consumer-priority-lost")
    def test_is_0_by_default_and_equal_priorities_are_served_round_robin(self, queue, publish, new_consumer):
        """To prefer all other consumers to one, give that one a negative priority; the others need no change."""
        work = queue()
        default = new_consumer(work)
        zero = new_consumer(work, priority=0)
        negative = new_consumer(work, priority=-1)

        publish(work, b"1", b"2", b"3", b"4")

        assert default.wait_for(2) == [b"1", b"3"]
        assert zero.wait_for(2) == [b"2", b"4"]
        assert negative.bodies == []


class TestConsumer:
    """Our consumer: its arguments are those of `basic.consume`."""

    @pytest.fixture
    def start(self, url):
        """Runs a consumer of `work` in a thread until the end, and returns it and the list of bodies that it gets."""
        with ExitStack() as ends:

            def run(**options):
                bodies = []

                def handle(delivery):
                    bodies.append(delivery.body)
                    return Outcome.ACK

                def end():
                    consumer.stop()
                    thread.join()

                consumer = Consumer(url, "work", handle, **options)
                thread = threading.Thread(target=consumer.run)
                thread.start()
                ends.callback(end)
                return consumer, bodies

            yield run

    @behaviour("CPRIO-01")
    @lie("consumer-priority-lost")
    def test_with_x_priority_10_gets_all_messages_before_one_without(self, channel, queue, publish, start, eventually):
        """The other consumer is a reserve: it has nothing to do as long as the preferred one keeps up."""
        work = queue()
        reserve, _ = start(prefetch=10)
        _, preferred = start(prefetch=10, arguments={"x-priority": 10})
        eventually(lambda: channel.queue_declare(work, passive=True).method.consumer_count, 2)

        publish(work, b"1", b"2", b"3")

        eventually(lambda: preferred, [b"1", b"2", b"3"])
        assert reserve.outcomes == {}
