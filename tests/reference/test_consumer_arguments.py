"""Arguments of consumers: which queue type accepts or refuses each of them.

Spec: https://www.rabbitmq.com/docs/consumers
Reference: ARGS-02…05, ARGS-07, CONSUME-15, ACKTIMEOUT-09, STREAM-28
"""

import pytest

from .tables import cases

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

# ok: the consumer starts; an argument that no type has is ignored. 406: its channel is closed.
ARGUMENTS = """
argument                   value  classic          quorum           stream
x-cancel-on-ha-failover    true   ok               406 | 4.0 ok     406 | 4.0 ok
x-consumer-timeout         60000  ok | 4.3 406     ok               ok | 4.3 406
x-priority                 5      ok               ok               406
x-stream-filter            red    ok | 4.0 406     ok | 4.0 406     ok
x-stream-match-unfiltered  true   ok | 4.0 406     ok | 4.0 406     ok
x-stream-offset            first  406              406              ok
x-no-such-argument         any    ok               ok               ok
"""

HELD = {
    "x-priority on a stream": "CONSUME-15",
    "x-stream-offset on a quorum queue": "CONSUME-15",
    "x-stream-offset on a classic queue": "STREAM-28",
    "x-stream-filter on a classic queue": "ARGS-05",
    "x-stream-filter on a quorum queue": "ARGS-05",
    "x-consumer-timeout on a classic queue": "ARGS-03",
    "x-consumer-timeout on a stream": "ARGS-03",
    "x-cancel-on-ha-failover on a quorum queue": "ARGS-07",
    "x-cancel-on-ha-failover on a stream": "ARGS-07",
}

# Values that are of the wrong type or out of range; - is not asked.
INVALID = """
argument            value     classic  quorum       stream
x-priority          high      406      406          -
x-stream-offset     yesterday  -       -            541 | 4.3 406
x-consumer-timeout  -1        -        - | 4.3 406  -
"""

INVALID_HELD = {"x-consumer-timeout on a quorum queue": "ACKTIMEOUT-09"}

each = ("argument", "value", "queue_type")


@pytest.fixture
def consume(channel, refusal):
    """Consumes from a queue of a type with an argument: `consume("quorum", {"x-priority": 5})` is a `Refusal`."""

    def ask(queue_type, arguments):
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type})

        def start(consumer):
            consumer.basic_qos(prefetch_count=1)
            consumer.basic_consume("work", lambda *_: None, arguments=arguments)

        return refusal(start)

    return ask


class TestConsumerArgument:
    """RabbitMQ: an optional argument of `basic.consume`."""

    @behaviour("ARGS-02")
    @lie("consumer-arguments-refused")
    @pytest.mark.parametrize(each, cases(ARGUMENTS, "ok", HELD))
    def test_is_accepted_by_a_queue_type_that_has_it_or_if_none_has_it(self, consume, argument, value, queue_type):
        """What no queue type has is ignored: a misspelt priority is no error, and no priority."""
        said = consume(queue_type, {argument: value})

        assert said.closed == "nothing"

    @behaviour("ARGS-02", "CHAN-03")
    @lie("consumer-arguments-lost")
    @pytest.mark.parametrize(each, cases(ARGUMENTS, "406", HELD))
    def test_closes_the_channel_with_406_if_only_another_queue_type_has_it(self, consume, argument, value, queue_type):
        """A program whose queue was changed to another type hears that it asks for what there is no longer."""
        said = consume(queue_type, {argument: value})

        assert said.code == 406
        assert said.closed == "channel"
        assert f"invalid arg '{argument}' for queue 'work'" in said.text

    @behaviour("ARGS-09", "CHAN-03")
    @lie("consumer-arguments-lost")
    @pytest.mark.parametrize(each, cases(INVALID, "406", INVALID_HELD))
    def test_closes_the_channel_with_406_for_an_invalid_value(self, consume, argument, value, queue_type):
        """The consumer does not start with a default that nobody has chosen."""
        said = consume(queue_type, {argument: value})

        assert said.code == 406
        assert said.closed == "channel"
        assert argument in said.text

    @behaviour("ARGS-09", "CHAN-04")
    @lie("consumer-arguments-lost")
    @pytest.mark.parametrize(each, cases(INVALID, "541"))
    def test_closes_the_connection_with_541_for_an_invalid_value_that_the_broker_does_not_expect(
        self, consume, argument, value, queue_type
    ):
        """One misspelt word costs all channels of the program, and the text does not say which word it was."""
        said = consume(queue_type, {argument: value})

        assert said.code == 541
        assert said.closed == "connection"
        assert said.text == "INTERNAL_ERROR"
