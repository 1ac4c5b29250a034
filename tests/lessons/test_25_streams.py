"""Streams: a log that keeps its messages after they were read.

A queue deletes a message when it is acknowledged. A stream keeps it: a message has an offset, its number in the log,
and each consumer says where it starts: at the first message, at the next one to be published, at an offset, or at a
time. Any number of consumers read the same stream, each at its own speed and as often as it likes, and they do not
share messages. Only retention deletes messages, the oldest first, by size or by age.

In the order system each listener has a queue of its own, and messages that were logged before its queue was declared
are lost to it. A stream would still have them.

Spec: https://www.rabbitmq.com/docs/streams
Code: rmqspec/client/consumer.py, rmqspec/client/republish.py
Reference: STREAM-01…13, STREAM-15, DLX-12
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def publish(channel):
    """Publishes to the stream `log`, and waits for each confirm: `publish(b"0", b"1")`."""
    channel.queue_declare("log", durable=True, arguments=STREAM)

    def each(*bodies):
        for body in bodies:
            channel.basic_publish("", "log", body)

    return each


@pytest.fixture
def read(connection, subscribe_without_ack):
    """Subscribes to the stream `log`: `read("first").wait_for(2)` returns two bodies."""

    def subscribe(offset=None, prefetch=100, on=connection):
        channel = on.channel()
        channel.basic_qos(prefetch_count=prefetch)
        arguments = None if offset is None else {"x-stream-offset": offset}
        return subscribe_without_ack(channel, "log", arguments=arguments)

    return subscribe


class TestStream:
    """RabbitMQ: a queue of type `stream`."""

    @behaviour("STREAM-06")
    @lie("stream-as-queue")
    def test_keeps_messages_after_they_were_acked(self, connection, channel, served):
        """When a bug in a consumer is fixed, it can read all messages of yesterday again."""
        channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream"})
        channel.basic_publish("", "log", b"0")
        channel.basic_publish("", "log", b"1")
        reader = connection.channel()
        reader.basic_qos(prefetch_count=100)
        first = []
        reader.basic_consume(
            "log",
            lambda _channel, _method, _properties, body: first.append(body),
            arguments={"x-stream-offset": "first"},
        )
        served(connection, lambda: first, [b"0", b"1"])
        reader.basic_ack(0, multiple=True)

        again = []
        reader.basic_consume(
            "log",
            lambda _channel, _method, _properties, body: again.append(body),
            arguments={"x-stream-offset": "first"},
        )

        served(connection, lambda: again, [b"0", b"1"])
        assert first == [b"0", b"1"]

    @behaviour("STREAM-06", "STREAM-10")
    @lie("stream-as-queue")
    def test_delivers_every_message_to_every_consumer(self, connect, publish, read):
        """Ten subscribers read one copy; with queues, each would need a queue with a copy of its own."""
        one = read("first")
        other = read("first", on=connect())

        publish(b"0", b"1", b"2")

        assert one.wait_for(3) == [b"0", b"1", b"2"]
        assert other.wait_for(3) == [b"0", b"1", b"2"]


class TestStreamOffset:
    """RabbitMQ: the consumer argument `x-stream-offset`, and the header of the same name."""

    @behaviour("STREAM-03")
    @lie("stream-read-from-first", cases=("default", "next"))
    @lie("offset-lost", cases=("first", "number"))
    @pytest.mark.parametrize(
        ("offset", "bodies"),
        [
            (None, [b"3", b"4"]),
            ("next", [b"3", b"4"]),
            ("first", [b"0", b"1", b"2", b"3", b"4"]),
            (1, [b"1", b"2", b"3", b"4"]),
        ],
        ids=["default", "next", "first", "number"],
    )
    def test_decides_where_a_consumer_starts_and_is_next_by_default(self, publish, read, offset, bodies):
        """A consumer that wants the history and sets no offset gets none of it, and no error."""
        publish(b"0", b"1", b"2")

        reader = read(offset)
        for body in (b"3", b"4"):  # on the reader's channel, so that they come after its subscription
            reader.channel.basic_publish("", "log", body)

        assert reader.wait_for(len(bodies)) == bodies

    @behaviour("STREAM-05")
    @lie("stream-offset-wrong")
    def test_of_each_message_comes_in_the_header_x_stream_offset(self, publish, read):
        """A consumer that stores it with its results can continue behind it after a crash."""
        publish(b"0", b"1", b"2")
        reader = read("first", prefetch=2)
        reader.wait_for(2)
        stored = [headers.get("x-stream-offset") for headers in reader.headers]
        assert stored == [0, 1]

        resumed = read(offset=2)

        assert resumed.wait_for(1) == [b"2"]
        assert resumed.headers == [{"x-stream-offset": 2}]


class TestStreamConsumer:
    """RabbitMQ: prefetch and acks of a consumer of a stream."""

    @behaviour("STREAM-08", "STREAM-06")
    @lie("ack-swallowed")
    def test_receives_up_to_its_prefetch_and_one_more_message_per_ack(
        self, channel, publish, read, subscribe_without_ack
    ):
        """Acks are only for flow control here; they may come in any order."""
        channel.queue_declare("other", durable=True)
        publish(b"0", b"1", b"2", b"3", b"4")
        reader = read("first", prefetch=2)
        other = subscribe_without_ack(reader.channel, "other")
        channel.basic_publish("", "other", b"sentinel")
        assert other.wait_for(1) == [b"sentinel"]
        assert reader.wait_for(2) == [b"0", b"1"]

        reader.channel.basic_ack(reader.tags[1])
        assert reader.wait_for(3) == [b"0", b"1", b"2"]

        reader.channel.basic_ack(0, multiple=True)
        assert reader.wait_for(5) == [b"0", b"1", b"2", b"3", b"4"]

    @behaviour("STREAM-02", "CHAN-03")
    @lie("precondition-hidden")
    def test_without_prefetch_closes_the_channel_with_406(self, publish, read, refusal):
        """Without a limit the broker would send years of messages into the memory of one consumer."""
        publish(b"a long history")

        said = refusal(lambda channel: channel.basic_consume("log", print))

        assert said.code == 406
        assert said.closed == "channel"
        assert "prefetch count is not set" in said.text
        assert read("first", prefetch=1).wait_for(1) == [b"a long history"]
