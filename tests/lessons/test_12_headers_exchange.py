"""Headers exchange: routing by a table instead of a key.

A binding to a headers exchange lists headers and values, and says by `x-match` whether a message must carry `all` of
them or `any` one. So a message can be described from several sides at once, the shop and the country and whether it is
urgent, which a routing key can only do in a fixed order. The price is in the details: values are compared with their
types, headers that begin with `x-` are skipped unless one asks for them, and a binding that lists nothing takes
everything or nothing.

Spec: https://www.rabbitmq.com/docs/exchanges#headers
Code: rmqspec/client/topology.py, rmqspec/client/message.py
"""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pika import BasicProperties, exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def exchange(channel):
    channel.exchange_declare("parcels", "headers", durable=True)
    return "parcels"


@pytest.fixture
def bind(channel, exchange):
    """A queue bound by these criteria: `bind({"x-match": "any", "shop": "Ada"})` returns its name."""

    def queue(*criteria):
        name = channel.queue_declare("", exclusive=True).method.queue
        for arguments in criteria:
            channel.queue_bind(name, exchange, arguments=arguments)
        return name

    return queue


@pytest.fixture
def publish(channel, exchange):
    """Publishes a message for each body with the headers given: `publish(urgent={"speed": "high"})`."""

    def each(**messages):
        for body, headers in messages.items():
            channel.basic_publish(exchange, "", body.encode(), BasicProperties(headers=headers))

    return each


def matches(criteria, headers):
    """The model: whether a binding by these criteria takes a message with these headers."""
    listed = [headers.get(name) == value for name, value in criteria.items() if not name.startswith("x-")]
    return any(listed) if criteria.get("x-match") == "any" else all(listed)


# Few names and values, so that matches are frequent; strings, as equality of numbers depends on the version.
tables = st.dictionaries(st.sampled_from(["a", "b", "x-c"]), st.sampled_from(["1", "2"]))
matching = st.sampled_from([{}, {"x-match": "all"}, {"x-match": "any"}])
messages = st.dictionaries(st.sampled_from("mnopqrst"), tables, min_size=3)


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("HEADERS-01")
    @lie("all-as-any")
    def test_needs_every_listed_header_under_all(self, bind, publish, drain):
        """What the message carries besides does not count: a producer may add headers without losing a reader."""
        queue = bind({"x-match": "all", "shop": "Ada", "speed": "high"})

        publish(
            one_is_missing={"shop": "Ada"},
            one_differs={"shop": "Ada", "speed": "low"},
            both={"shop": "Ada", "speed": "high"},
            both_and_more={"shop": "Ada", "speed": "high", "country": "gb"},
        )

        assert drain(queue) == [b"both", b"both_and_more"]

    @behaviour("HEADERS-01")
    @lie("any-as-all")
    def test_needs_one_listed_header_under_any(self, bind, publish, drain):
        """An alternative of two conditions is one binding; a topic exchange would want two."""
        queue = bind({"x-match": "any", "shop": "Ada", "speed": "high"})

        publish(none={"shop": "Bob", "speed": "low"}, shop={"shop": "Ada"}, speed={"shop": "Bob", "speed": "high"})

        assert drain(queue) == [b"shop", b"speed"]

    @behaviour("HEADERS-01")
    @lie("all-as-any")
    def test_means_all_without_x_match(self, bind, publish, drain):
        """The stricter reading is the default: a forgotten argument shows as messages that do not arrive."""
        queue = bind({"shop": "Ada", "speed": "high"})

        publish(one={"shop": "Ada"}, both={"shop": "Ada", "speed": "high"})

        assert drain(queue) == [b"both"]

    @behaviour("HEADERS-02", "CHAN-03")
    @pytest.mark.parametrize("value", ["ALL", "none", 1], ids=["upper_case", "unknown", "number"])
    @lie("x-match-lost")
    def test_refuses_another_x_match(self, connection, channel, exchange, bind, value):
        """A misspelt value is told at once; taken for the default it would only be found by missing messages."""
        queue = bind({"x-match": "any"}, {"x-match": "all-with-x"})
        misspelt = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match="x-match") as error:
            misspelt.queue_bind(queue, exchange, arguments={"x-match": value})

        assert (error.value.reply_code, misspelt.is_closed, connection.is_open) == (406, True, True)
        assert channel.queue_declare(queue, passive=True).method.queue == queue

    @behaviour("HEADERS-03")
    @pytest.mark.parametrize("match", ["all", "any"])
    @lie("header-values-lost")
    def test_skips_x_headers_under_plain_x_match(self, bind, publish, drain, match):
        """A criterion on `x-death` or the like is accepted and never looked at; only the others decide."""
        queue = bind({"x-match": match, "x-retry": "yes", "shop": "Ada"})

        publish(x_only={"x-retry": "yes", "shop": "Bob"}, x_differs={"x-retry": "no", "shop": "Ada"})

        assert drain(queue) == [b"x_differs"]

    @behaviour("HEADERS-04")
    @lie("x-headers-do-not-count")
    def test_compares_x_headers_by_the_longer_names(self, bind, publish, drain):
        """So dead letters can be sorted by `x-first-death-reason`, which the broker itself has written."""
        criteria = {"x-first-death-reason": "expired", "shop": "Ada"}
        every, one = bind(criteria | {"x-match": "all-with-x"}), bind(criteria | {"x-match": "any-with-x"})

        publish(
            reason={"x-first-death-reason": "expired"},
            shop={"x-first-death-reason": "maxlen", "shop": "Ada"},
            both={"x-first-death-reason": "expired", "shop": "Ada"},
            neither={"x-first-death-reason": "maxlen"},
        )

        assert drain(every) == [b"both"]
        assert drain(one) == [b"reason", b"shop", b"both"]

    @behaviour("HEADERS-05")
    @lie("binding-arguments-lost")
    def test_takes_any_value_for_a_void_one(self, bind, publish, drain):
        """The wildcard of this exchange: the header must be there, and what it says does not matter."""
        queue = bind({"x-match": "all", "coupon": None})

        publish(absent={"shop": "Ada"}, text={"coupon": "SPRING"}, number={"coupon": 7}, void={"coupon": None})

        assert drain(queue) == [b"text", b"number", b"void"]

    @behaviour("HEADERS-06")
    @lie("any-as-all")
    def test_takes_all_or_nothing_for_no_criteria(self, bind, publish, drain):
        """No condition is unmet, and none is met: a binding that is built from an empty table hits either extreme."""
        every, one = bind({"x-match": "all"}), bind({"x-match": "any"})

        publish(without_headers=None, with_headers={"shop": "Ada"})

        assert drain(every) == [b"without_headers", b"with_headers"]
        assert drain(one) == []

    @behaviour("HEADERS-07")
    @lie("header-values-lost")
    def test_tells_a_number_from_its_text(self, bind, publish, drain):
        """A producer that begins to quote its numbers loses every reader who listed them bare."""
        number, text = bind({"quantity": 1}), bind({"quantity": "1"})

        publish(number={"quantity": 1}, text={"quantity": "1"})

        assert drain(number) == [b"number"]
        assert drain(text) == [b"text"]

    @behaviour("HEADERS-08")
    @pytest.mark.rabbitmq(before="4.0")
    @lie("mandatory-always")
    def test_equates_an_integer_with_a_float(self, bind, publish, drain):
        """Languages with one kind of number, as JavaScript has, may write either; here nobody notices."""
        queue = bind({"quantity": 1})

        publish(half={"quantity": 1.5}, integer={"quantity": 1}, floating={"quantity": 1.0})

        assert drain(queue) == [b"integer", b"floating"]

    @behaviour("HEADERS-08")
    @pytest.mark.rabbitmq(since="4.0")
    @lie("mandatory-always")
    def test_tells_an_integer_from_a_float(self, bind, publish, drain):
        """After an upgrade a producer in a language with one kind of number may not be heard any more."""
        queue = bind({"quantity": 1})

        publish(integer={"quantity": 1}, floating={"quantity": 1.0})

        assert drain(queue) == [b"integer"]

    @behaviour("HEADERS-09")
    @pytest.mark.rabbitmq(before="4.0")
    @lie("header-values-lost")
    def test_compares_timestamps(self, bind, publish, drain):
        """Everything of one day's sale can be bound by the day on which it ends."""
        monday, tuesday = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
        queue = bind({"ends": monday})

        publish(monday={"ends": monday}, tuesday={"ends": tuesday})

        assert drain(queue) == [b"monday"]

    @behaviour("HEADERS-09")
    @pytest.mark.rabbitmq(since="4.0")
    @lie("header-values-lost")
    def test_finds_no_timestamp_equal(self, bind, publish, drain):
        """The broker holds a message's times in milliseconds and a binding's in seconds: text is safer."""
        monday = datetime(2024, 1, 1, tzinfo=UTC)
        by_time, by_number = bind({"ends": monday}), bind({"ends": 1_704_067_200_000})

        publish(time={"ends": monday}, later={"ends": datetime(2024, 1, 2, tzinfo=UTC)})

        assert drain(by_time) == []
        assert drain(by_number) == [b"time"]

    @behaviour("HEADERS-11")
    @lie("header-values-lost")
    def test_ignores_the_routing_key_of_headers(self, channel, exchange, bind, drain):
        """The same message under two keys: whoever moves from a topic exchange has to put the key into a header."""
        queue = bind({"shop": "Ada"})

        for key, shop in (("", "Ada"), ("Ada", "Bob"), ("Bob", "Ada")):
            channel.basic_publish(exchange, key, f"{key}/{shop}", BasicProperties(headers={"shop": shop}))

        assert drain(queue) == [b"/Ada", b"Bob/Ada"]

    @behaviour("HEADERS-01", "HEADERS-03", "HEADERS-06")
    @lie("x-headers-count")
    def test_agrees_with_the_model_of_headers(self, channel, exchange, bind, publish, drain):
        """Examples are what somebody thought of; here three lines of Python stand against tables nobody chose."""
        queue = bind()

        @example({"x-c": "1"}, {"x-match": "any"}, {"m": {"x-c": "1"}})  # rarely drawn: nothing but a header skipped
        @settings(deadline=None, max_examples=40)
        @given(tables, matching, messages)
        def agree(table, match, published):
            criteria = table | match
            channel.queue_bind(queue, exchange, arguments=criteria)
            publish(**published)
            channel.queue_unbind(queue, exchange, arguments=criteria)
            assert drain(queue) == [body.encode() for body in published if matches(criteria, published[body])]

        agree()
