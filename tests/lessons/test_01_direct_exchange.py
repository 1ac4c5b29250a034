"""Direct exchange: the routing key is an address.

A producer does not write into a queue. It gives the message to an exchange, with a routing key; the exchange decides
which queues get a copy. A direct exchange compares the key with the keys of its bindings, letter by letter, and every
queue that is bound with exactly this key gets the message. A message that fits no binding is gone, unless the producer
asked to be told.

In the order system `orders.direct` sends what carries the key `order` to the queue `orders`.

Spec: https://www.rabbitmq.com/docs/exchanges#direct
Code: rmqspec/orders/topology.py, rmqspec/orders/producer.py
"""

import pytest
from pika import BasicProperties

from rmqspec.client.errors import Returned
from rmqspec.orders import Order, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

# All that can be written on the envelope, but for the user's name: that one must be true.
ENVELOPE = BasicProperties(
    content_type="text/plain",
    content_encoding="utf-8",
    headers={"shop": "Ada", "items": 2},
    delivery_mode=2,
    priority=3,
    correlation_id="00-0001/1",
    reply_to="answers",
    expiration="60000",
    message_id="00-0001",
    timestamp=1_700_000_000,
    type="order",
    app_id="shop",
    cluster_id="old",
)


@pytest.fixture
def exchange(channel):
    channel.exchange_declare("post", "direct", durable=True)
    return "post"


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("DIRECT-01")
    @lie("binding-key-lost")
    def test_delivers_by_the_exact_routing_key(self, channel, exchange, bound_queue, drain):
        """The producer knows exchange and key, never the queue: who listens may change without it."""
        queue = bound_queue(exchange, "order")

        channel.basic_publish(exchange, "order", b"one keyboard")

        assert drain(queue) == [b"one keyboard"]

    @behaviour("PUB-04", "PUB-06")
    @pytest.mark.parametrize("body", [b"one keyboard", b""], ids=["body", "no_body"])
    @lie("delivery-mode-wrong")
    def test_delivers_what_was_published(self, channel, exchange, bound_queue, receive, body):
        """The broker reads some of what is on the envelope, changes none of it, and never opens the letter."""
        queue = bound_queue(exchange, "order")

        channel.basic_publish(exchange, "order", body, ENVELOPE)

        (delivery,) = receive(queue)
        assert (delivery.exchange, delivery.routing_key) == ("post", "order")
        assert (delivery.body, delivery.properties) == (body, ENVELOPE)

    @behaviour("DIRECT-01")
    @lie("direct-as-fanout")
    def test_keeps_out_a_message_with_another_key(self, channel, exchange, bound_queue, drain):
        """There are no wildcards here: `order` and `order.new` are two addresses."""
        queue = bound_queue(exchange, "order")

        channel.basic_publish(exchange, "order.new", b"not for you")
        channel.basic_publish(exchange, "order", b"for you")

        assert drain(queue) == [b"for you"]

    @behaviour("DIRECT-02")
    @lie("binding-key-lost")
    def test_copies_to_both_queues_under_one_key(self, channel, exchange, bound_queue, drain):
        """Two queues under one key is a copy for each, not a choice between them."""
        billing, shipping = bound_queue(exchange, "order"), bound_queue(exchange, "order")

        channel.basic_publish(exchange, "order", b"one mouse")

        assert drain(billing) == [b"one mouse"]
        assert drain(shipping) == [b"one mouse"]

    @behaviour("DIRECT-02")
    @lie("binding-key-lost")
    def test_collects_two_keys_in_one_queue(self, channel, exchange, bound_queue, drain):
        """A queue may have as many addresses as it likes."""
        queue = bound_queue(exchange, "order", "refund")

        channel.basic_publish(exchange, "order", b"an order")
        channel.basic_publish(exchange, "refund", b"a refund")

        assert drain(queue) == [b"an order", b"a refund"]

    @behaviour("DIRECT-01")
    @lie("direct-as-fanout")
    def test_tells_upper_case_keys_from_lower_case(self, channel, exchange, bound_queue, drain):
        """A key that was typed by hand in two places is the classic way to lose messages."""
        queue = bound_queue(exchange, "order")

        channel.basic_publish(exchange, "Order", b"lost")
        channel.basic_publish(exchange, "order", b"found")

        assert drain(queue) == [b"found"]

    @behaviour("BIND-04")
    @lie("unbind-ignored")
    def test_sends_nothing_more_once_unbound(self, channel, exchange, bound_queue, drain):
        """What is in the queue already stays there: unbinding turns off the tap, it does not empty the bath."""
        queue = bound_queue(exchange, "order")
        channel.basic_publish(exchange, "order", b"before")

        channel.queue_unbind(queue, exchange, "order")
        channel.basic_publish(exchange, "order", b"after")

        assert drain(queue) == [b"before"]

    @behaviour("DIRECT-01", "BIND-01")
    @lie("binding-key-lost")
    def test_delivers_one_copy_when_bound_twice(self, channel, exchange, bound_queue, drain):
        """Declaring the topology at every start is safe: the second bind changes nothing."""
        queue = bound_queue(exchange, "order", "order")

        channel.basic_publish(exchange, "order", b"one monitor")

        assert drain(queue) == [b"one monitor"]


class TestDefaultExchange:
    """The direct exchange without a name, to which every queue is bound by its own name."""

    @behaviour("XDEFAULT-01")
    @lie("look-at-empty")
    def test_reaches_a_queue_by_its_name(self, channel, drain):
        """It looks as if one could publish into a queue; it is this exchange that makes it look so."""
        channel.queue_declare("letters", durable=True)

        channel.basic_publish("", "letters", b"dear queue")

        assert drain("letters") == [b"dear queue"]


class TestProducer:
    """What our producer adds."""

    @lie("message-count-wrong")
    def test_sends_an_order_to_orders_only(self, orders, drain):
        """The key `order` is bound once; notifications and logs hear of an order only when a worker has it."""
        (order,) = sample_orders(1)

        orders.producer.publish(order)

        assert [parse(Order, body) for body in drain("orders")] == [order]
        assert [orders.depth(queue) for queue in ("notifications", "analytics", "logs", "orders.failed")] == [0] * 4

    @lie("return-address-lost")
    def test_is_told_when_an_order_finds_no_queue(self, channel, orders):
        """Every publish is mandatory: what the broker would drop in silence comes back as an error."""
        channel.queue_unbind("orders", "orders.direct", "order")
        (order,) = sample_orders(1)

        with pytest.raises(Returned, match="no queue is bound for it"):
            orders.producer.publish(order)

    @lie("message-count-wrong")
    def test_returns_when_the_order_is_confirmed(self, orders):
        """Behind a confirm the order is in its queue: no waiting, no hoping."""
        orders.producer.publish(*sample_orders(1))

        assert orders.producer.published == 1
        assert orders.depth("orders") == 1
