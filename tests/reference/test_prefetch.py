"""Prefetch: a new limit for consumers that are running already, and a global one for other queue types.

A consumer keeps the prefetch that it was started with. A global prefetch could be changed at any time before 4.3.

Spec: https://www.rabbitmq.com/docs/consumer-prefetch
Reference: PREFETCH-01, GLOBALQOS-02, GLOBALQOS-04, GLOBALQOS-05, GLOBALQOS-06, GLOBALQOS-03, PREFETCH-08,
QQ-20
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


@pytest.fixture
def queue(channel):
    """A queue with five messages, 1 to 5."""
    channel.queue_declare("tasks", durable=True)
    for body in (b"1", b"2", b"3", b"4", b"5"):
        channel.basic_publish("", "tasks", body)
    return "tasks"


class TestBasicQosPrefetch:
    """RabbitMQ: a new prefetch count while messages are unacked."""

    @behaviour("PREFETCH-01")
    @lie("prefetch-ignored")
    def test_is_raised_by_cancelling_the_consumer_and_consuming_again(
        self, channel, queue, drain, subscribe_without_ack
    ):
        """The unacked messages of the cancelled consumer stay unacked and do not count against the new prefetch."""
        channel.basic_qos(prefetch_count=1)
        cancelled = subscribe_without_ack(channel, queue)
        cancelled.wait_for(1)

        channel.basic_cancel(cancelled.consumer_tag)
        channel.basic_qos(prefetch_count=3)
        consumer = subscribe_without_ack(channel, queue)

        assert consumer.wait_for(3) == [b"2", b"3", b"4"]
        assert cancelled.bodies == [b"1"]
        assert drain(queue) == [b"5"]


class TestNoPrefetch:
    """RabbitMQ: deliveries to a consumer that acks nothing, where `basic.qos` was not sent."""

    @behaviour("QQ-20")
    @lie("acks-not-awaited")
    def test_stops_at_2_000_messages_of_a_quorum_queue(
        self, connection, channel, subscribe_without_ack, message_count, eventually, drain
    ):
        """Of a classic queue such a consumer is sent everything; here other consumers get what is left."""
        channel.queue_declare("thousands", durable=True, arguments={"x-queue-type": "quorum"})
        unconfirmed = connection.channel()
        for number in range(1, 2002):
            unconfirmed.basic_publish("", "thousands", b"%d" % number)
        eventually(lambda: message_count("thousands"), 2001)

        consumer = subscribe_without_ack(connection.channel(), "thousands")

        assert len(consumer.wait_for(2000)) == 2000
        assert drain("thousands") == [b"2001"]


class TestGlobalPrefetch:
    """RabbitMQ: a new `basic.qos` with `global` while a consumer is running."""

    @behaviour("GLOBALQOS-02")
    @rabbitmq(before="4.3")
    @lie("prefetch-scope-changed")
    def test_that_is_raised_delivers_more_messages_to_a_running_consumer_before_4_3(
        self, channel, queue, drain, subscribe_without_ack
    ):
        """It is one limit of the channel, so all its consumers obey it, those that are running already too."""
        channel.basic_qos(prefetch_count=1, global_qos=True)
        consumer = subscribe_without_ack(channel, queue)
        consumer.wait_for(1)

        channel.basic_qos(prefetch_count=3, global_qos=True)

        assert consumer.wait_for(3) == [b"1", b"2", b"3"]
        assert drain(queue) == [b"4", b"5"]

    @behaviour("GLOBALQOS-04")
    @rabbitmq(since="4.3")
    @lie("prefetch-one")
    def test_that_is_raised_applies_to_new_consumers_and_not_to_running_ones_since_4_3(
        self, channel, queue, drain, subscribe_without_ack
    ):
        """Before, this made a running consumer faster. Now it does not, and the reply is the same."""
        channel.basic_qos(prefetch_count=1, global_qos=True)
        first = subscribe_without_ack(channel, queue)

        channel.basic_qos(prefetch_count=3, global_qos=True)
        second = subscribe_without_ack(channel, queue)

        assert second.wait_for(3) == [b"2", b"3", b"4"]
        assert first.wait_for(1) == [b"1"]
        assert drain(queue) == [b"5"]


class TestGlobalPrefetchOfOtherQueueTypes:
    """RabbitMQ: `basic.qos` with `global`, and then `basic.consume` of a quorum queue or stream."""

    @behaviour("GLOBALQOS-05", "CHAN-04")
    @rabbitmq(before="4.3")
    @lie("prefetch-scope-changed")
    def test_closes_the_connection_with_540_for_a_quorum_queue_before_4_3(
        self, connect, channel, subscribe_without_ack, refusal, drain
    ):
        """A move from classic to quorum queues costs the whole connection, until the prefetch is set per consumer."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": "quorum"})
        channel.basic_publish("", "work", b"task")
        connection = connect()
        sibling = connection.channel()

        def consume(wrong):
            wrong.basic_qos(prefetch_count=1, global_qos=True)
            wrong.basic_consume("work", print)

        said = refusal(consume, on=connection)

        assert said.code == 540
        assert said.closed == "connection"
        assert "does not support global qos" in said.text
        assert sibling.is_closed
        assert drain("work") == [b"task"]

    @behaviour("GLOBALQOS-05", "CHAN-03")
    @rabbitmq(before="4.3")
    @lie("prefetch-scope-changed")
    def test_closes_the_channel_with_406_for_a_stream_before_4_3(self, channel, refusal):
        """A stream requires a prefetch, and does not count the channel's as one."""
        channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})

        def consume(wrong):
            wrong.basic_qos(prefetch_count=1, global_qos=True)
            wrong.basic_consume("log", print)

        said = refusal(consume)

        assert said.code == 406
        assert said.closed == "channel"
        assert "consumer prefetch count is not set" in said.text
        assert channel.queue_declare("log", passive=True).method.queue == "log"

    @behaviour("GLOBALQOS-05")
    @rabbitmq(since="4.3")
    @lie("prefetch-ignored", cases="quorum")
    @lie("prefetch-one-more")
    @pytest.mark.parametrize("queue_type", ["quorum", "stream"])
    def test_limits_a_consumer_since_4_3(self, connection, channel, drain, subscribe_without_ack, queue_type):
        """A program that sets a global prefetch runs with every queue type, and each of its consumers has the limit."""
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": queue_type})
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "work", body)
        limited = connection.channel()
        limited.basic_qos(prefetch_count=2, global_qos=True)
        from_first = {"x-stream-offset": "first"} if queue_type == "stream" else {}

        consumer = subscribe_without_ack(limited, "work", arguments=from_first)
        consumer.wait_for(2)
        limited.queue_declare("work", passive=True)  # what the broker sent before this answer has come

        assert consumer.bodies == [b"1", b"2"]


class TestGlobalPrefetchOfTheChannel:
    """RabbitMQ: the limit that `basic.qos` with `global` sets for all consumers of a channel, before 4.3."""

    @behaviour("GLOBALQOS-06")
    @rabbitmq(before="4.3")
    @lie("prefetch-scope-changed")
    def test_is_removed_by_basic_qos_without_global_before_4_3(self, channel, subscribe_without_ack):
        """Who sets a limit for the next consumer takes away the one for all of them, and nothing says so."""
        channel.queue_declare("limited", durable=True)
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "limited", body)
        channel.basic_qos(prefetch_count=1, global_qos=True)
        consumer = subscribe_without_ack(channel, "limited")
        consumer.wait_for(1)

        channel.basic_qos(prefetch_count=5)

        assert consumer.wait_for(3) == [b"1", b"2", b"3"]


class TestGlobalPrefetchWithAutoAck:
    """RabbitMQ: a consumer with auto-ack beside others, under a prefetch of the whole channel, before 4.3."""

    @behaviour("GLOBALQOS-03")
    @rabbitmq(before="4.3")
    @lie("prefetch-scope-changed")
    def test_delivers_nothing_while_other_consumers_have_reached_the_limit_and_all_messages_afterwards_before_4_3(
        self, connection, channel, subscribe_without_ack, message_count
    ):
        """A slow worker stops the consumer of logs that happens to share its channel."""
        for name in ("orders", "logs"):
            channel.queue_declare(name, durable=True)
        channel.basic_publish("", "orders", b"order")
        shared = connection.channel()
        shared.basic_qos(prefetch_count=1, global_qos=True)
        worker = subscribe_without_ack(shared, "orders")
        worker.wait_for(1)
        logs = subscribe_without_ack(shared, "logs", auto_ack=True)

        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "logs", body)

        assert message_count("logs") == 3
        shared.basic_ack(worker.tags[0])
        assert logs.wait_for(3) == [b"1", b"2", b"3"]


class TestLargestPrefetch:
    """RabbitMQ: the largest prefetch that the protocol has room for."""

    @behaviour("PREFETCH-08")
    @lie("prefetch-one")
    def test_of_65535_is_accepted(self, channel, queue, subscribe_without_ack):
        """The field has 16 bits: a program that computes its prefetch has to stop there, or it sends another number."""
        channel.basic_qos(prefetch_count=65_535)

        consumer = subscribe_without_ack(channel, queue)

        assert consumer.wait_for(5) == [b"1", b"2", b"3", b"4", b"5"]
