"""Fanout exchange: every bound queue gets a copy of every message.

A fanout exchange ignores routing keys. Each queue that is bound to it gets a copy of each message. So a publisher need
not know who consumes its messages, nor how many consumers there are: for one more consumer another queue is bound, and
nothing else changes. The copies are independent: each is consumed, expires or is lost in its own queue.

In the order system a worker publishes an event to `events.fanout` when an order is completed. The queue
`notifications` gets a copy for the customer, and the queue `analytics` gets one for the totals.

Spec: https://www.rabbitmq.com/docs/exchanges#fanout
Code: rmqspec/orders/worker.py, rmqspec/orders/notification.py, rmqspec/orders/analytics.py
Reference: DIRECT-03, BIND-01, BIND-04
"""

import pytest

from rmqspec.orders import Analytics, Completed, Failures, Notification, Order, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def exchange(channel):
    """A fanout exchange without bindings."""
    channel.exchange_declare("news", "fanout", durable=True)
    return "news"


def faultless(source):
    """A worker that fails no order."""
    return Worker(source, failures=Failures(rate=0))


def completed_ids(bodies):
    """The order ids of these events."""
    return [parse(Completed, body).order_id for body in bodies]


class TestFanoutExchange:
    """RabbitMQ: an exchange of type fanout."""

    @behaviour("DIRECT-03")
    @lie("binding-takes-over")
    def test_copies_each_message_to_every_bound_queue(self, channel, drain):
        """One publish is enough for any number of queues: RabbitMQ makes the copies, not the publisher."""
        channel.exchange_declare("news", exchange_type="fanout", durable=True)
        for queue in ("paper", "radio", "television"):
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, "news", routing_key="")

        channel.basic_publish("news", routing_key="", body=b"we open")

        assert drain("paper") == [b"we open"]
        assert drain("radio") == [b"we open"]
        assert drain("television") == [b"we open"]

    @behaviour("DIRECT-03")
    @lie("fanout-as-direct")
    def test_ignores_the_routing_key(self, channel, exchange, bound_queue, drain):
        """Keys are accepted in publish and binding and have no effect. To filter, use a direct or topic exchange."""
        queue = bound_queue(exchange, "sport")

        channel.basic_publish(exchange, "sport", b"same key")
        channel.basic_publish(exchange, "weather", b"another key")
        channel.basic_publish(exchange, "", b"no key")

        assert drain(queue) == [b"same key", b"another key", b"no key"]

    @behaviour("DIRECT-03")
    @lie("history-delivered")
    def test_stores_no_messages_for_queues_that_are_bound_later(self, channel, exchange, bound_queue, drain):
        """To miss no message, a consumer needs a durable queue that is bound before the first publish."""
        early = bound_queue(exchange)
        channel.basic_publish(exchange, "", b"yesterday's")

        late = bound_queue(exchange)
        channel.basic_publish(exchange, "", b"today's")

        assert drain(early) == [b"yesterday's", b"today's"]
        assert drain(late) == [b"today's"]

    @behaviour("DIRECT-03")
    @lie("binding-takes-over")
    def test_keeps_the_copy_in_one_queue_when_the_copy_in_another_is_acked(
        self, channel, exchange, bound_queue, drain, receive
    ):
        """An ack concerns one queue only: a fast consumer takes nothing from a slow one."""
        slow = bound_queue(exchange)
        fast = bound_queue(exchange)
        channel.basic_publish(exchange, "", b"we open")

        (acked,) = receive(fast)

        assert acked.body == b"we open"
        assert drain(fast) == []
        assert drain(slow) == [b"we open"]


class TestWorker:
    """Our worker: it publishes an event for each completed order to `events.fanout`."""

    @lie("binding-takes-over")
    def test_publishes_one_event_per_completed_order_to_notifications_and_to_analytics(self, orders, receive, drain):
        """A customer who gets two notifications for one order asks whether it will be billed twice."""
        worker = orders.start(faultless)
        for order in sample_orders(3):
            orders.producer.publish(order)

        events = receive("notifications", 3)
        orders.halt(worker)  # it has published all its events

        assert completed_ids(event.body for event in events) == ["00-0001", "00-0002", "00-0003"]
        assert orders.depth("notifications") == 0
        assert completed_ids(drain("analytics")) == ["00-0001", "00-0002", "00-0003"]

    @lie("message-count-wrong")
    def test_publishes_no_event_for_a_failed_order(self, orders, receive, drain):
        """An event means that the order is completed. A failed order goes to `orders.failed` and nowhere else."""
        failures = Failures(rate=0.5, seed=1)  # of the first two orders the first one fails
        worker = orders.start(lambda source: Worker(source, failures=failures))
        for order in sample_orders(2):
            orders.producer.publish(order)

        events = receive("notifications")
        orders.halt(worker)

        assert completed_ids(event.body for event in events) == ["00-0002"]
        assert orders.depth("notifications") == 0
        assert [parse(Order, body).order_id for body in drain("orders.failed")] == ["00-0001"]


class TestNotification:
    """Our notification service: it consumes `notifications`."""

    @lie("binding-takes-over")
    def test_receives_events_that_were_published_before_it_started(self, orders, eventually):
        """Its durable queue collects them. What is bound to the exchange is the queue, not the service."""
        orders.start(faultless)
        for order in sample_orders(2):
            orders.producer.publish(order)
        eventually(lambda: orders.depth("notifications"), 2)

        notification = orders.start(Notification)

        eventually(lambda: notification.notified, ["00-0001", "00-0002"])


class TestAnalytics:
    """Our analytics service: it consumes `analytics`."""

    @lie("binding-takes-over")
    def test_counts_the_same_orders_that_notification_receives(self, orders, eventually):
        """Both services get each event from queues of their own, and neither knows of the other."""
        notification = orders.start(Notification)
        analytics = orders.start(Analytics)
        orders.start(faultless)

        for order in sample_orders(3):
            orders.producer.publish(order)

        eventually(lambda: notification.notified, ["00-0001", "00-0002", "00-0003"])
        eventually(lambda: analytics.orders, 3)
        eventually(lambda: analytics.revenue_cents, 115_467)
