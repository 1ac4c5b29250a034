"""Unsupported arguments: what a queue type does with an argument that belongs to another type, by version.

A queue type refuses an argument that the broker knows and the type does not, and ignores one that the broker does not
know. So an argument that was ignored for years is refused once a newer release knows it for another type: a program
that declares its queues with it does not start after the upgrade.

Spec: https://www.rabbitmq.com/docs/queues#optional-arguments, https://www.rabbitmq.com/docs/consumers#arguments
Reference: ARGS-03…08, QDECL-19, STREAM-12, CONSUME-15, ACKTIMEOUT-06
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

CLASSIC = {"x-queue-type": "classic"}
QUORUM = {"x-queue-type": "quorum"}
STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def declare(refusal):
    """Declares the durable queue `work` with these arguments; returns how the broker answered: `declare(STREAM)`."""

    def with_arguments(arguments, **options):
        return refusal(lambda channel: channel.queue_declare("work", durable=True, arguments=arguments), **options)

    return with_arguments


@pytest.fixture
def consume(channel, connection, subscribe_without_ack):
    """Consumes from a queue of this type, which holds one message: `consume(QUORUM, {"x-credit": {}})`."""

    def with_arguments(queue_type, arguments):
        channel.queue_declare("work", durable=True, arguments=queue_type)
        channel.basic_publish("", "work", b"letter")
        consuming = connection.channel()
        consuming.basic_qos(prefetch_count=10)
        return subscribe_without_ack(consuming, "work", arguments=arguments)

    return with_arguments


# A queue type, an argument that it does not have, and the release that began to refuse it.
UNKNOWN_BEFORE_4_2 = [
    pytest.param(CLASSIC, {"x-consumer-timeout": 60_000}, id="consumer_timeout-classic", marks=behaviour("ARGS-03")),
    pytest.param(STREAM, {"x-consumer-timeout": 60_000}, id="consumer_timeout-stream", marks=behaviour("ARGS-03")),
    pytest.param(CLASSIC, {"x-stream-filter-size-bytes": 32}, id="filter_size-classic", marks=behaviour("ARGS-06")),
    pytest.param(QUORUM, {"x-stream-filter-size-bytes": 32}, id="filter_size-quorum", marks=behaviour("ARGS-06")),
    pytest.param(CLASSIC, {"x-delayed-retry-type": "all"}, id="retry_type-classic", marks=behaviour("ARGS-08")),
    pytest.param(CLASSIC, {"x-delayed-retry-min": 1000}, id="retry_min-classic", marks=behaviour("ARGS-08")),
    pytest.param(STREAM, {"x-delayed-retry-max": 1000}, id="retry_max-stream", marks=behaviour("ARGS-08")),
    pytest.param(
        CLASSIC, {"x-consumer-disconnected-timeout": 1000}, id="disconnected-classic", marks=behaviour("ARGS-08")
    ),
]
of_other_types = pytest.mark.parametrize(("queue_type", "argument"), UNKNOWN_BEFORE_4_2)


class TestQueueArgument:
    """RabbitMQ: an argument of `queue.declare` that belongs to another queue type."""

    @behaviour("ACKTIMEOUT-06")
    @rabbitmq(before="4.2")  # 4.2.9 refuses x-stream-filter-size-bytes
    @lie("queue-not-made")
    @of_other_types
    def test_of_consumer_timeout_filter_size_or_delayed_retry_is_accepted_before_4_2(
        self, declare, lookup, queue_type, argument
    ):
        """Nothing says that it has no effect, so such arguments stay in programs until an upgrade refuses them."""
        said = declare(queue_type | argument)

        assert said.code == 0
        assert lookup("queue", "work") == "exists"

    @behaviour("ACKTIMEOUT-06", "CHAN-03")
    @rabbitmq(since="4.3.1")
    @lie("arguments-lost")
    @of_other_types
    def test_of_consumer_timeout_filter_size_or_delayed_retry_closes_the_channel_with_406_since_4_3_1(
        self, declare, lookup, queue_type, argument
    ):
        """The program that declared this queue for years does not start; the queue that exists is not touched."""
        (name,) = argument

        said = declare(queue_type | argument)

        assert said.code == 406
        assert said.closed == "channel"
        assert f"invalid arg '{name}' for queue 'work'" in said.text
        assert f"of queue type rabbit_{queue_type['x-queue-type']}_queue" in said.text
        assert lookup("queue", "work") == "missing"

    @behaviour("ARGS-04", "CHAN-03")
    @rabbitmq(before="4.0")
    @lie("leader-locator-lost")
    def test_x_queue_leader_locator_of_a_classic_queue_closes_the_channel_with_406_before_4_0(self, declare, lookup):
        """Its predecessor for classic queues is x-queue-master-locator, which 4.3 refuses in turn."""
        said = declare(CLASSIC | {"x-queue-leader-locator": "client-local"})

        assert said.code == 406
        assert said.closed == "channel"
        assert "invalid arg 'x-queue-leader-locator' for queue 'work'" in said.text
        assert lookup("queue", "work") == "missing"

    @behaviour("ARGS-04")
    @rabbitmq(since="4.0")
    @lie("queue-not-made")
    def test_x_queue_leader_locator_of_a_classic_queue_is_accepted_since_4_0(self, declare, lookup):
        """One argument for all queue types: declarations need no longer differ by type."""
        said = declare(CLASSIC | {"x-queue-leader-locator": "client-local"})

        assert said.code == 0
        assert lookup("queue", "work") == "exists"


class TestQueueMasterLocator:
    """RabbitMQ: the argument `x-queue-master-locator` of a classic queue, a deprecated feature."""

    @behaviour("QDECL-19")
    @rabbitmq(before="4.3")
    @lie("queue-not-made")
    def test_is_accepted_before_4_3(self, declare, lookup):
        """Replace it by x-queue-leader-locator before an upgrade to 4.3."""
        said = declare(CLASSIC | {"x-queue-master-locator": "min-masters"})

        assert said.code == 0
        assert lookup("queue", "work") == "exists"

    @behaviour("QDECL-19", "CHAN-04")
    @rabbitmq(since="4.3")
    @lie("arguments-lost")
    def test_closes_the_connection_with_541_since_4_3(self, connect, declare, channel):
        """One declaration costs all channels of the connection; it is no error of a channel that one could catch."""
        connection = connect()
        sibling = connection.channel()

        said = declare(CLASSIC | {"x-queue-master-locator": "min-masters"}, on=connection)

        assert said.code == 541
        assert said.closed == "connection"
        assert "Feature `queue_master_locator` is deprecated" in said.text
        assert sibling.is_closed
        assert channel.queue_declare("work", durable=True).method.queue == "work"


class TestMaxAge:
    """RabbitMQ: an `x-max-age` of a stream that has no number."""

    @behaviour("STREAM-12", "CHAN-04")
    @rabbitmq(before="4.2")  # 4.2.7 has the better answer already
    @lie("arguments-lost")
    def test_abc_closes_the_connection_with_541_before_4_2(self, connect, declare, channel):
        """An internal error names no reason: one looks for a fault of the broker instead of the typing error."""
        connection = connect()
        sibling = connection.channel()

        said = declare(STREAM | {"x-max-age": "abc"}, on=connection)

        assert said.code == 541
        assert said.closed == "connection"
        assert said.text == "INTERNAL_ERROR"
        assert sibling.is_closed
        assert channel.queue_declare("work", durable=True).method.queue == "work"

    @behaviour("STREAM-12", "CHAN-03")
    @rabbitmq(since="4.3.1")
    @lie("arguments-lost")
    def test_abc_closes_the_channel_with_406_since_4_3_1(self, declare, lookup):
        """The mistake costs its own channel, and the text names the argument."""
        said = declare(STREAM | {"x-max-age": "abc"})

        assert said.code == 406
        assert said.closed == "channel"
        assert "invalid arg 'x-max-age' for queue 'work'" in said.text
        assert "invalid_max_age" in said.text
        assert lookup("queue", "work") == "missing"


class TestConsumerArgument:
    """RabbitMQ: an argument of `basic.consume` that belongs to another queue type."""

    @behaviour("ARGS-05", "CONSUME-15")
    @rabbitmq(before="3.13")
    @lie("consumer-not-made")
    @pytest.mark.parametrize("queue_type", [CLASSIC, QUORUM], ids=["classic", "quorum"])
    def test_x_stream_filter_of_a_classic_or_quorum_queue_is_ignored_before_3_13(self, consume, queue_type):
        """All messages come: whoever moved from a stream to a queue goes on without the filter, and without a word."""
        consumer = consume(queue_type, {"x-stream-filter": "red"})

        assert consumer.wait_for(1) == [b"letter"]

    @behaviour("ARGS-05", "CONSUME-15", "CHAN-03")
    @rabbitmq(since="3.13")
    @lie("stream-filter-lost")
    @pytest.mark.parametrize("queue_type", [CLASSIC, QUORUM], ids=["classic", "quorum"])
    def test_x_stream_filter_of_a_classic_or_quorum_queue_closes_the_channel_with_406_since_3_13(
        self, channel, refusal, drain, queue_type
    ):
        """A queue cannot filter, so the consumer is told at once, and no message is lost."""
        channel.queue_declare("work", durable=True, arguments=queue_type)
        channel.basic_publish("", "work", b"letter")

        said = refusal(lambda wrong: wrong.basic_consume("work", print, arguments={"x-stream-filter": "red"}))

        assert said.code == 406
        assert said.closed == "channel"
        assert "invalid arg 'x-stream-filter' for queue 'work'" in said.text
        assert drain("work") == [b"letter"]

    @behaviour("ARGS-07", "CHAN-03")
    @rabbitmq(before="4.0")
    @lie("precondition-hidden")
    def test_x_cancel_on_ha_failover_of_a_quorum_queue_closes_the_channel_with_406_before_4_0(
        self, channel, refusal, drain
    ):
        """It belongs to mirrored classic queues; a consumer that moves to quorum queues has to lose it."""
        channel.queue_declare("work", durable=True, arguments=QUORUM)
        channel.basic_publish("", "work", b"letter")

        said = refusal(lambda wrong: wrong.basic_consume("work", print, arguments={"x-cancel-on-ha-failover": True}))

        assert said.code == 406
        assert said.closed == "channel"
        assert "invalid arg 'x-cancel-on-ha-failover' for queue 'work'" in said.text
        assert drain("work") == [b"letter"]

    @behaviour("ARGS-07")
    @rabbitmq(since="4.0")
    @lie("consumer-not-made")
    def test_x_cancel_on_ha_failover_of_a_quorum_queue_is_ignored_since_4_0(self, consume):
        """There are no mirrors any more, so nothing cancels the consumer at a failover as it asks for."""
        consumer = consume(QUORUM, {"x-cancel-on-ha-failover": True})

        assert consumer.wait_for(1) == [b"letter"]
