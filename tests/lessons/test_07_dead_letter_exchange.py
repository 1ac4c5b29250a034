"""Dead letters: where a message goes that nobody could handle.

A queue may name a dead-letter exchange. A message that is rejected without requeue, that outlives its expiration, or
that a full queue pushes out, is published there instead of vanishing, and the broker writes into its header `x-death`
what happened to it and where. In the order system `orders` names `orders.dlx`, and behind it is `orders.failed`:
there a person looks at what failed, and sends it again when the cause is gone.

Our worker rejects an order that fails. A message that is no order at all it sends there itself, because a reject
cannot say why.

Spec: https://www.rabbitmq.com/docs/dlx
Code: rmqspec/orders/topology.py, rmqspec/orders/worker.py, rmqspec/orders/dead_letters.py
"""

import pytest
from pika import BasicProperties

from rmqspec.orders import REASON_HEADER, Completed, Failures, Worker, order_system, parse, replay, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def reject(get_without_ack):
    """Takes a message and says that nobody should try it again: `reject(channel, "orders")`."""
    return lambda channel, queue: channel.basic_reject(get_without_ack(channel, queue)[0], requeue=False)


class TestRabbitMQ:
    """What the broker promises. Only pika is used here, on the order system's own queues."""

    @pytest.fixture(autouse=True)
    def topology(self, channel):
        order_system(max_orders=2).declare(channel)

    @pytest.fixture
    def rejected(self, channel, reject, receive):
        """An order, as it is found in `orders.failed` after a reject."""

        def publish_and_reject(**properties):
            channel.basic_publish("orders.direct", "order", b"an order", BasicProperties(**properties))
            reject(channel, "orders")
            (dead,) = receive("orders.failed")
            return dead

        return publish_and_reject

    @behaviour("DLX-01")
    @lie("discard-requeues")
    def test_dead_letters_what_is_rejected(self, channel, reject, receive):
        """The consumer's own verdict: trying again would not help, and somebody has to look at it."""
        channel.basic_publish("orders.direct", "order", b"no such customer")

        reject(channel, "orders")

        (dead,) = receive("orders.failed")
        assert (dead.body, dead.died_of) == (b"no such customer", "rejected")

    @behaviour("DLX-02", "TTL-02")
    @lie("expiration-lost")
    def test_dead_letters_what_expires(self, channel, receive):
        """Nobody took it in time: a report that all consumers are down, for whoever watches `orders.failed`."""
        channel.basic_publish("orders.direct", "order", b"for today", BasicProperties(expiration="1"))

        (dead,) = receive("orders.failed")

        assert (dead.body, dead.died_of) == (b"for today", "expired")

    @behaviour("DLX-02", "MAXLEN-10")
    @lie("length-limit-halved")
    def test_dead_letters_what_overflows(self, channel, receive, drain):
        """A full queue takes the new message and pushes the oldest out: without a place to fall, that one is lost."""
        for body in (b"first", b"second", b"third"):
            channel.basic_publish("orders.direct", "order", body)

        (dead,) = receive("orders.failed")

        assert (dead.body, dead.died_of) == (b"first", "maxlen")
        assert drain("orders") == [b"second", b"third"]

    @behaviour("DLX-01", "NACK-01")
    @lie("discard-requeues")
    def test_deletes_a_reject_without_exchange(self, channel, reject, receive, drain):
        """The same reject, two queues: only the one that names an exchange keeps what was refused."""
        channel.queue_declare("careless", durable=True)
        channel.basic_publish("", "careless", b"lost")
        channel.basic_publish("", "orders", b"kept")

        reject(channel, "careless")
        reject(channel, "orders")

        assert [dead.body for dead in receive("orders.failed")] == [b"kept"]
        assert (drain("careless"), drain("orders.failed")) == ([], [])

    @behaviour("XDEATH-01")
    @lie("x-death-exchange-wrong")
    def test_writes_into_x_death_what_happened(self, rejected):
        """Enough to find the cause, and to send the message back to where it was first published."""
        deaths = rejected().headers.get("x-death", [])

        assert [death.pop("time").year > 2000 for death in deaths] == [True]
        one = {"reason": "rejected", "queue": "orders", "count": 1}
        assert deaths == [one | {"exchange": "orders.direct", "routing-keys": ["order"]}]

    @behaviour("XDEATH-15")
    @lie("content-type-lost")
    def test_leaves_body_and_properties_alone(self, rejected):
        """What failed can be looked at, and sent again, exactly as its producer made it."""
        dead = rejected(message_id="00-0001", content_type="application/json", headers={"shop": "Ada"})

        assert dead.body == b"an order"
        assert (dead.properties.message_id, dead.properties.content_type) == ("00-0001", "application/json")
        assert dead.headers.get("shop") == "Ada"

    @behaviour("XDEATH-16")
    @lie("delivered-exchange-lost")
    def test_keeps_the_key_of_a_dead_letter(self, rejected):
        """It arrives as a new publish to the dead-letter exchange; the key it had can still be routed by."""
        dead = rejected()

        assert (dead.exchange, dead.routing_key) == ("orders.dlx", "order")

    @behaviour("XDEATH-16")
    @pytest.mark.rabbitmq(before="4.3")
    @lie("redelivered-always")
    def test_delivers_a_reject_as_new(self, rejected):
        """Who looks at `orders.failed` is the first to get it from there, whoever had it before it failed."""
        assert rejected().redelivered is False

    @behaviour("XDEATH-16")
    @pytest.mark.rabbitmq(since="4.3")
    @lie("redelivered-always")
    def test_redelivers_a_reject_that_waited(self, channel, reject, eventually):
        """A consumer that drops what is redelivered would drop every order that was rejected before it came."""
        seen = []
        for found in ([True], [True, False]):
            channel.basic_publish("orders.direct", "order", b"an order")
            reject(channel, "orders")
            if not seen:  # nobody is there to take the first
                eventually(lambda: channel.queue_declare("orders.failed", passive=True).method.message_count, 1)
                channel.basic_consume("orders.failed", lambda _channel, method, *_: seen.append(method.redelivered))
            eventually(lambda: channel.connection.process_data_events(0) or seen, found)

    @behaviour("XDEATH-04")
    @lie("delivered-expiration-wrong")
    def test_moves_the_expiration_into_x_death(self, channel, receive):
        """With its expiration it would die once more among the dead letters, before anybody has read it."""
        channel.basic_publish("orders.direct", "order", b"for today", BasicProperties(expiration="1"))

        (dead,) = receive("orders.failed")

        assert dead.properties.expiration is None
        assert [death.get("original-expiration") for death in dead.headers.get("x-death", [])] == ["1"]

    @behaviour("XDEATH-05")
    @lie("first-death-lost")
    def test_names_the_first_death_in_headers(self, rejected):
        """A headers exchange can route by them, which it cannot by the table in `x-death`."""
        headers = rejected().headers

        assert (headers.get("x-first-death-reason"), headers.get("x-first-death-queue")) == ("rejected", "orders")

    @behaviour("XDEATH-06")
    @pytest.mark.rabbitmq(since="4.0")
    @lie("last-death-lost")
    def test_names_the_last_death_too(self, rejected):
        """After several deaths, the first and the last are what one asks for."""
        headers = rejected().headers

        assert (headers.get("x-last-death-reason"), headers.get("x-last-death-queue")) == ("rejected", "orders")

    @behaviour("XDEATH-06")
    @pytest.mark.rabbitmq(before="4.0")
    @lie("discard-requeues")
    def test_names_no_last_death(self, rejected):
        """Code that reads `x-last-death-reason` finds nothing on an old broker: take it from `x-death`."""
        dead = rejected()

        assert ([name for name in dead.headers if name.startswith("x-last-death")], dead.died_of) == ([], "rejected")

    @behaviour("XDEATH-09")
    @pytest.mark.rabbitmq(before="4.0")
    @lie("x-death-count-wrong")
    def test_continues_an_x_death_from_a_client(self, rejected):
        """Whoever sends a dead letter again with its headers goes on counting, and may trip a limit on retries."""
        dead = rejected()

        again = rejected(headers=dead.headers)

        assert [death["count"] for death in again.headers.get("x-death", [])] == [2]

    @behaviour("XDEATH-09")
    @pytest.mark.rabbitmq(since="4.0")
    @lie("x-death-count-wrong")
    def test_begins_x_death_anew_for_a_client(self, rejected):
        """Only the broker writes this history: a retry limit must count its attempts in a header of its own."""
        dead = rejected()

        again = rejected(headers=dead.headers)

        assert [death["count"] for death in again.headers.get("x-death", [])] == [1]


ORDER = '{"order_id": "7", "customer": "Ada", "items": [{"sku": "mouse", "quantity": 1, "unit_price_cents": 2450}]}'

NOT_ORDERS = {
    "nothing": ("", "body: Invalid JSON: EOF while parsing"),
    "ten_megabytes_of_nothing": (" " * 10**7, "body: Invalid JSON: EOF while parsing"),
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
    """What our worker adds."""

    @pytest.fixture
    def failed(self, orders, eventually):
        """An order that has failed and waits in `orders.failed`; the worker that failed it has gone."""
        (order,) = sample_orders(1)
        orders.producer.publish(order)
        worker = orders.start(lambda source: Worker(source, failures=Failures(rate=1.0)))
        eventually(lambda: orders.depth("orders.failed"), 1)
        orders.halt(worker)
        return order

    @lie("x-death-reason-wrong")
    def test_rejects_an_order_that_fails(self, failed, receive):
        """Acknowledged it would be gone, requeued it would fail for ever: here it waits for a person."""
        (dead,) = receive("orders.failed")

        assert dead.body == failed.to_json()
        assert dead.died_of == "rejected"

    @lie("message-count-wrong")
    def test_completes_an_order_that_is_replayed(self, failed, url, orders, receive):
        """Once the cause is gone a failed order is sent again, and is an order like any other."""
        assert replay(url) == 1

        orders.start(Worker)

        (told,) = receive("notifications")
        assert parse(Completed, told.body).order_id == "00-0001"
        assert orders.depth("orders.failed") == 0

    @pytest.mark.parametrize(("body", "reason"), NOT_ORDERS.values(), ids=NOT_ORDERS)
    @lie("fanout-as-direct")
    def test_parks_what_is_not_an_order(self, body, reason, channel, orders, receive):
        """One bad message must not stop the shop: it is put aside with the reason, and the next order is done."""
        channel.basic_publish("orders.direct", "order", body := body.encode(errors="surrogateescape"))
        orders.producer.publish(*sample_orders(1))

        orders.start(Worker)

        (told,) = receive("notifications")
        assert parse(Completed, told.body).order_id == "00-0001"
        (parked,) = receive("orders.failed")
        assert parked.body == body
        assert parked.headers.get(REASON_HEADER, "").startswith(reason)
