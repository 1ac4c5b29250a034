"""Topic patterns: positions of wildcards, empty words, and a model of the whole.

Spec: https://www.rabbitmq.com/docs/exchanges#topic
Reference: TOPIC-01…10
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


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


class TestTopicPattern:
    """RabbitMQ: the binding key of a topic exchange."""

    @behaviour("TOPIC-03", "TOPIC-04")
    @lie("hash-as-star")
    def test_matches_zero_or_more_words_by_the_wildcard_hash_in_front_and_in_the_middle(
        self, exchange, bound_queue, publish, drain
    ):
        """Unlike the prefix of a path, a pattern can fix the end of a key and leave its beginning open."""
        failed = bound_queue(exchange, "#.failed")
        orders_failed = bound_queue(exchange, "order.#.failed")

        publish("failed", "order.failed", "order.card.failed", "order.failed.twice")

        assert drain(failed) == [b"failed", b"order.failed", b"order.card.failed"]
        assert drain(orders_failed) == [b"order.failed", b"order.card.failed"]

    @behaviour("TOPIC-04")
    @lie("star-as-hash")
    def test_matches_as_many_words_as_it_has_stars_or_more_with_the_wildcard_hash(
        self, exchange, bound_queue, publish, drain
    ):
        """`*.*` needs two words. With a hash beside a star, `#.*` needs at least one."""
        two_words = bound_queue(exchange, "*.*")
        one_or_more_words = bound_queue(exchange, "#.*")

        publish("", "a", "a.b", "a.b.c")

        assert drain(two_words) == [b"a.b"]
        assert drain(one_or_more_words) == [b"a", b"a.b", b"a.b.c"]

    @behaviour("TOPIC-01")
    @lie("star-in-a-word-matches")
    def test_treats_a_wildcard_inside_a_word_as_a_plain_character(self, exchange, bound_queue, publish, drain):
        """`order.c*` is accepted and does not match `order.created`: there are no globs."""
        queue = bound_queue(exchange, "order.c*")

        publish("order.created", "order.c*")

        assert drain(queue) == [b"order.c*"]

    @behaviour("TOPIC-06")
    @lie("empty-words-dropped")
    def test_counts_empty_words_of_a_routing_key(self, exchange, bound_queue, publish, drain):
        """A key that is built from an empty field keeps its number of words: `a..b` has three."""
        two_words = bound_queue(exchange, "*.*")
        three_words = bound_queue(exchange, "a.*.b")

        publish("a..b", "a.b")

        assert drain(two_words) == [b"a.b"]
        assert drain(three_words) == [b"a..b"]

    @behaviour("TOPIC-07")
    @lie("key-lost")
    def test_that_is_empty_matches_the_empty_routing_key_of_its_own_exchange_only(
        self, channel, exchange, bound_queue, publish, drain
    ):
        """RabbitMQ 4.3.0 routed empty keys of every topic exchange here: a queue got messages of strangers."""
        channel.exchange_declare("other news", "topic", durable=True)
        elsewhere = bound_queue("other news", "#")
        queue = bound_queue(exchange, "")

        channel.basic_publish("other news", "", b"of another exchange")
        publish("a", ".", "a.b", "")

        assert drain(queue) == [b""]
        assert drain(elsewhere) == [b"of another exchange"]

    @behaviour("TOPIC-09")
    @lie("unbind-ignored")
    def test_stops_matching_when_unbound_and_leaves_longer_patterns_bound(
        self, channel, exchange, bound_queue, publish, drain
    ):
        """The patterns `a.b` and `a.b.c` share their first words in RabbitMQ's memory and are still independent."""
        queue = bound_queue(exchange, "a.b", "a.b.c")

        channel.queue_unbind(queue, exchange, "a.b")
        publish("a.b", "a.b.c")

        assert drain(queue) == [b"a.b.c"]

    @behaviour("TOPIC-10")
    @lie("key-wildcards-match")
    def test_treats_wildcards_in_a_routing_key_as_plain_words(self, exchange, bound_queue, publish, drain):
        """A publisher cannot reach all queues at once by a routing key with a star in it."""
        created = bound_queue(exchange, "order.created")
        one_word = bound_queue(exchange, "order.*")

        publish("order.*", "order.#", "#", "order.created")

        assert drain(created) == [b"order.created"]
        assert drain(one_word) == [b"order.*", b"order.#", b"order.created"]


def matches(pattern, key):
    """The model: whether a binding with this pattern matches a message with this routing key."""
    return fits(pattern.split("."), key.split(".") if key else [])  # the empty key has no words; "." has two


def fits(pattern, words):
    """The same for lists of words."""
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


class TestTopicModel:
    """RabbitMQ: patterns and keys that nobody chose, compared with the ten lines of `matches`."""

    @behaviour("TOPIC-01", "TOPIC-02", "TOPIC-03", "TOPIC-04", "TOPIC-05", "TOPIC-06", "TOPIC-09", "TOPIC-10")
    @lie("star-as-hash")
    def test_agrees_with_the_broker_on_generated_patterns_and_keys(
        self, channel, exchange, bound_queue, publish, drain
    ):
        """Examples are what somebody thought of; generated keys find the cases that nobody did."""
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

            expected = [key for key in published if any(matches(pattern, key) for pattern in bound)]
            assert drain(queue) == [key.encode() for key in expected]

        agree()


class TestManyHashes:
    """RabbitMQ: a pattern with three words that are `#`."""

    @behaviour("TOPIC-08")
    @rabbitmq(before="4.3")
    @lie("hash-as-star")
    def test_is_bound_and_matches_any_words_between_before_4_3_5(self, bound_queue, exchange, publish, drain):
        """Such a pattern is slow and legal; find it before an upgrade to 4.3.5, which refuses it."""
        queue = bound_queue(exchange, "#.paid.#.express.#")

        publish("paid.express", "order.paid.by.card.express.today", "order.paid")

        assert drain(queue) == [b"paid.express", b"order.paid.by.card.express.today"]

    @behaviour("TOPIC-08", "CHAN-03")
    @rabbitmq(since="4.3.5")
    @lie("precondition-hidden")
    def test_closes_the_channel_with_406_since_4_3_5(self, refusal, bound_queue, exchange, publish, drain):
        """A program that binds so does not start; write neighbours such as `#.#` as one `#`, they mean the same."""
        queue = bound_queue(exchange, "#.paid.#")

        said = refusal(lambda careless: careless.queue_bind(queue, exchange, "#.paid.#.express.#"))

        assert said.code == 406
        assert said.closed == "channel"
        assert "uses 3 '#' wildcards, at most 2 are allowed" in said.text
        publish("order.paid", "order.express")
        assert drain(queue) == [b"order.paid"]
