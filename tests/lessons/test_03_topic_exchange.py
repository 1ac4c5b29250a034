"""Topic exchange: the routing key describes the message, and bindings are patterns.

A routing key such as `order.created` is a list of words with dots between them. A queue is bound to a topic exchange
with a pattern: a word matches itself, `*` matches exactly one word, and `#` matches zero or more words. So each
consumer chooses what it wants, and the publisher only describes what happened. A new kind of event needs no new
topology: the pattern `order.#` matches it already.

In the order system the producer publishes `order.created`, the workers `order.completed` and `order.failed`, and the
queue `logs` is bound with `order.#`.

Spec: https://www.rabbitmq.com/docs/exchanges#topic
Code: rmqspec/orders/worker.py, rmqspec/orders/log_consumer.py, rmqspec/orders/topology.py, rmqspec/orders/producer.py
Reference: TOPIC-01…06, TOPIC-09, TOPIC-10
"""

import pytest

from rmqspec.orders import Failures, Log, LogConsumer, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def exchange(channel):
    """A topic exchange without bindings."""
    channel.exchange_declare("news", "topic", durable=True)
    return "news"


@pytest.fixture
def publish(channel, exchange):
    """Publishes a message with each routing key. Its body is the key, so that a queue shows which keys matched."""

    def each(*keys):
        for key in keys:
            channel.basic_publish(exchange, key, key.encode())

    return each


class TestTopicExchange:
    """RabbitMQ: an exchange of type topic."""

    @behaviour("TOPIC-01", "TOPIC-03")
    @lie("star-as-hash")
    def test_matches_exactly_one_word_by_the_wildcard_star(self, channel, drain):
        """`order.*` does not match all that begins with `order.`: it misses each key that gets one more word."""
        channel.exchange_declare("news", exchange_type="topic", durable=True)
        channel.queue_declare("orders", durable=True)
        channel.queue_bind("orders", "news", routing_key="order.*")

        channel.basic_publish("news", routing_key="order", body=b"no second word")
        channel.basic_publish("news", routing_key="order.paid", body=b"one word")
        channel.basic_publish("news", routing_key="order.paid.late", body=b"two words")

        assert drain("orders") == [b"one word"]

    @behaviour("TOPIC-01", "TOPIC-03")
    @lie("hash-as-star")
    def test_matches_zero_or_more_words_by_the_wildcard_hash(self, exchange, bound_queue, publish, drain):
        """Zero is the surprise: `order.#` matches the plain `order` too. It does not match `orders`."""
        queue = bound_queue(exchange, "order.#")

        publish("orders", "order", "order.created", "order.a.b")

        assert drain(queue) == [b"order", b"order.created", b"order.a.b"]

    @behaviour("TOPIC-02")
    @lie("hash-as-star")
    def test_matches_every_routing_key_even_an_empty_one_by_the_wildcard_hash_alone(
        self, exchange, bound_queue, publish, drain
    ):
        """A queue for debugging gets everything, even messages with the empty key, which has no words."""
        queue = bound_queue(exchange, "#")

        publish("", "order", "order.created")

        assert drain(queue) == [b"", b"order", b"order.created"]

    @behaviour("TOPIC-05")
    @lie("delivered-twice")
    def test_delivers_one_copy_to_a_queue_with_several_matching_patterns(
        self, channel, exchange, bound_queue, publish, subscribe_without_ack
    ):
        """Patterns of one queue may overlap: a message that both of them match is not processed twice."""
        queue = bound_queue(exchange, "order.*", "*.created")

        publish("order.created", "order.sent", "payment.created")

        consumer = subscribe_without_ack(channel, queue)
        assert consumer.wait_for(3) == [b"order.created", b"order.sent", b"payment.created"]


class TestProducer:
    """Our producer: it publishes to `logs.topic` that an order was created."""

    @lie("delivered-key-lost")
    def test_publishes_order_created_itself_even_if_no_worker_is_running(self, orders, receive):
        """Whoever creates an order reports it. If the worker did, an order that still waits would be in no log."""
        orders.producer.publish(*sample_orders(1))

        (created,) = receive("logs")
        assert created.routing_key == "order.created"
        assert parse(Log, created.body).worker == "producer"
        assert parse(Log, created.body).order_id == "00-0001"


class TestWorker:
    """Our worker: it publishes to `logs.topic` what becomes of an order."""

    @lie("delivered-key-lost")
    def test_publishes_order_completed_after_the_order_created_of_the_producer(self, orders, receive):
        """The routing key names the event, so a consumer can bind to the events that it needs."""
        orders.start(lambda source: Worker(source, failures=Failures(rate=0)))
        (order,) = sample_orders(1)

        orders.producer.publish(order)

        created, completed = receive("logs", 2)
        assert created.routing_key == "order.created"
        assert parse(Log, created.body).order_id == "00-0001"
        assert completed.routing_key == "order.completed"
        assert parse(Log, completed.body).order_id == "00-0001"

    @lie("delivered-key-lost")
    def test_publishes_order_failed_after_the_order_created_if_the_order_fails(self, orders, receive):
        """An alert can bind `order.failed` alone. The queue `logs` gets it by the pattern that it has already."""
        orders.start(lambda source: Worker(source, failures=Failures(rate=1)))
        (order,) = sample_orders(1)

        orders.producer.publish(order)

        logs = receive("logs", 2)
        assert [log.routing_key for log in logs] == ["order.created", "order.failed"]


class TestLogConsumer:
    """Our log consumer: it consumes `logs`, which is bound with `order.#`."""

    @lie("topic-as-fanout")
    def test_receives_order_events_and_no_payment_events(self, channel, orders, eventually):
        """Other systems of the shop may use the same exchange: what `order.#` does not match never reaches `logs`."""
        logs = orders.start(LogConsumer)
        created = Log(event="order.created", order_id="7", worker="worker-1").to_json()
        completed = Log(event="order.completed", order_id="7", worker="worker-1").to_json()

        channel.basic_publish("logs.topic", "order.created", created)
        channel.basic_publish("logs.topic", "payment.created", created)
        channel.basic_publish("logs.topic", "order.completed", completed)

        eventually(lambda: logs.events["order.completed"], 1)
        assert logs.events == {"order.created": 1, "order.completed": 1}
