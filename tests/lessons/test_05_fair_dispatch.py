"""Fair dispatch: nobody is given more than they can hold.

The broker does not wait to be asked. It pushes messages to a consumer as fast as they come, so that the first consumer
may hold the whole queue in its memory while another stands idle. The prefetch count sets a limit: how many messages
may be with a consumer unacknowledged. With a limit of one, a message goes to whoever is free.

In the order system each worker has a prefetch count of one, because an order may take long.

Spec: https://www.rabbitmq.com/docs/consumer-prefetch
Code: rmqspec/client/consumer.py, rmqspec/orders/worker.py
"""

import threading

import pytest

from rmqspec.orders import Completed, Failures, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    """Five tasks are waiting in it."""
    channel.queue_declare("tasks", durable=True)
    for body in (b"1", b"2", b"3", b"4", b"5"):
        channel.basic_publish("", "tasks", body)
    return "tasks"


class Gate:
    """Stops a worker with an order in hand, until it is opened."""

    def __init__(self):
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, words):
        if words.startswith("took order"):
            self.reached.set()
            self.opened.wait()


@pytest.fixture
def gate(orders):
    """Opened at the end, before the order system waits for its workers."""
    gate = Gate()
    yield gate
    gate.opened.set()


class TestRabbitMQ:
    """What the broker promises. Only pika is used here. What it did not send, `drain` finds in the queue."""

    @behaviour("PREFETCH-05")
    @lie("delivered-twice")
    def test_pushes_everything_to_whoever_is_there(self, channel, queue, drain, subscribe_without_ack):
        """The second consumer comes to an empty queue, though the first has not begun with its second task."""
        greedy = subscribe_without_ack(channel, queue)

        assert greedy.wait_for(5) == [b"1", b"2", b"3", b"4", b"5"]
        assert drain(queue) == []

    @behaviour("PREFETCH-05")
    @lie("prefetch-one")
    def test_takes_zero_for_no_limit(self, channel, queue, drain, subscribe_without_ack):
        """Zero lifts a limit; it does not stop the deliveries, as one might think."""
        channel.basic_qos(prefetch_count=1)

        channel.basic_qos(prefetch_count=0)
        greedy = subscribe_without_ack(channel, queue)

        assert greedy.wait_for(5) == [b"1", b"2", b"3", b"4", b"5"]
        assert drain(queue) == []

    @behaviour("PREFETCH-03")
    @lie("prefetch-ignored")
    def test_leaves_the_rest_to_who_is_free(self, channel, queue, receive, subscribe_without_ack):
        """With a limit of one, the slow consumer keeps nobody waiting but the one task in its hand."""
        channel.basic_qos(prefetch_count=1)
        slow = subscribe_without_ack(channel, queue)

        fast = receive(queue, 4)

        assert [delivery.body for delivery in fast] == [b"2", b"3", b"4", b"5"]
        assert slow.wait_for(1) == [b"1"]

    @behaviour("PREFETCH-03")
    @lie("prefetch-ignored")
    def test_limits_what_is_held_not_what_is_sent(self, channel, queue, drain, subscribe_without_ack):
        """It is a window that moves with each acknowledgement, not a ration that is used up."""
        channel.basic_qos(prefetch_count=2)
        consumer = subscribe_without_ack(channel, queue)
        consumer.wait_for(2)

        channel.basic_ack(consumer.tags[0])

        assert consumer.wait_for(3) == [b"1", b"2", b"3"]
        assert drain(queue) == [b"4", b"5"]

    @behaviour("PREFETCH-02")
    @lie("prefetch-scope-changed")
    def test_gives_each_consumer_a_window_of_its_own(self, channel, queue, drain, subscribe_without_ack):
        """The limit is set on the channel and counted per consumer: two consumers may hold twice as much."""
        channel.basic_qos(prefetch_count=2)

        first, second = subscribe_without_ack(channel, queue), subscribe_without_ack(channel, queue)

        assert (first.wait_for(2), second.wait_for(2)) == ([b"1", b"2"], [b"3", b"4"])
        assert drain(queue) == [b"5"]

    @behaviour("PREFETCH-01")
    @lie("prefetch-scope-changed")
    def test_applies_a_new_limit_to_new_consumers_only(self, channel, queue, drain, subscribe_without_ack):
        """A running consumer keeps the limit that it was started with, and nothing says so."""
        channel.basic_qos(prefetch_count=1)
        first = subscribe_without_ack(channel, queue)

        channel.basic_qos(prefetch_count=3)
        second = subscribe_without_ack(channel, queue)

        assert second.wait_for(3) == [b"2", b"3", b"4"]
        assert (first.wait_for(1), drain(queue)) == ([b"1"], [b"5"])

    @behaviour("PREFETCH-01")
    @lie("prefetch-scope-changed")
    def test_raises_the_limit_by_subscribing_anew(self, channel, queue, drain, subscribe_without_ack):
        """A new subscription reads the limit again; what the old one holds is still held, and counts no more."""
        channel.basic_qos(prefetch_count=1)
        before = subscribe_without_ack(channel, queue)
        before.wait_for(1)

        channel.basic_cancel(before.consumer_tag)
        channel.basic_qos(prefetch_count=3)
        again = subscribe_without_ack(channel, queue)

        assert again.wait_for(3) == [b"2", b"3", b"4"]
        assert (before.bodies, drain(queue)) == ([b"1"], [b"5"])

    @behaviour("PREFETCH-04")
    @lie("acks-awaited")
    def test_has_no_limit_under_auto_ack(self, channel, queue, drain, subscribe_without_ack):
        """Nothing is ever unacknowledged there, so nothing is counted: the two settings look safe together."""
        channel.basic_qos(prefetch_count=1)

        consumer = subscribe_without_ack(channel, queue, auto_ack=True)

        assert consumer.wait_for(5) == [b"1", b"2", b"3", b"4", b"5"]
        assert drain(queue) == []

    @behaviour("GET-03", "PREFETCH-06")
    @lie("ack-multiple-always")
    def test_keeps_gets_out_of_the_window(self, channel, queue, get_without_ack, drain, subscribe_without_ack):
        """A get is asked for, not pushed: it neither heeds the window nor, once acknowledged, moves it."""
        channel.basic_qos(prefetch_count=1)
        consumer = subscribe_without_ack(channel, queue)

        tag, body = get_without_ack(channel, queue)
        channel.basic_ack(tag)

        assert (consumer.wait_for(1), body) == ([b"1"], b"2")
        assert drain(queue) == [b"3", b"4", b"5"]

    @behaviour("GLOBALQOS-01")
    @pytest.mark.rabbitmq(before="4.3")
    @lie("prefetch-scope-changed")
    def test_shares_a_global_window_in_the_channel(self, channel, queue, drain, subscribe_without_ack):
        """With `global` all consumers of a channel hold no more than this between them."""
        channel.basic_qos(prefetch_count=3, global_qos=True)

        first, second = subscribe_without_ack(channel, queue), subscribe_without_ack(channel, queue)

        assert (first.wait_for(3), second.bodies) == ([b"1", b"2", b"3"], [])
        assert drain(queue) == [b"4", b"5"]

    @behaviour("GLOBALQOS-04")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("prefetch-ignored")
    def test_counts_a_global_window_per_consumer(self, channel, queue, drain, subscribe_without_ack):
        """The trap of the upgrade: `global` is still answered with ok, and means what it does without it."""
        channel.basic_qos(prefetch_count=2, global_qos=True)

        first, second = subscribe_without_ack(channel, queue), subscribe_without_ack(channel, queue)

        assert (first.wait_for(2), second.wait_for(2)) == ([b"1", b"2"], [b"3", b"4"])
        assert drain(queue) == [b"5"]

    @behaviour("GLOBALQOS-02")
    @pytest.mark.rabbitmq(before="4.3")
    @lie("prefetch-scope-changed")
    def test_widens_a_global_window_at_once(self, channel, queue, drain, subscribe_without_ack):
        """A limit of the channel is one number that all its consumers look at, those that run already too."""
        channel.basic_qos(prefetch_count=1, global_qos=True)
        consumer = subscribe_without_ack(channel, queue)
        consumer.wait_for(1)

        channel.basic_qos(prefetch_count=3, global_qos=True)

        assert consumer.wait_for(3) == [b"1", b"2", b"3"]
        assert drain(queue) == [b"4", b"5"]

    @behaviour("GLOBALQOS-04")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("prefetch-ignored")
    def test_widens_a_global_window_for_new_consumers(self, channel, queue, drain, subscribe_without_ack):
        """What used to speed up a running consumer now passes it by, and the reply is the same."""
        channel.basic_qos(prefetch_count=1, global_qos=True)
        first = subscribe_without_ack(channel, queue)

        channel.basic_qos(prefetch_count=3, global_qos=True)
        second = subscribe_without_ack(channel, queue)

        assert second.wait_for(3) == [b"2", b"3", b"4"]
        assert (first.wait_for(1), drain(queue)) == ([b"1"], [b"5"])


class TestWorker:
    """What our worker adds."""

    @lie("prefetch-ignored")
    def test_holds_one_order_at_a_time(self, orders, gate, patience):
        """Orders that wait in the queue are seen there and may go to anybody; in a worker's memory nobody sees them."""
        for order in sample_orders(3):
            orders.producer.publish(order)

        orders.start(lambda source: Worker(source, say=gate))

        assert gate.reached.wait(patience)
        assert orders.depth("orders") == 2

    @lie("prefetch-ignored")
    def test_leaves_the_rest_to_a_faster_one(self, orders, gate, receive, patience):
        """One order that takes an hour holds up itself and no other."""
        for order in sample_orders(4):
            orders.producer.publish(order)
        orders.start(lambda source: Worker(source, "slow", Failures(rate=0), say=gate))
        assert gate.reached.wait(patience)

        orders.start(lambda source: Worker(source, "fast", Failures(rate=0)))
        deliveries = receive("notifications", 3)
        gate.opened.set()
        deliveries += receive("notifications")

        done = [parse(Completed, delivery.body) for delivery in deliveries]
        assert [event.worker for event in done] == ["fast", "fast", "fast", "slow"]
        assert [event.order_id for event in done] == ["00-0002", "00-0003", "00-0004", "00-0001"]
