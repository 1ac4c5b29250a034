"""Topic exchange: the routing key is a description.

A routing key such as `order.created` is a list of words with dots between them. A queue binds with a pattern: a word
stands for itself, `*` for exactly one word, `#` for any number of words, none included. So each listener says what it
wants to hear about, and the producer only says what happened. New events need no new topology: `order.#` takes in the
ones that nobody has thought of yet.

In the order system the workers publish `order.created`, `order.completed` and `order.failed` to `logs.topic`, and the
queue `logs` is bound with `order.#`.

Spec: https://www.rabbitmq.com/docs/exchanges#topic
Code: rmqspec/orders/worker.py, rmqspec/orders/log_consumer.py, rmqspec/orders/topology.py
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rmqspec.orders import Failures, Log, LogConsumer, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def exchange(channel):
    channel.exchange_declare("news", "topic", durable=True)
    return "news"


@pytest.fixture
def publish(channel, exchange):
    """Publishes a message under each key; its body is the key, so a queue's content tells which keys it took."""

    def each(*keys):
        for key in keys:
            channel.basic_publish(exchange, key, key.encode())

    return each


def matches(pattern, key):
    """The model: whether a binding with this pattern takes a message with this key."""
    return fits(pattern.split("."), key.split(".") if key else [])  # the empty key has no words; "." has two


def fits(pattern, words):
    if not pattern:
        return not words
    first, *rest = pattern
    if first == "#":
        return fits(rest, words) or (words != [] and fits(pattern, words[1:]))
    return words != [] and first in ("*", words[0]) and fits(rest, words[1:])


# Few words, so that matches are frequent; the wildcards occur in keys too, where they are words like others.
keys = st.lists(st.sampled_from(["a", "b", "", "*", "#"]), max_size=4).map(".".join)
# Not in here: the empty pattern, which some 4.2 and 4.3 versions match across exchanges (TOPIC-07), and patterns with
# more than two `#`, which RabbitMQ refuses since 4.3.5 (TOPIC-08).
patterns = keys.filter(lambda pattern: pattern and pattern.count("#") <= 2)


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("TOPIC-01", "TOPIC-03")
    @lie("star-as-hash")
    def test_takes_a_star_for_exactly_one_word(self, exchange, bound_queue, publish, drain):
        """`order.*` looks as if it took in all that begins with `order.`, and loses every key that grows a word."""
        queue = bound_queue(exchange, "order.*")

        publish("order", "order.paid.late", "order.paid", "order.sent")

        assert drain(queue) == [b"order.paid", b"order.sent"]

    @behaviour("TOPIC-01", "TOPIC-03")
    @lie("hash-as-star")
    def test_takes_a_hash_for_zero_or_more_words(self, exchange, bound_queue, publish, drain):
        """That it may stand for nothing at all is the surprise: `order.#` takes the plain `order`, but not `orders`."""
        queue = bound_queue(exchange, "order.#")

        publish("orders", "order", "order.created", "order.a.b")

        assert drain(queue) == [b"order", b"order.created", b"order.a.b"]

    @behaviour("TOPIC-02")
    @lie("hash-as-star")
    def test_takes_every_key_by_a_hash_alone(self, exchange, bound_queue, publish, drain):
        """A queue for debugging hears everything; even the empty key, which has no words, fits."""
        queue = bound_queue(exchange, "#")

        publish("", "order", "order.created")

        assert drain(queue) == [b"", b"order", b"order.created"]

    @behaviour("TOPIC-03", "TOPIC-04")
    @lie("hash-as-star")
    def test_takes_a_hash_in_front_and_in_the_middle(self, exchange, bound_queue, publish, drain):
        """Unlike a path prefix, a pattern may fix the end of a key and leave the beginning open."""
        failed, orders_failed = bound_queue(exchange, "#.failed"), bound_queue(exchange, "order.#.failed")

        publish("failed", "order.failed", "order.card.failed", "order.failed.twice")

        assert drain(failed) == [b"failed", b"order.failed", b"order.card.failed"]
        assert drain(orders_failed) == [b"order.failed", b"order.card.failed"]

    @behaviour("TOPIC-04")
    @lie("star-as-hash")
    def test_counts_the_stars(self, exchange, bound_queue, publish, drain):
        """Stars set the length of a key; a hash beside a star sets the least length."""
        two, one_or_more = bound_queue(exchange, "*.*"), bound_queue(exchange, "#.*")

        publish("", "a", "a.b", "a.b.c")

        assert drain(two) == [b"a.b"]
        assert drain(one_or_more) == [b"a", b"a.b", b"a.b.c"]

    @behaviour("TOPIC-01")
    @lie("topic-as-fanout")
    def test_takes_a_wildcard_inside_a_word_literally(self, exchange, bound_queue, publish, drain):
        """There are no globs here: `order.c*` is accepted without complaint and never takes what it was meant for."""
        queue = bound_queue(exchange, "order.c*")

        publish("order.created", "order.c*")

        assert drain(queue) == [b"order.c*"]

    @behaviour("TOPIC-05")
    @lie("star-as-word")
    def test_delivers_one_copy_under_two_patterns(self, exchange, bound_queue, publish, drain):
        """Patterns of one queue may overlap; what both of them take is not counted twice."""
        queue = bound_queue(exchange, "order.*", "*.created")

        publish("order.created", "order.sent", "payment.created")

        assert drain(queue) == [b"order.created", b"order.sent", b"payment.created"]

    @behaviour("TOPIC-06")
    @lie("star-as-hash")
    def test_counts_an_empty_word(self, exchange, bound_queue, publish, drain):
        """A key glued together from a field that was empty keeps its shape: `a..b` has three words."""
        two, three = bound_queue(exchange, "*.*"), bound_queue(exchange, "a.*.b")

        publish("a..b", "a.b")

        assert drain(two) == [b"a.b"]
        assert drain(three) == [b"a..b"]

    @behaviour("TOPIC-09")
    @lie("unbind-ignored")
    def test_keeps_the_other_pattern_when_one_goes(self, channel, exchange, bound_queue, publish, drain):
        """The patterns share their first words in the broker's memory; cutting one branch keeps the other."""
        queue = bound_queue(exchange, "a.b", "a.b.c")

        channel.queue_unbind(queue, exchange, "a.b")
        publish("a.b", "a.b.c")

        assert drain(queue) == [b"a.b.c"]

    @behaviour("TOPIC-10")
    @lie("star-as-word")
    def test_takes_wildcards_in_a_key_literally(self, exchange, bound_queue, publish, drain):
        """Nobody can publish to all queues at once by a key with a star in it."""
        created, one_word = bound_queue(exchange, "order.created"), bound_queue(exchange, "order.*")

        publish("order.*", "order.#", "#", "order.created")

        assert drain(created) == [b"order.created"]
        assert drain(one_word) == [b"order.*", b"order.#", b"order.created"]

    @behaviour("TOPIC-01", "TOPIC-02", "TOPIC-03", "TOPIC-04", "TOPIC-05", "TOPIC-06", "TOPIC-09", "TOPIC-10")
    @lie("star-as-hash")
    def test_agrees_with_the_model(self, channel, exchange, bound_queue, publish, drain):
        """Examples are what somebody thought of. Here the ten lines of `matches` stand against keys nobody chose."""
        queue = bound_queue(exchange, "nothing.matches.this.one.at.all")

        @example(["*"], ["", "a"])  # rarely drawn: no words at all are not one word
        @settings(deadline=None, max_examples=40)
        @given(st.lists(patterns, min_size=1, max_size=3), st.lists(keys, min_size=5, max_size=10, unique=True))
        def agree(bound, published):
            for pattern in bound:
                channel.queue_bind(queue, exchange, pattern)
            publish(*published)
            for pattern in bound:
                channel.queue_unbind(queue, exchange, pattern)
            assert drain(queue) == [
                key.encode() for key in published if any(matches(pattern, key) for pattern in bound)
            ]

        agree()


class TestWorker:
    """What our worker adds."""

    @lie("delivered-key-lost")
    def test_logs_what_happens_to_an_order(self, orders, receive):
        """It publishes to `logs.topic` what happened, in the order in which it happened, and asks not who reads it."""
        orders.start(lambda source: Worker(source, failures=Failures(rate=0)))
        (order,) = sample_orders(1)

        orders.producer.publish(order)
        created, completed = receive("logs", 2)

        assert (created.routing_key, completed.routing_key) == ("order.created", "order.completed")
        assert [parse(Log, log.body).order_id for log in (created, completed)] == ["00-0001", "00-0001"]

    @lie("delivered-key-lost")
    def test_logs_a_failure_under_a_key_of_its_own(self, orders, receive):
        """Who wakes somebody at night binds `order.failed` alone; `logs` hears of it by the same pattern as before."""
        orders.start(lambda source: Worker(source, failures=Failures(rate=1)))
        (order,) = sample_orders(1)

        orders.producer.publish(order)

        assert [log.routing_key for log in receive("logs", 2)] == ["order.created", "order.failed"]


class TestLogConsumer:
    """Our listener."""

    @lie("topic-as-fanout")
    def test_hears_of_orders_and_not_of_payments(self, channel, orders, eventually):
        """The shop's other systems may use the same exchange: what `order.#` does not take, `logs` never sees."""
        logs = orders.start(LogConsumer)
        created = Log(event="order.created", order_id="7", worker="worker-1").to_json()
        completed = Log(event="order.completed", order_id="7", worker="worker-1").to_json()

        channel.basic_publish("logs.topic", "order.created", created)
        channel.basic_publish("logs.topic", "payment.created", created)
        channel.basic_publish("logs.topic", "order.completed", completed)

        eventually(lambda: logs.events["order.completed"], 1)
        assert logs.events == {"order.created": 1, "order.completed": 1}
