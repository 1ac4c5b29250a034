"""Direct exchange: messages are routed by an exact routing key.

A publisher does not publish to a queue. It publishes to an exchange, with a routing key, and the exchange decides which
queues get a copy. A queue is connected to an exchange by a binding, and the binding has a key too. A direct exchange
delivers a message to every queue whose binding key equals the routing key. A message that matches no binding is
dropped, unless it was published with the flag `mandatory`: then it is returned to its publisher.

In the order system the exchange `orders.direct` routes messages with the key `order` to the queue `orders`.

Spec: https://www.rabbitmq.com/docs/exchanges#direct
Code: rmqspec/orders/topology.py, rmqspec/orders/producer.py
Reference: DIRECT-01, DIRECT-02, BIND-01, BIND-04, XDEFAULT-01, PUB-04, PUB-06
"""

import pytest

from rmqspec.client.errors import Returned
from rmqspec.orders import Log, Order, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def exchange(channel):
    """A direct exchange without bindings."""
    channel.exchange_declare("post", "direct", durable=True)
    return "post"


class TestDirectExchange:
    """RabbitMQ: an exchange of type direct."""

    @behaviour("DIRECT-01")
    @lie("binding-key-lost")
    def test_delivers_by_exact_routing_key(self, channel):
        """The publisher knows exchange and routing key, never the queue: consumers may change without it."""
        channel.exchange_declare("shop", exchange_type="direct", durable=True)
        channel.queue_declare("orders", durable=True)
        channel.queue_bind("orders", "shop", routing_key="order")

        channel.basic_publish("shop", routing_key="order", body=b"one keyboard")

        _, _, body = channel.basic_get("orders", auto_ack=True)
        assert body == b"one keyboard"

    @behaviour("DIRECT-01")
    @lie("direct-as-fanout")
    def test_does_not_deliver_messages_with_another_routing_key(self, channel, exchange, bound_queue, drain):
        """There are no wildcards here: `order` and `order.new` are two different keys."""
        queue = bound_queue(exchange, "order")

        channel.basic_publish(exchange, "order.new", b"another key")
        channel.basic_publish(exchange, "order", b"this key")

        assert drain(queue) == [b"this key"]

    @behaviour("DIRECT-02")
    @lie("binding-takes-over")
    def test_copies_to_every_queue_bound_with_the_routing_key(self, channel, exchange, bound_queue, drain):
        """Two queues with one key get a copy each. To share the messages between consumers, use one queue."""
        billing = bound_queue(exchange, "order")
        shipping = bound_queue(exchange, "order")

        channel.basic_publish(exchange, "order", b"one mouse")

        assert drain(billing) == [b"one mouse"]
        assert drain(shipping) == [b"one mouse"]

    @behaviour("DIRECT-02")
    @lie("one-binding-per-queue")
    def test_delivers_to_one_queue_by_each_of_its_binding_keys(self, channel, exchange, bound_queue, drain):
        """A queue may have any number of bindings, so one consumer can serve several kinds of messages."""
        queue = bound_queue(exchange, "order", "refund")

        channel.basic_publish(exchange, "order", b"an order")
        channel.basic_publish(exchange, "refund", b"a refund")

        assert drain(queue) == [b"an order", b"a refund"]

    @behaviour("BIND-04")
    @lie("unbind-ignored")
    def test_stops_delivering_to_an_unbound_queue_which_keeps_its_messages(self, channel, exchange, bound_queue, drain):
        """Unbinding concerns later messages only. Those that were routed before must still be consumed."""
        queue = bound_queue(exchange, "order")
        channel.basic_publish(exchange, "order", b"before")

        channel.queue_unbind(queue, exchange, "order")
        channel.basic_publish(exchange, "order", b"after")

        assert drain(queue) == [b"before"]


class TestDefaultExchange:
    """RabbitMQ: the direct exchange with the empty name, to which every queue is bound by its own name."""

    @behaviour("XDEFAULT-01")
    @lie("key-lost")
    def test_delivers_to_the_queue_that_the_routing_key_names(self, channel, drain):
        """It looks as if one could publish to a queue directly. In fact the message goes through this exchange."""
        channel.queue_declare("letters", durable=True)

        channel.basic_publish(exchange="", routing_key="letters", body=b"dear queue")

        assert drain("letters") == [b"dear queue"]


class TestProducer:
    """Our producer: it publishes orders as mandatory messages, and waits for their confirms."""

    @lie("message-lost")
    def test_publishes_an_order_to_orders_and_to_no_other_queue(self, orders, drain):
        """The key `order` is bound once. That the order was created is published to another exchange, `logs.topic`."""
        (order,) = sample_orders(1)

        orders.producer.publish(order)

        assert [parse(Order, body) for body in drain("orders")] == [order]
        assert orders.depth("notifications") == 0
        assert orders.depth("analytics") == 0
        assert [parse(Log, body).event for body in drain("logs")] == ["order.created"]
        assert orders.depth("orders.failed") == 0

    @lie("message-lost")
    def test_publish_returns_after_the_order_is_confirmed_and_in_the_queue(self, orders):
        """After the confirm the order is in its queue; there is nothing left to wait for."""
        orders.producer.publish(*sample_orders(1))

        assert orders.producer.published == 1
        assert orders.depth("orders") == 1

    @lie("mandatory-lost")
    def test_raises_returned_for_an_order_that_no_binding_matches(self, channel, orders):
        """Without mandatory RabbitMQ would confirm the order and drop it."""
        channel.queue_unbind("orders", "orders.direct", "order")
        (order,) = sample_orders(1)

        with pytest.raises(Returned, match="no queue is bound for it"):
            orders.producer.publish(order)
