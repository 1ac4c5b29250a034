"""Headers exchange: how values are compared, empty bindings, and invalid values of `x-match`.

Spec: https://www.rabbitmq.com/docs/exchanges#headers
Reference: HEADERS-01…09, HEADERS-10
"""

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pika import BasicProperties, data

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
TUESDAY = datetime(2024, 1, 2, tzinfo=UTC)


@pytest.fixture
def floats(monkeypatch):
    """Teaches pika to write floats, which it only reads: the letter d and eight bytes."""

    def encode(pieces, value, original=data.encode_value):
        if not isinstance(value, float):
            return original(pieces, value)
        pieces.append(struct.pack(">cd", b"d", value))
        return 9

    monkeypatch.setattr(data, "encode_value", encode)


class TestXMatch:
    """RabbitMQ: the argument `x-match` of a headers binding."""

    @behaviour("HEADERS-02", "CHAN-03")
    @lie("x-match-lost")
    @pytest.mark.parametrize("value", ["ALL", "none", 1], ids=["upper_case", "unknown", "number"])
    def test_closes_the_channel_with_406_for_an_unknown_value(self, parcels, refusal, value):
        """Treated as the default, a misspelt value would be found only by missing messages."""
        queue = parcels.bind({"x-match": "any"}, {"x-match": "all-with-x"})

        said = refusal(lambda channel: channel.queue_bind(queue, parcels.name, arguments={"x-match": value}))

        assert said.code == 406
        assert said.closed == "channel"
        assert "x-match" in said.text

    @behaviour("HEADERS-06")
    @lie("any-as-all")
    def test_without_listed_headers_matches_every_message_under_all_and_none_under_any(self, parcels, drain):
        """A binding that a program builds from an empty table gets everything or nothing."""
        under_all = parcels.bind({"x-match": "all"})
        under_any = parcels.bind({"x-match": "any"})

        parcels.publish(without_headers=None, with_headers={"shop": "Ada"})

        assert drain(under_all) == [b"without_headers", b"with_headers"]
        assert drain(under_any) == []


class TestHeaderValues:
    """RabbitMQ: which value of a header equals the value that a binding lists."""

    @behaviour("HEADERS-05")
    @lie("void-criterion-compared")
    def test_void_in_a_binding_matches_every_value_of_a_header_that_is_present(self, parcels, drain):
        """The wildcard of this exchange: the header must be there, its value does not matter."""
        queue = parcels.bind({"x-match": "all", "coupon": None})

        parcels.publish(
            absent={"shop": "Ada"},
            text={"coupon": "SPRING"},
            number={"coupon": 7},
            void={"coupon": None},
        )

        assert drain(queue) == [b"text", b"number", b"void"]

    @behaviour("HEADERS-07")
    @lie("header-values-lost")
    def test_number_does_not_match_its_text(self, parcels, drain):
        """A publisher that begins to quote its numbers loses every consumer whose binding lists them unquoted."""
        number = parcels.bind({"quantity": 1})
        text = parcels.bind({"quantity": "1"})

        parcels.publish(number={"quantity": 1}, text={"quantity": "1"})

        assert drain(number) == [b"number"]
        assert drain(text) == [b"text"]

    @behaviour("HEADERS-08")
    @rabbitmq(before="4.0")
    @lie("header-values-lost")
    def test_integer_1_matches_float_1_0_before_4_0(self, floats, parcels, drain):
        """Languages with one kind of number, such as JavaScript, may send either."""
        queue = parcels.bind({"quantity": 1})

        parcels.publish(half={"quantity": 1.5}, integer={"quantity": 1}, floating={"quantity": 1.0})

        assert drain(queue) == [b"integer", b"floating"]

    @behaviour("HEADERS-08")
    @rabbitmq(since="4.0")
    @lie("header-values-lost")
    def test_integer_1_does_not_match_float_1_0_since_4_0(self, floats, parcels, drain):
        """After the upgrade a publisher in a language with one kind of number may lose its consumers."""
        queue = parcels.bind({"quantity": 1})

        parcels.publish(integer={"quantity": 1}, floating={"quantity": 1.0})

        assert drain(queue) == [b"integer"]

    @behaviour("HEADERS-09")
    @rabbitmq(before="4.0")
    @lie("header-values-lost")
    def test_timestamp_matches_an_equal_timestamp_before_4_0(self, parcels, drain):
        """The messages of one day's sale can be bound by the day on which it ends."""
        queue = parcels.bind({"ends": MONDAY})

        parcels.publish(monday={"ends": MONDAY}, tuesday={"ends": TUESDAY})

        assert drain(queue) == [b"monday"]

    @behaviour("HEADERS-09")
    @rabbitmq(since="4.0")
    @lie("header-values-lost")
    def test_timestamp_of_a_message_matches_its_milliseconds_in_a_binding_and_not_an_equal_timestamp_since_4_0(
        self, parcels, drain
    ):
        """The broker keeps a message's timestamps in milliseconds and a binding's in seconds: text is safer."""
        by_timestamp = parcels.bind({"ends": MONDAY})
        by_milliseconds = parcels.bind({"ends": 1_704_067_200_000})

        parcels.publish(monday={"ends": MONDAY}, tuesday={"ends": TUESDAY})

        assert drain(by_timestamp) == []
        assert drain(by_milliseconds) == [b"monday"]


def matches(arguments, headers):
    """The model: whether a binding with these arguments matches a message with these headers."""
    listed = [headers.get(name) == value for name, value in arguments.items() if not name.startswith("x-")]
    return any(listed) if arguments.get("x-match") == "any" else all(listed)


# Few names and values, so that matches are frequent; strings, as equality of numbers depends on the version.
tables = st.dictionaries(st.sampled_from(["a", "b", "x-c"]), st.sampled_from(["1", "2"]))
x_matches = st.sampled_from([{}, {"x-match": "all"}, {"x-match": "any"}])
messages = st.dictionaries(st.sampled_from("mnopqrst"), tables, min_size=3)


class TestModel:
    """RabbitMQ: three lines of Python, against bindings and messages that nobody chose."""

    @behaviour("HEADERS-01", "HEADERS-03", "HEADERS-06")
    @lie("x-headers-count")
    def test_agrees_with_the_broker_on_all_and_any_for_generated_bindings_and_messages(self, parcels, channel, drain):
        """Examples show only what somebody thought of."""
        queue = parcels.bind()

        @example({"x-c": "1"}, {"x-match": "any"}, {"m": {"x-c": "1"}})  # rarely drawn: only an ignored header
        @settings(deadline=None, max_examples=40)
        @given(tables, x_matches, messages)
        def agree(table, x_match, published):
            arguments = table | x_match
            channel.queue_bind(queue, parcels.name, arguments=arguments)
            parcels.publish(**published)
            channel.queue_unbind(queue, parcels.name, arguments=arguments)
            expected = [body.encode() for body, headers in published.items() if matches(arguments, headers)]
            assert drain(queue) == expected

        agree()


class TestBindingArguments:
    """RabbitMQ: the table of arguments of a headers binding."""

    @behaviour("HEADERS-10")
    @lie("unbind-ignored")
    def test_are_the_same_in_any_order(self, channel, drain):
        """A program in another language, whose tables have another order, can remove the binding."""
        channel.queue_declare("parcels", durable=True)
        channel.queue_bind("parcels", "amq.headers", "", {"x-match": "all", "shop": "Ada", "speed": "high"})
        properties = BasicProperties(headers={"speed": "high", "shop": "Ada"})
        channel.basic_publish("amq.headers", "", b"bound", properties)

        channel.queue_unbind("parcels", "amq.headers", "", {"speed": "high", "shop": "Ada", "x-match": "all"})
        channel.basic_publish("amq.headers", "", b"unbound", properties)

        assert drain("parcels") == [b"bound"]
