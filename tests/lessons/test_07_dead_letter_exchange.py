"""Dead letters: where rejected, expired and overflowing messages go.

A queue may name a dead-letter exchange. Four things make a message of that queue a dead letter: a consumer rejects it
without requeue, its TTL expires, the queue is full and drops it, or it exceeds the delivery limit of a quorum queue.
RabbitMQ then publishes it to the dead-letter exchange, with a header `x-death` that says what happened and where.
Without a dead-letter exchange the message is deleted.

In the order system the queue `orders` names the exchange `orders.dlx`, which is bound to the queue `orders.failed`.
Our worker rejects an order that fails. A person looks at `orders.failed`, removes the cause, and sends the order again.
A message that is not an order at all is published there by the worker itself, because a reject cannot carry a reason.

Spec: https://www.rabbitmq.com/docs/dlx
Code: rmqspec/orders/topology.py, rmqspec/orders/worker.py, rmqspec/orders/dead_letters.py
Reference: DLX-01, DLX-02, POISON-01, XDEATH-01, XDEATH-04…06, XDEATH-09, XDEATH-15, XDEATH-16
"""

import pytest
from pika import BasicProperties

from rmqspec.orders import REASON_HEADER, Completed, Failures, Worker, parse, replay, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def declare(channel):
    """Declares `orders` with these arguments, and `orders.failed` behind the dead-letter exchange `orders.dlx`."""

    def declare_both(**arguments):
        channel.exchange_declare("orders.dlx", "fanout", durable=True)
        channel.queue_declare("orders.failed", durable=True)
        channel.queue_bind("orders.failed", "orders.dlx")
        channel.queue_declare("orders", durable=True, arguments={"x-dead-letter-exchange": "orders.dlx"} | arguments)

    return declare_both


class TestDeadLetterExchange:
    """RabbitMQ: the messages that a dead-letter exchange receives."""

    @behaviour("DLX-01")
    @lie("dead-letter-exchange-lost")
    def test_receives_messages_rejected_without_requeue(self, channel, receive):
        """The consumer has decided that another try would not help. Somebody can still look at the message."""
        channel.exchange_declare("orders.dlx", exchange_type="fanout", durable=True)
        channel.queue_declare("orders.failed", durable=True)
        channel.queue_bind("orders.failed", "orders.dlx")
        channel.queue_declare("orders", durable=True, arguments={"x-dead-letter-exchange": "orders.dlx"})
        channel.basic_publish("", "orders", b"no such customer")

        method, _, _ = channel.basic_get("orders")
        channel.basic_reject(method.delivery_tag, requeue=False)

        (dead,) = receive("orders.failed")
        assert dead.body == b"no such customer"
        assert dead.died_of == "rejected"

    @behaviour("DLX-02", "TTL-02")
    @lie("dead-letter-exchange-lost")
    def test_receives_messages_that_have_expired(self, channel, declare, receive):
        """No consumer was there in time. While all consumers are down, only the dead letters show it."""
        declare()
        one_millisecond = BasicProperties(expiration="1")

        channel.basic_publish("", "orders", b"for today", one_millisecond)

        (dead,) = receive("orders.failed")
        assert dead.body == b"for today"
        assert dead.died_of == "expired"

    @behaviour("DLX-02", "MAXLEN-10")
    @lie("dead-letter-exchange-lost")
    def test_receives_the_oldest_message_when_a_full_queue_overflows(self, channel, declare, receive, drain):
        """A full queue accepts the new message and drops its oldest one. Only the dead letters show it."""
        declare(**{"x-max-length": 2})

        channel.basic_publish("", "orders", b"first")
        channel.basic_publish("", "orders", b"second")
        channel.basic_publish("", "orders", b"third")

        (dead,) = receive("orders.failed")
        assert dead.body == b"first"
        assert dead.died_of == "maxlen"
        assert drain("orders") == [b"second", b"third"]

    @behaviour("DLX-02", "POISON-01")
    @lie("delivery-limit-lost")
    def test_receives_messages_that_exceed_the_delivery_limit_of_a_quorum_queue(
        self, channel, declare, get_without_ack, receive
    ):
        """The consumer asks for one more try, and the broker ends it: here the first failure is one too many."""
        declare(**{"x-queue-type": "quorum", "x-delivery-limit": 0})
        channel.basic_publish("", "orders", b"poison")
        tag, _ = get_without_ack(channel, "orders")

        channel.basic_reject(tag, requeue=True)

        (dead,) = receive("orders.failed")
        assert dead.body == b"poison"
        assert dead.died_of == "delivery_limit"


class TestQueueWithoutDeadLetterExchange:
    """RabbitMQ: the same reject on a queue that names no dead-letter exchange."""

    @behaviour("DLX-01", "NACK-01")
    @lie("discard-requeues")
    def test_deletes_messages_rejected_without_requeue(self, channel, get_without_ack, receive, drain, declare):
        """Nothing reports the loss: the consumer's reject is accepted in both cases."""
        declare()
        channel.queue_declare("plain", durable=True)
        channel.basic_publish("", "plain", b"lost")
        channel.basic_publish("", "orders", b"kept")

        for queue in ("plain", "orders"):
            tag, _ = get_without_ack(channel, queue)
            channel.basic_reject(tag, requeue=False)

        (dead,) = receive("orders.failed")
        assert dead.body == b"kept"
        assert drain("plain") == []
        assert drain("orders.failed") == []


class TestDeadLetterHeaders:
    """RabbitMQ: the history that it adds to the headers of a dead letter."""

    @behaviour("XDEATH-01")
    @lie(
        "x-death-reason-wrong",
        "x-death-queue-wrong",
        "x-death-exchange-wrong",
        "x-death-keys-wrong",
        "x-death-count-wrong",
    )
    def test_record_reason_queue_exchange_routing_keys_and_count_in_x_death(self, rejected):
        """This is enough to find the cause, and to publish the message again where it was first published."""
        dead = rejected()

        (death,) = dead.headers.get("x-death", [])
        assert death["reason"] == "rejected"
        assert death["queue"] == "work"
        assert death["exchange"] == "shop"
        assert death["routing-keys"] == ["order"]
        assert death["count"] == 1
        assert death["time"].year > 2000


ORDER = '{"order_id": "7", "customer": "Ada", "items": [{"sku": "mouse", "quantity": 1, "unit_price_cents": 2450}]}'

NOT_ORDERS = {
    "nothing": ("", "body: Invalid JSON: EOF while parsing"),
    "a_megabyte_of_nothing": (" " * 10**6, "body: Invalid JSON: EOF while parsing"),
    "prose": ("two mice, please", "body: Invalid JSON: expected ident"),
    "half_an_order": (ORDER[:40], "body: Invalid JSON: EOF while parsing"),
    "too_deep": ("[" * 1000, "body: Invalid JSON: recursion limit exceeded"),
    "not_utf8": (ORDER.replace("Ada", "\udcff"), "body: Invalid JSON: invalid unicode code point"),
    "a_list_of_orders": (f"[{ORDER}]", "body: Input should be an object"),
    "missing_field": ('{"order_id": "7", "customer": "Ada"}', "items: Field required"),
    "unknown_field": (ORDER.replace("sku", "isbn"), "items.0.sku: Field required; items.0.isbn: Extra inputs"),
    "number_for_a_name": (ORDER.replace('"7"', "7"), "order_id: Input should be a valid string"),
    "text_for_a_number": (ORDER.replace("1", '"1"'), "items.0.quantity: Input should be a valid integer"),
    "negative_quantity": (ORDER.replace("1", "-1"), "items.0.quantity: Input should be greater than 0"),
}


class TestWorker:
    """Our worker: orders that fail, and messages that are not orders."""

    @lie("dead-letter-exchange-lost")
    def test_rejects_failed_orders_which_are_dead_lettered_to_orders_failed(self, orders, receive):
        """Acknowledged, a failed order would be gone. Requeued, it would fail again and again without end."""
        (order,) = sample_orders(1)
        orders.producer.publish(order)

        orders.start(lambda source: Worker(source, failures=Failures(rate=1.0)))

        (dead,) = receive("orders.failed")
        assert dead.body == order.to_json()
        assert dead.died_of == "rejected"

    @lie("headers-lost")
    @pytest.mark.parametrize(("text", "reason"), NOT_ORDERS.values(), ids=NOT_ORDERS)
    def test_publishes_invalid_messages_to_orders_failed_with_the_reason(self, text, reason, channel, orders, receive):
        """One invalid message must not stop the shop: the order behind it is completed."""
        invalid = text.encode(errors="surrogateescape")
        channel.basic_publish("orders.direct", "order", invalid)
        orders.producer.publish(*sample_orders(1))

        orders.start(Worker)

        (event,) = receive("notifications")
        assert parse(Completed, event.body).order_id == "00-0001"
        (dead,) = receive("orders.failed")
        assert dead.body == invalid
        assert dead.headers.get(REASON_HEADER, "").startswith(reason)


class TestReplay:
    """Our `replay`: it sends the orders in `orders.failed` again."""

    @pytest.fixture
    def failed_order(self, orders, eventually):
        """An order in `orders.failed`; the worker that rejected it has stopped."""
        (order,) = sample_orders(1)
        orders.producer.publish(order)
        worker = orders.start(lambda source: Worker(source, failures=Failures(rate=1.0)))
        eventually(lambda: orders.depth("orders.failed"), 1)
        orders.halt(worker)
        return order

    @lie("look-at-empty")
    def test_moves_failed_orders_back_to_the_queue_orders_where_a_worker_completes_them(
        self, failed_order, url, orders, receive
    ):
        """Once the cause is removed, a failed order is an order like any other."""
        replayed = replay(url)

        orders.start(Worker)

        assert replayed == 1
        (event,) = receive("notifications")
        assert parse(Completed, event.body).order_id == failed_order.order_id
        assert orders.depth("orders.failed") == 0
