"""Priority queues: messages with a higher priority are delivered first.

A queue is first in, first out, unless it was declared with priorities. A classic queue needs the argument
`x-max-priority`; a quorum queue orders by priority without any argument since 4.0, and strictly since 4.3. The
property `priority` of a message then decides which of the messages that wait is delivered next.

Only waiting messages are reordered. Messages that were already sent to a consumer are not, so a large prefetch makes
priorities useless. And a full queue drops from its head, where the highest priority is. The order system has no urgent
orders and uses no priorities.

Spec: https://www.rabbitmq.com/docs/priority
Code: rmqspec/client/topology.py
Reference: PRIO-01…10, QQPRIO-01…05
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

WITH_PRIORITIES = {"classic": {"x-max-priority": 10}, "quorum": {"x-queue-type": "quorum"}}
TO_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
QUORUM_SINCE_40 = pytest.param("quorum", marks=rabbitmq(since="4.0"))
QUORUM_SINCE_43 = pytest.param("quorum", marks=rabbitmq(since="4.3"))  # before, there were but two levels


@pytest.fixture
def queue(channel):
    """Declares `work` with priorities: `queue("quorum", **{"x-max-length": 2})` returns its name."""

    def declare(queue_type="classic", **arguments):
        channel.queue_declare("work", durable=True, arguments=WITH_PRIORITIES[queue_type] | arguments)
        return "work"

    return declare


@pytest.fixture
def publish(channel):
    """Publishes messages to a queue in this order, each with its priority: `publish("work", low=0, high=9)`."""

    def each(queue, **priorities):
        for body, priority in priorities.items():
            channel.basic_publish("", queue, body.encode(), BasicProperties(priority=priority))

    return each


class TestPriorityQueue:
    """RabbitMQ: a queue with priorities."""

    @behaviour("PRIO-01")
    @lie("priority-lost")
    def test_delivers_higher_priority_first_and_equal_priority_in_publish_order(self, channel, drain):
        """An urgent message does not wait for a long backlog, and urgent messages do not overtake each other."""
        channel.queue_declare("work", durable=True, arguments={"x-max-priority": 10})

        channel.basic_publish("", "work", b"low", BasicProperties(priority=1))
        channel.basic_publish("", "work", b"high", BasicProperties(priority=9))
        channel.basic_publish("", "work", b"middle", BasicProperties(priority=5))
        channel.basic_publish("", "work", b"high too", BasicProperties(priority=9))

        assert drain("work") == [b"high", b"high too", b"middle", b"low"]

    @behaviour("PRIO-02")
    @lie("missing-priority-4")
    def test_treats_missing_priority_as_0_in_a_classic_queue(self, queue, publish, drain):
        """Publishers that set no priority are overtaken by all that do, even with priority 1."""
        work = queue("classic")

        publish(work, none=None, zero=0, none_too=None, one=1)

        assert drain(work) == [b"one", b"none", b"zero", b"none_too"]

    @behaviour("PRIO-05")
    @lie("prefetch-ignored")
    @pytest.mark.parametrize("queue_type", ["classic", QUORUM_SINCE_43])
    def test_delivers_a_higher_priority_after_the_prefetched_messages(
        self, connection, queue, publish, subscribe_without_ack, queue_type
    ):
        """An urgent message waits behind a consumer's whole prefetch: keep it small where priorities matter."""
        work = queue(queue_type)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=2)
        publish(work, low=0, low_too=0, low_as_well=0)
        consumer = subscribe_without_ack(channel, work)
        consumer.wait_for(2)

        publish(work, high=9)
        channel.basic_ack(consumer.tags[0])

        assert consumer.wait_for(3) == [b"low", b"low_too", b"high"]

    @behaviour("PRIO-05")
    @lie("deliveries-swapped")
    def test_does_not_reorder_messages_for_a_waiting_consumer(
        self, connection, queue, publish, drain, subscribe_without_ack
    ):
        """Messages that never wait in the queue are never sorted: without a prefetch limit priorities do nothing."""
        work = queue()
        publish(work, low=0, high=9)
        assert drain(work) == [b"high", b"low"]
        consumer = subscribe_without_ack(connection.channel(), work)

        publish(work, low=0, high=9)

        assert consumer.wait_for(2) == [b"low", b"high"]

    @behaviour("PRIO-09")
    @lie("priority-lost")
    @pytest.mark.parametrize("queue_type", ["classic", QUORUM_SINCE_40])
    def test_drops_the_highest_priority_first_when_full(self, channel, queue, publish, receive, drain, queue_type):
        """Overflow drops the head of the queue, which is the most urgent message: a flood of others deletes it."""
        channel.queue_declare("dead", durable=True)
        work = queue(queue_type, **TO_DEAD, **{"x-max-length": 2})

        publish(work, low=0, high=9, low_too=0)

        (dead,) = receive("dead")
        assert dead.body == b"high"
        assert drain(work) == [b"low", b"low_too"]


class TestQuorumQueuePriority:
    """RabbitMQ: priorities of a quorum queue, which needs no argument for them."""

    @behaviour("QQPRIO-01", "QQPRIO-04")
    @rabbitmq(since="4.3")
    @lie("priority-lost")
    def test_is_strict_without_x_max_priority_since_4_3(self, queue, publish, drain):
        """A publisher that sets priorities reorders such a queue, although nobody declared that it may."""
        work = queue("quorum")

        publish(work, low=1, high=9, middle=5, high_too=9, low_too=1)

        assert drain(work) == [b"high", b"high_too", b"middle", b"low", b"low_too"]


class TestClassicQueueWithoutMaxPriority:
    """RabbitMQ: a classic queue that was declared without `x-max-priority`."""

    @behaviour("PRIO-04")
    @lie("priorities-always")
    def test_ignores_message_priority(self, channel, publish, drain):
        """There is no error: urgent messages wait in line with all others, and the publisher does not learn of it."""
        channel.queue_declare("plain", durable=True)

        publish("plain", low=0, high=9, middle=5)

        assert drain("plain") == [b"low", b"high", b"middle"]
