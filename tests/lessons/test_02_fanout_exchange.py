"""Fanout exchange: everybody who listens hears it.

A fanout exchange has no addresses. Each queue that is bound to it gets a copy of each message, whatever the routing
key says. So the one who publishes need not know who listens, nor how many: another listener binds another queue, and
nothing else changes. Each copy lives in its own queue; it is consumed, kept or lost there, and the others stay.

In the order system a worker tells `events.fanout` that an order is completed. The queue `notifications` gets a copy
for the customer, and the queue `analytics` gets one for the totals.

Spec: https://www.rabbitmq.com/docs/exchanges#fanout
Code: rmqspec/orders/worker.py, rmqspec/orders/notification.py, rmqspec/orders/analytics.py
"""

import pytest

from rmqspec.orders import Analytics, Completed, Failures, Notification, Order, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def exchange(channel):
    channel.exchange_declare("news", "fanout", durable=True)
    return "news"


def faultless(source):
    """A worker that fails no order."""
    return Worker(source, failures=Failures(rate=0))


def completed_ids(bodies):
    return [parse(Completed, body).order_id for body in bodies]


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("DIRECT-03")
    @lie("binding-lost")
    def test_copies_to_every_bound_queue(self, channel, exchange, bound_queue, drain):
        """One publish is enough for any number of listeners: the broker copies, not the producer."""
        queues = [bound_queue(exchange), bound_queue(exchange), bound_queue(exchange)]

        channel.basic_publish(exchange, "", b"we open")

        assert [drain(queue) for queue in queues] == [[b"we open"], [b"we open"], [b"we open"]]

    @behaviour("DIRECT-03")
    @lie("fanout-as-direct")
    def test_ignores_the_routing_key(self, channel, exchange, bound_queue, drain):
        """A key on either side is accepted and means nothing: to filter by it, take a direct or a topic exchange."""
        queue = bound_queue(exchange, "sport")

        channel.basic_publish(exchange, "sport", b"same key")
        channel.basic_publish(exchange, "weather", b"another key")
        channel.basic_publish(exchange, "", b"no key")

        assert drain(queue) == [b"same key", b"another key", b"no key"]

    @behaviour("DIRECT-03", "BIND-01")
    @lie("binding-lost")
    def test_copies_once_to_a_queue_with_two_keys(self, channel, exchange, bound_queue, drain):
        """Two bindings are two reasons to get a message, not two messages."""
        queue = bound_queue(exchange, "sport", "weather")

        channel.basic_publish(exchange, "sport", b"we open")

        assert drain(queue) == [b"we open"]

    @behaviour("DIRECT-03")
    @lie("binding-lost")
    def test_keeps_nothing_for_a_queue_bound_later(self, channel, exchange, bound_queue, drain):
        """An exchange stores nothing. Who wants every message binds a durable queue before the first is published."""
        early = bound_queue(exchange)
        channel.basic_publish(exchange, "", b"yesterday's")

        late = bound_queue(exchange)
        channel.basic_publish(exchange, "", b"today's")

        assert drain(early) == [b"yesterday's", b"today's"]
        assert drain(late) == [b"today's"]

    @behaviour("DIRECT-03")
    @lie("ack-requeues")
    def test_keeps_a_copy_when_the_other_is_read(self, channel, exchange, bound_queue, drain, receive):
        """An acknowledgement counts in one queue: a fast listener takes nothing from a slow one."""
        fast, slow = bound_queue(exchange), bound_queue(exchange)
        channel.basic_publish(exchange, "", b"we open")

        (delivery,) = receive(fast)

        assert (delivery.body, drain(fast)) == (b"we open", [])
        assert drain(slow) == [b"we open"]

    @behaviour("DIRECT-03", "BIND-04")
    @lie("unbind-ignored")
    def test_stops_copying_to_the_unbound_queue_only(self, channel, exchange, bound_queue, drain):
        """One listener may leave without asking the others."""
        leaving, staying = bound_queue(exchange), bound_queue(exchange)

        channel.queue_unbind(leaving, exchange, "")
        channel.basic_publish(exchange, "", b"we close")

        assert drain(leaving) == []
        assert drain(staying) == [b"we close"]


class TestWorker:
    """What our worker adds."""

    @lie("message-count-wrong")
    def test_tells_both_listeners_of_each_order_once(self, orders, receive, drain):
        """A customer who is told twice asks what he will be billed."""
        worker = orders.start(faultless)
        for order in sample_orders(3):
            orders.producer.publish(order)

        told = receive("notifications", 3)
        orders.halt(worker)  # it has said all that it has to say

        assert completed_ids(delivery.body for delivery in told) == ["00-0001", "00-0002", "00-0003"]
        assert orders.depth("notifications") == 0
        assert completed_ids(drain("analytics")) == ["00-0001", "00-0002", "00-0003"]

    @lie("ack-rejects")
    def test_tells_nobody_of_an_order_that_fails(self, orders, receive, drain):
        """What is on `events.fanout` is done. A failed order goes to `orders.failed`, where a person looks at it."""
        failures = Failures(rate=0.5, seed=1)  # of the first two orders it hits the first
        worker = orders.start(lambda source: Worker(source, failures=failures))
        for order in sample_orders(2):
            orders.producer.publish(order)

        told = receive("notifications")
        orders.halt(worker)

        assert completed_ids(delivery.body for delivery in told) == ["00-0002"]
        assert orders.depth("notifications") == 0
        assert [parse(Order, body).order_id for body in drain("orders.failed")] == ["00-0001"]


class TestNotification:
    """Our first listener."""

    @lie("topic-as-direct")
    def test_hears_what_it_missed_while_away(self, orders, eventually):
        """Its durable queue stands there without it and collects: the queue listens, the service only reads."""
        orders.start(faultless)
        for order in sample_orders(2):
            orders.producer.publish(order)
        eventually(lambda: orders.depth("notifications"), 2)

        notification = orders.start(Notification)

        eventually(lambda: notification.notified, ["00-0001", "00-0002"])


class TestAnalytics:
    """Our second listener."""

    @lie("topic-as-direct")
    def test_adds_up_what_the_customers_were_told(self, orders, eventually):
        """The two run side by side on the same events, and neither knows of the other."""
        notification = orders.start(Notification)
        analytics = orders.start(Analytics)
        orders.start(faultless)

        for order in sample_orders(3):
            orders.producer.publish(order)

        eventually(lambda: notification.notified, ["00-0001", "00-0002", "00-0003"])
        eventually(lambda: (analytics.orders, analytics.revenue_cents), (3, 115_467))
