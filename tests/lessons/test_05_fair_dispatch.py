"""Fair dispatch: prefetch limits how many unacked messages a consumer holds.

RabbitMQ does not wait for a consumer to ask. It pushes messages as fast as they arrive, so one consumer may hold the
whole queue in its memory while another one is idle. `basic.qos` sets a prefetch count: how many messages may be
delivered to a consumer and not yet acknowledged. With a prefetch of one, the next message goes to whoever is free.

Which number? One is fair and pays a round trip for every message; with 100 the same consumer was about three times as
fast in our measurement. In the order system each worker has a prefetch of one, because an order may take a long time.

Spec: https://www.rabbitmq.com/docs/consumer-prefetch
Code: rmqspec/client/consumer.py, rmqspec/orders/worker.py
Reference: PREFETCH-01…06, GLOBALQOS-01, GLOBALQOS-02, GLOBALQOS-04, GET-03
"""

import threading

import pytest

from rmqspec.orders import Completed, Failures, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


@pytest.fixture
def queue(channel):
    """A queue with five messages, 1 to 5."""
    channel.queue_declare("tasks", durable=True)
    for body in (b"1", b"2", b"3", b"4", b"5"):
        channel.basic_publish("", "tasks", body)
    return "tasks"


class TestNoPrefetch:
    """RabbitMQ: deliveries where `basic.qos` was not sent."""

    @behaviour("PREFETCH-05")
    @lie("default-prefetch-one")
    def test_delivers_the_whole_queue_to_the_first_consumer(self, connection, channel, queue, drain, served):
        """A second consumer that starts now gets nothing, although the first has not finished a single message."""
        received = []
        channel.basic_consume(queue, lambda _channel, _method, _properties, body: received.append(body))

        served(connection, lambda: received, [b"1", b"2", b"3", b"4", b"5"])
        assert drain(queue) == []


class TestBasicQosPrefetch:
    """RabbitMQ: the prefetch count that `basic.qos` sets."""

    @behaviour("PREFETCH-03")
    @lie("prefetch-ignored")
    def test_of_one_leaves_the_other_messages_to_free_consumers(self, channel, queue, receive, subscribe_without_ack):
        """With a prefetch of one, a slow consumer delays one message: the one it is working on."""
        channel.basic_qos(prefetch_count=1)
        slow = subscribe_without_ack(channel, queue)

        others = receive(queue, 4)

        assert slow.wait_for(1) == [b"1"]
        assert [delivery.body for delivery in others] == [b"2", b"3", b"4", b"5"]

    @behaviour("PREFETCH-03")
    @lie("ack-swallowed")
    def test_limits_unacked_messages_and_refills_on_each_ack(self, channel, queue, drain, subscribe_without_ack):
        """It is a window, not a quota: every ack makes room for one more delivery."""
        channel.basic_qos(prefetch_count=2)
        consumer = subscribe_without_ack(channel, queue)
        consumer.wait_for(2)

        channel.basic_ack(consumer.tags[0])

        assert consumer.wait_for(3) == [b"1", b"2", b"3"]
        assert drain(queue) == [b"4", b"5"]

    @behaviour("PREFETCH-02")
    @lie("prefetch-scope-changed")
    def test_limits_unacked_messages_per_consumer_and_not_per_channel(
        self, channel, queue, drain, subscribe_without_ack
    ):
        """`basic.qos` is sent on a channel, yet two consumers on that channel may together have twice the limit."""
        channel.basic_qos(prefetch_count=2)

        first = subscribe_without_ack(channel, queue)
        second = subscribe_without_ack(channel, queue)

        assert first.wait_for(2) == [b"1", b"2"]
        assert second.wait_for(2) == [b"3", b"4"]
        assert drain(queue) == [b"5"]

    @behaviour("PREFETCH-01")
    @lie("prefetch-scope-changed")
    def test_applies_only_to_consumers_started_afterwards(self, channel, queue, drain, subscribe_without_ack):
        """The commonest mistake: `basic.qos` after `basic.consume` has no effect on that consumer, without an error."""
        channel.basic_qos(prefetch_count=1)
        first = subscribe_without_ack(channel, queue)

        channel.basic_qos(prefetch_count=3)
        second = subscribe_without_ack(channel, queue)

        assert second.wait_for(3) == [b"2", b"3", b"4"]
        assert first.wait_for(1) == [b"1"]
        assert drain(queue) == [b"5"]

    @behaviour("PREFETCH-05")
    @lie("prefetch-one")
    def test_of_zero_means_no_limit(self, channel, queue, subscribe_without_ack):
        """Zero removes the limit. It does not stop deliveries, as one might think."""
        channel.basic_qos(prefetch_count=1)
        channel.basic_qos(prefetch_count=0)

        consumer = subscribe_without_ack(channel, queue)

        assert consumer.wait_for(5) == [b"1", b"2", b"3", b"4", b"5"]

    @behaviour("PREFETCH-04")
    @lie("acks-awaited")
    def test_is_ignored_under_auto_ack(self, channel, queue, subscribe_without_ack):
        """Messages are acked when they are sent, so none is ever unacked: prefetch does not protect the consumer."""
        channel.basic_qos(prefetch_count=1)

        consumer = subscribe_without_ack(channel, queue, auto_ack=True)

        assert consumer.wait_for(5) == [b"1", b"2", b"3", b"4", b"5"]


class TestGlobalPrefetch:
    """RabbitMQ: `basic.qos` with `global`, which changed its meaning in 4.3."""

    @behaviour("GLOBALQOS-01")
    @rabbitmq(before="4.3")
    @lie("prefetch-scope-changed")
    def test_is_shared_by_all_consumers_of_the_channel_before_4_3(self, channel, queue, drain, subscribe_without_ack):
        """Together they have no more unacked messages than this: a busy consumer can starve its neighbour."""
        channel.basic_qos(prefetch_count=3, global_qos=True)

        first = subscribe_without_ack(channel, queue)
        second = subscribe_without_ack(channel, queue)

        assert first.wait_for(3) == [b"1", b"2", b"3"]
        assert second.bodies == []
        assert drain(queue) == [b"4", b"5"]

    @behaviour("GLOBALQOS-04")
    @rabbitmq(since="4.3")
    @lie("prefetch-one")
    def test_is_applied_to_each_consumer_since_4_3(self, channel, queue, drain, subscribe_without_ack):
        """The trap of the upgrade: `global` is still answered with ok, and means what `basic.qos` means without it."""
        channel.basic_qos(prefetch_count=2, global_qos=True)

        first = subscribe_without_ack(channel, queue)
        second = subscribe_without_ack(channel, queue)

        assert first.wait_for(2) == [b"1", b"2"]
        assert second.wait_for(2) == [b"3", b"4"]
        assert drain(queue) == [b"5"]


class TestWorker:
    """Our worker: a prefetch of one."""

    @lie("prefetch-ignored")
    def test_has_one_unacked_order_at_a_time_and_leaves_the_others_in_the_queue(self, orders, gate, wait_limit):
        """An order in a worker's memory is not visible and cannot go to another worker."""
        for order in sample_orders(3):
            orders.producer.publish(order)

        orders.start(lambda source: Worker(source, say=gate))

        assert gate.reached.wait(wait_limit)
        assert orders.depth("orders") == 2

    @lie("prefetch-one-more")
    def test_leaves_waiting_orders_to_a_faster_worker(self, orders, gate, receive, wait_limit):
        """An order that takes an hour delays no other order."""
        for order in sample_orders(4):
            orders.producer.publish(order)
        orders.start(lambda source: Worker(source, "slow", Failures(rate=0), say=gate))
        assert gate.reached.wait(wait_limit)

        orders.start(lambda source: Worker(source, "fast", Failures(rate=0)))
        events = receive("notifications", 3)
        gate.opened.set()
        events += receive("notifications")

        completed = [parse(Completed, event.body) for event in events]
        assert [event.worker for event in completed] == ["fast", "fast", "fast", "slow"]
        assert [event.order_id for event in completed] == ["00-0002", "00-0003", "00-0004", "00-0001"]


class Gate:
    """Stops a worker while it holds an order, until the gate is opened."""

    def __init__(self):
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, words):
        if words.startswith("took order"):
            self.reached.set()
            self.opened.wait()


@pytest.fixture
def gate(orders):
    """Opened at the end of the test, before the order system waits for its workers."""
    gate = Gate()
    yield gate
    gate.opened.set()
