"""Arguments of queues: which type notes, ignores or refuses each of them, and which values are invalid.

Spec: https://www.rabbitmq.com/docs/queues#optional-arguments
Reference: ARGS-01, ARGS-09, ARGS-10, ARGS-12, QDECL-10, QDECL-13, QDECL-19, TTL-12, MAXLEN-14, DLXALO-07,
QQDECL-04, ACKTIMEOUT-09
"""

import pytest

from .tables import cases

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

# noted: compared with what a later declaration says. ignored: accepted, and never looked at again.
# 406: the declaration is refused, and its channel closed. 541: its connection.
ARGUMENTS = """
argument                         value        classic            quorum           stream
x-consumer-disconnected-timeout  60000        ignored | 4.3 406  ignored | 4.3 noted  ignored | 4.3 406
x-consumer-timeout               60000        ignored | 4.3 406  ignored | 4.3 noted  ignored | 4.3 406
x-dead-letter-exchange           amq.fanout   noted              noted            406
x-dead-letter-routing-key        failed       noted              noted            406
x-dead-letter-strategy           at-most-once  406               noted            406
x-delayed-retry-max              60000        ignored | 4.3 406  ignored | 4.3 noted  ignored | 4.3 406
x-delayed-retry-min              1000         ignored | 4.3 406  ignored | 4.3 noted  ignored | 4.3 406
x-delayed-retry-type             all          ignored | 4.3 406  ignored | 4.3 noted  ignored | 4.3 406
x-delivery-limit                 3            406                noted            406
x-expires                        60000        noted              noted            406
x-initial-cluster-size           1            406                406              noted
x-max-age                        1h           406                406              noted
x-max-in-memory-bytes            1000         406                noted            406
x-max-in-memory-length           10           406                noted            406
x-max-length                     10           noted              noted            406
x-max-length-bytes               1000000      noted              noted            noted
x-max-priority                   5            noted              406              406
x-message-ttl                    60000        noted              noted            406
x-overflow                       drop-head    noted              noted            406
x-queue-leader-locator           balanced     406 | 4.0 noted    noted            noted
x-queue-master-locator           min-masters  noted | 4.3 541    406              406
x-queue-mode                     lazy         noted              406              406
x-queue-version                  2            noted              406              406
x-quorum-initial-group-size      1            406                noted            406
x-single-active-consumer         true         noted              noted            406
x-stream-filter-size-bytes       32           ignored | 4.3 406  ignored | 4.3 406  ignored | 4.3 noted
x-stream-max-segment-size-bytes  1000000      406                406              noted
x-no-such-argument               any          ignored            ignored          ignored
"""

# What must stand beside an argument.
BESIDE = {
    "x-dead-letter-routing-key": {"x-dead-letter-exchange": "amq.fanout"},
    "x-delayed-retry-max": {"x-delayed-retry-type": "all", "x-delayed-retry-min": 1000},
    "x-delayed-retry-type": {"x-delayed-retry-min": 1000},
}

HELD = {
    "x-message-ttl on a stream": "TTL-12",
    "x-max-length on a stream": "MAXLEN-14",
    "x-max-length-bytes on a stream": "MAXLEN-14",
    "x-max-age on a stream": "MAXLEN-14",
    "x-dead-letter-strategy on a classic queue": "DLXALO-07",
    "x-max-in-memory-length on a quorum queue": "QQDECL-04",
    "x-max-in-memory-bytes on a quorum queue": "QQDECL-04",
    "x-no-such-argument on a classic queue": "QDECL-10",
    "x-no-such-argument on a quorum queue": "QDECL-10",
    "x-no-such-argument on a stream": "QDECL-10",
    "x-queue-master-locator on a classic queue": "QDECL-19",
}

# Values that are out of range or of the wrong type, each on a queue that has the argument; - is not asked.
INVALID = """
argument                         value        classic          quorum           stream
x-dead-letter-exchange           5            406              406              -
x-dead-letter-routing-key        5            406              406              -
x-dead-letter-strategy           maybe        -                406              -
x-delivery-limit                 many         -                noted            -
x-expires                        0            406              406              -
x-max-age                        1 fortnight  -                -                406
x-max-length                     -1           406              406              -
x-max-length-bytes               -1           406              406              406
x-max-priority                   256          406              -                -
x-message-ttl                    -1           406              406              -
x-overflow                       drop-tail    406              406              -
x-quorum-initial-group-size      0            -                406              -
x-single-active-consumer         yes          406              406              -
x-stream-max-segment-size-bytes  -1           -                -                406
x-consumer-timeout               -1           -                - | 4.3 406      -
x-consumer-disconnected-timeout  -1           -                - | 4.3 406      -
x-delayed-retry-type             sometimes    -                - | 4.3 noted    -
x-stream-filter-size-bytes       8            -                -                - | 4.3 406
"""

INVALID_HELD = {
    "x-dead-letter-strategy on a quorum queue": "DLXALO-07",
    "x-consumer-timeout on a quorum queue": "ACKTIMEOUT-09",
}

each = ("argument", "value", "queue_type")


@pytest.fixture
def declare(refusal):
    """Declares the queue `work` of a type with arguments: `declare("quorum", {"x-expires": 60000})` is a `Refusal`."""

    def ask(queue_type, arguments):
        table = {"x-queue-type": queue_type} | arguments
        return refusal(lambda channel: channel.queue_declare("work", durable=True, arguments=table))

    return ask


class TestQueueArgument:
    """RabbitMQ: an optional argument of `queue.declare`."""

    @behaviour("ARGS-01", "ARGS-10")
    @lie("arguments-lost")
    @pytest.mark.parametrize(each, cases(ARGUMENTS, "noted", HELD))
    def test_is_noted_and_compared_with_every_later_declaration(self, declare, argument, value, queue_type):
        """Two programs that disagree about a queue are found at once, by the channel of the second."""
        beside = BESIDE.get(argument, {})
        first = declare(queue_type, beside | {argument: value})

        later = declare(queue_type, beside)

        assert first.closed == "nothing"
        assert later.code == 406
        assert later.closed == "channel"
        assert f"inequivalent arg '{argument}'" in later.text

    @behaviour("ARGS-01", "QDECL-10")
    @lie("every-argument-compared")
    @pytest.mark.parametrize(each, cases(ARGUMENTS, "ignored", HELD))
    def test_is_ignored_if_no_queue_type_has_it(self, declare, argument, value, queue_type):
        """A misspelt argument is accepted: nothing says that the queue has no limit."""
        first = declare(queue_type, {argument: value})

        later = declare(queue_type, {})

        assert first.closed == "nothing"
        assert later.closed == "nothing"

    @behaviour("ARGS-01", "CHAN-03")
    @lie("arguments-lost")
    @pytest.mark.parametrize(each, cases(ARGUMENTS, "406", HELD))
    def test_closes_the_channel_with_406_if_only_another_queue_type_has_it(self, declare, argument, value, queue_type):
        """A queue that seems to have a limit, and has none, is worse than an error at its declaration."""
        said = declare(queue_type, {argument: value})

        assert said.code == 406
        assert said.closed == "channel"
        assert f"invalid arg '{argument}' for queue 'work'" in said.text

    @behaviour("ARGS-01", "CHAN-04")
    @lie("arguments-lost")
    @pytest.mark.parametrize(each, cases(ARGUMENTS, "541", HELD))
    def test_closes_the_connection_with_541_if_it_belongs_to_a_denied_feature(
        self, connect, closed_connection, argument, value, queue_type
    ):
        """All channels of the program are lost at a declaration that older brokers accept."""
        connection = connect()
        sibling = connection.channel()
        arguments = {"x-queue-type": queue_type, argument: value}

        said = closed_connection(
            connection, lambda channel: channel.queue_declare("work", False, True, False, False, arguments)
        )

        assert said.reply_code == 541
        assert "is deprecated" in said.reply_text
        assert sibling.is_closed

    @behaviour("ARGS-09", "CHAN-03")
    @lie("arguments-lost")
    @pytest.mark.parametrize(each, cases(INVALID, "406", INVALID_HELD))
    def test_closes_the_channel_with_406_for_an_invalid_value(self, declare, argument, value, queue_type):
        """A negative limit or a misspelt word is found when the queue is declared, not when it is full."""
        said = declare(queue_type, {argument: value})

        assert said.code == 406
        assert said.closed == "channel"
        assert argument in said.text

    @behaviour("ARGS-09")
    @lie("arguments-lost")
    @pytest.mark.parametrize(each, cases(INVALID, "noted"))
    def test_with_an_invalid_value_that_the_broker_does_not_check_is_noted_and_compared_with_later_declarations(
        self, declare, argument, value, queue_type
    ):
        """Not every mistake is found: such a queue has no limit, or no delay, of its own."""
        first = declare(queue_type, {argument: value})

        later = declare(queue_type, {})

        assert first.closed == "nothing"
        assert later.code == 406
        assert f"inequivalent arg '{argument}'" in later.text

    @behaviour("QDECL-13", "CHAN-03")
    @lie("queue-type-lost")
    def test_x_queue_type_closes_the_channel_with_406_if_there_is_no_such_type(self, declare):
        """A misspelt type does not make a classic queue where a replicated one was meant."""
        said = declare("qourum", {})

        assert said.code == 406
        assert said.closed == "channel"
        assert "x-queue-type" in said.text

    @behaviour("ARGS-12", "CHAN-03")
    @lie("arguments-lost")
    @pytest.mark.parametrize(("size", "reason"), [(0, "value_zero"), (-1, "value_negative")])
    def test_x_quorum_initial_group_size_may_be_larger_than_the_cluster_and_closes_the_channel_with_406_if_not_positive(
        self, declare, size, reason
    ):
        """A queue that is to have five members is declared on one node too; it has one, and nothing says so."""
        said = declare("quorum", {"x-quorum-initial-group-size": size})

        assert said.code == 406
        assert said.closed == "channel"
        assert reason in said.text
        assert declare("quorum", {"x-quorum-initial-group-size": 5}).closed == "nothing"
