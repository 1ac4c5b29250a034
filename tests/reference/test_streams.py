"""Streams: all offsets, nack by version, methods and arguments that do not fit a log, retention and filters.

Spec: https://www.rabbitmq.com/docs/streams
Reference: STREAM-01…13, STREAM-15, DLX-12, CONVERT-14, CONVERT-15, STREAM-17…19, STREAM-22, STREAM-24…26
"""

from datetime import UTC, datetime

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def publish(channel):
    """Publishes to the stream `log`, and waits for each confirm: `publish(b"0", b"1")`."""
    channel.queue_declare("log", durable=True, arguments=STREAM)

    def each(*bodies, queue="log", headers=None):
        for body in bodies:
            channel.basic_publish("", queue, body, BasicProperties(headers=headers))

    return each


@pytest.fixture
def read(connection, subscribe_without_ack):
    """Subscribes to a stream: `read(offset="first").wait_for(2)` returns two bodies."""

    def subscribe(queue="log", prefetch=100, on=connection, **arguments):
        channel = on.channel()
        channel.basic_qos(prefetch_count=prefetch)
        named = {f"x-stream-{name}": value for name, value in arguments.items()}
        return subscribe_without_ack(channel, queue, arguments=named)

    return subscribe


class TestStreamOffset:
    """RabbitMQ: the consumer argument `x-stream-offset`."""

    @behaviour("STREAM-03")
    @lie("offset-lost", cases=("last", "number_to_come", "time_long_past", "interval"))
    @lie("stream-read-from-first", cases="time_to_come")
    @pytest.mark.parametrize(
        ("offset", "bodies"),
        [
            ("last", [b"2", b"3", b"4"]),
            (4, [b"4"]),
            (datetime(2000, 1, 1, tzinfo=UTC), [b"0", b"1", b"2", b"3", b"4"]),
            (datetime(2100, 1, 1, tzinfo=UTC), [b"3", b"4"]),
            ("1h", [b"0", b"1", b"2", b"3", b"4"]),
        ],
        ids=["last", "number_to_come", "time_long_past", "time_to_come", "interval"],
    )
    def test_may_be_last_a_number_an_interval_or_a_timestamp_and_a_future_timestamp_means_the_next_message(
        self, publish, read, offset, bodies
    ):
        """A time in the future means the next message, not to wait for that time."""
        publish(b"0", b"1", b"2")

        reader = read(offset=offset)
        for body in (b"3", b"4"):  # on the reader's channel, so that they come after its subscription
            reader.channel.basic_publish("", "log", body)

        assert reader.wait_for(len(bodies)) == bodies

    @behaviour("STREAM-17")
    @lie("offset-lost")
    def test_may_be_an_interval_in_years_months_days_hours_minutes_or_seconds(self, publish, read):
        """A reader says how far back it looks, and needs no clock: `1M` is a month, and `1m` a minute."""
        publish(b"0", b"1")

        readers = [read(offset=interval) for interval in ("1Y", "1M", "1D", "1h", "10m", "600s")]

        assert [reader.wait_for(2) for reader in readers] == [[b"0", b"1"]] * 6

    @behaviour("STREAM-17", "CHAN-03")
    @lie("offset-lost")
    @pytest.mark.parametrize(
        "offset",
        [
            *("5", "0h", "1w", "1H", "1.5h"),
            *[pytest.param(text, marks=rabbitmq(since="4.3")) for text in ("soon", "-1h", "h")],
        ],
    )
    def test_of_another_text_closes_the_channel_with_406(self, publish, refusal, subscribe_without_ack, offset):
        """A misspelt offset is no offset: the reader hears of it, and misses nothing."""
        publish(b"0")

        def subscribe(careless):
            careless.basic_qos(prefetch_count=1)
            subscribe_without_ack(careless, "log", arguments={"x-stream-offset": offset})

        said = refusal(subscribe)

        assert said.code == 406
        assert said.closed == "channel"
        assert f'{{invalid_stream_offset_arg,{{longstr,<<"{offset}">>}}}}' in said.text

    @behaviour("STREAM-17", "CHAN-04")
    @lie("offset-lost")
    @pytest.mark.parametrize(
        "offset",
        [*[pytest.param(text, marks=rabbitmq(before="4.1")) for text in ("soon", "-1h", "h")], True],
    )
    def test_of_a_text_without_a_number_in_front_before_4_1_or_a_boolean_closes_the_connection_with_541(
        self, connect, publish, refusal, subscribe_without_ack, read, offset
    ):
        """One misspelt word costs the program all its channels, and the broker does not say which word."""
        publish(b"0")

        def subscribe(careless):
            careless.basic_qos(prefetch_count=1)
            subscribe_without_ack(careless, "log", arguments={"x-stream-offset": offset})

        said = refusal(subscribe, on=connect())

        assert said.code == 541
        assert said.closed == "connection"
        assert read(offset="first").wait_for(1) == [b"0"]

    @behaviour("STREAM-04")
    @lie("stream-read-from-first")
    def test_last_starts_at_the_first_message_of_the_last_chunk(self, connection, publish, read):
        """Messages that arrive together are stored together, so some messages before the last one may come first."""
        publish(b"long before")
        together = connection.channel()
        whole = read(offset="first", prefetch=1000)
        for number in range(100):
            together.basic_publish("", "log", b"%d" % number)
        whole.wait_for(101)

        last = read(offset="last", prefetch=1000)

        (first, *_) = last.wait_for(1)
        chunk = whole.bodies[whole.bodies.index(first) :]
        assert b"long before" not in chunk
        assert last.wait_for(len(chunk)) == chunk


class TestStreamConsumer:
    """RabbitMQ: acknowledgements of a consumer of a stream."""

    @behaviour("STREAM-07")
    @rabbitmq(since="4.0")
    @lie("nack-swallowed")
    def test_gets_the_next_message_on_a_nack_as_on_an_ack_since_4_0(self, publish, read):
        """Nothing is requeued or dead-lettered: the consumer itself has to record a failure."""
        publish(b"0", b"1", b"2")
        reader = read(offset="first", prefetch=1)

        reader.wait_for(1)
        reader.channel.basic_nack(reader.tags[-1], requeue=True)
        reader.wait_for(2)
        reader.channel.basic_nack(reader.tags[-1], requeue=False)

        assert reader.wait_for(3) == [b"0", b"1", b"2"]

    @behaviour("STREAM-07")
    @rabbitmq(before="4.0")
    @lie("connection-code-changed")
    def test_loses_its_connection_with_540_on_a_nack_before_4_0(
        self, connect, publish, refusal, read, subscribe_without_ack
    ):
        """Error handling that was written for a queue turns one bad message into a lost connection."""
        publish(b"0")

        def nack(careless):
            careless.basic_qos(prefetch_count=1)
            reader = subscribe_without_ack(careless, "log", arguments={"x-stream-offset": "first"})
            reader.wait_for(1)
            careless.basic_nack(reader.tags[0])
            reader.wait_for(2)

        said = refusal(nack)

        assert said.code == 540
        assert said.closed == "connection"
        assert "NOT_IMPLEMENTED - basic.nack" in said.text
        assert read(offset="first", on=connect()).wait_for(1) == [b"0"]


class TestStream:
    """RabbitMQ: a queue of type `stream`."""

    @behaviour("STREAM-02", "STREAM-09", "GET-05", "QDEL-08")
    @lie("connection-code-changed")
    @pytest.mark.parametrize(
        "operation",
        [
            lambda channel: channel.basic_get("log"),
            lambda channel: channel.queue_purge("log"),
            lambda channel: channel.basic_consume("log", print, auto_ack=True),
        ],
        ids=["get", "purge", "consume_with_auto_ack"],
    )
    def test_closes_the_connection_with_540_on_get_purge_or_auto_ack(self, connect, publish, read, refusal, operation):
        """Code that was written for a queue loses its whole connection here, with all its channels."""
        publish(b"kept")

        def misuse(careless):
            careless.basic_qos(prefetch_count=1)
            operation(careless)

        said = refusal(misuse)

        assert said.code == 540
        assert said.closed == "connection"
        assert "NOT_IMPLEMENTED" in said.text
        assert "stream" in said.text
        assert read(offset="first", on=connect()).wait_for(1) == [b"kept"]

    @behaviour("STREAM-11")
    @lie("segment-size-lost")
    def test_deletes_whole_segments_when_it_exceeds_x_max_length_bytes(self, channel, publish, read, eventually):
        """The limit is coarse: a segment has 500 MB by default, and is never deleted in part."""
        for queue, size in (("fine", 1000), ("coarse", 500_000_000)):
            limits = {"x-max-length-bytes": 3000, "x-stream-max-segment-size-bytes": size}
            channel.queue_declare(queue, durable=True, arguments=STREAM | limits)
            publish(*[b"%d" % number * 1000 for number in range(7)], queue=queue)

        def oldest(queue):
            (first, *_) = read(queue, prefetch=1, offset="first").wait_for(1)
            return first[:1]

        eventually(lambda: oldest("fine") > b"1", True)
        assert oldest("coarse") == b"0"

    @behaviour("STREAM-15", "DLX-12")
    @rabbitmq(since="3.12")
    @lie("dead-letter-exchange-lost")
    def test_stores_dead_letters_of_another_queue_since_3_12(self, channel, publish, read, get_without_ack):
        """This makes a history of all failures, which no consumer can empty by accident."""
        channel.queue_declare("work", durable=True, arguments={"x-dead-letter-exchange": "amq.fanout"})
        channel.queue_bind("log", "amq.fanout")
        publish(b"failed", queue="work")
        tag, _ = get_without_ack(channel, "work")

        channel.basic_reject(tag, requeue=False)

        assert read(offset="first").wait_for(1) == [b"failed"]

    @behaviour("STREAM-26")
    @lie("confirm-nacked")
    def test_confirms_messages_without_any_reader(self, connection, channel, publish, confirm_log):
        """A message is confirmed when it is written, whoever may read it."""
        publish()
        log = confirm_log(connection)

        for _ in range(3):
            log.channel.basic_publish("", "log", b"order")
        log.wait_for(3)

        assert log.acked == [1, 2, 3]


class TestStreamFilter:
    """RabbitMQ: the consumer argument `x-stream-filter` and the header `x-stream-filter-value`."""

    @behaviour("STREAM-13")
    @rabbitmq(since="3.13")
    @lie("stream-filter-lost")
    def test_skips_chunks_without_its_filter_value_since_3_13(self, publish, read):
        """It saves traffic only: a chunk comes whole, so consumers have to check each message again."""
        for colour in (b"red", b"blue", b"red"):
            publish(colour, headers={"x-stream-filter-value": colour.decode()})

        everything = read(offset="first")
        red = read(offset="first", filter="red")

        assert everything.wait_for(3) == [b"red", b"blue", b"red"]
        assert red.wait_for(2) == [b"red", b"red"]


class TestStreamDeclaration:
    """RabbitMQ: properties and arguments that a stream cannot have."""

    @behaviour("STREAM-01", "STREAM-09", "STREAM-12")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [
            ({"durable": False}, "'non-durable'"),
            ({"exclusive": True}, "'exclusive-owner'"),
            ({"queue": ""}, "server-named"),
            ({"arguments": STREAM | {"x-message-ttl": 1000}}, "'x-message-ttl'"),
            ({"arguments": STREAM | {"x-max-length": 10}}, "'x-max-length'"),
            ({"arguments": STREAM | {"x-dead-letter-exchange": ""}}, "'x-dead-letter-exchange'"),
            ({"arguments": STREAM | {"x-max-age": "5"}}, "'x-max-age'"),
        ],
        ids=[
            "transient",
            "exclusive",
            "server_named",
            "message_ttl",
            "max_length",
            "dead_letter_exchange",
            "max_age_without_unit",
        ],
    )
    def test_closes_the_channel_with_406_if_transient_exclusive_server_named_or_with_unsupported_or_invalid_arguments(
        self, refusal, channel, wrong, reason
    ):
        """No single message of a log expires or is dead-lettered; retention deletes by bytes or by age."""
        right = {
            "queue": "log",
            "durable": True,
            "arguments": STREAM | {"x-max-age": "1Y", "x-max-length-bytes": 1000},
        }

        said = refusal(lambda careless: careless.queue_declare(**right | wrong))

        assert said.code == 406
        assert said.closed == "channel"
        assert reason in said.text
        assert channel.queue_declare(**right).method.queue == "log"


class TestStreamFilterOfAnOldBroker:
    """RabbitMQ before 3.13: the consumer argument `x-stream-filter` of a stream."""

    @behaviour("STREAM-13")
    @rabbitmq(before="3.13")
    @lie("consumer-not-made")
    def test_is_ignored_before_3_13(self, publish, read):
        """All messages come, so that a consumer that does not check them again handles those of others."""
        for colour in (b"red", b"blue", b"red"):
            publish(colour, headers={"x-stream-filter-value": colour.decode()})

        red = read(offset="first", filter="red")

        assert red.wait_for(3) == [b"red", b"blue", b"red"]


class TestDeadLetterInStream:
    """RabbitMQ: a dead letter of another queue, whose dead-letter exchange routes to a stream."""

    @behaviour("STREAM-15", "DLX-12")
    @rabbitmq(before="3.12")
    @lie("consumer-not-made")
    def test_is_lost_before_3_12(self, channel, publish, read, get_without_ack, message_count):
        """The topology is accepted, and the history of all failures stays empty: use a classic or quorum queue."""
        to_log = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "log"}
        channel.queue_declare("work", durable=True, arguments=to_log)
        publish(b"failed", queue="work")
        tag, _ = get_without_ack(channel, "work")
        channel.basic_reject(tag, requeue=False)
        assert message_count("work") == 0

        publish(b"later")

        assert read(offset="first").wait_for(1) == [b"later"]

    @behaviour("CONVERT-15")
    @rabbitmq(since="3.13.3")
    @lie("delivered-headers-lost")
    def test_has_its_x_death_since_3_13_3(self, channel, publish, read, get_without_ack):
        """The history of all failures says of each of them where and why."""
        to_log = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "log"}
        channel.queue_declare("work", durable=True, arguments=to_log)
        publish(b"failed", queue="work")
        tag, _ = get_without_ack(channel, "work")
        channel.basic_reject(tag, requeue=False)

        reader = read(offset="first")

        assert reader.wait_for(1) == [b"failed"]
        deaths = reader.headers[0].get("x-death", [])
        assert [(death["queue"], death["reason"], death["count"]) for death in deaths] == [("work", "rejected", 1)]


class TestMessageInStream:
    """RabbitMQ: a message that was published to a stream over AMQP 0-9-1, as a consumer receives it."""

    @behaviour("CONVERT-14")
    @lie("delivered-headers-lost")
    def test_has_no_header_but_x_stream_offset_if_it_was_published_without_headers(self, publish, read):
        """A consumer finds the offset in each message, and nothing else that its publisher did not put there."""
        publish(b"0", b"1")

        reader = read(offset="first")

        assert reader.wait_for(2) == [b"0", b"1"]
        assert reader.headers == [{"x-stream-offset": 0}, {"x-stream-offset": 1}]


class TestStreamReaders:
    """RabbitMQ: several readers of one stream, and readers that are early or late."""

    @behaviour("STREAM-25")
    @lie("stream-as-queue")
    def test_read_independently_and_the_broker_stores_no_offset_for_them(self, publish, read):
        """A reader that starts again must say where: nothing is kept for it, and acks move no one else."""
        publish(b"0", b"1", b"2")
        first = read(offset="first")
        first.wait_for(3)
        for tag in first.tags:
            first.channel.basic_ack(tag)
        first.channel.close()

        second = read(offset="first")
        third = read(offset=1)

        assert second.wait_for(3) == [b"0", b"1", b"2"]
        assert third.wait_for(2) == [b"1", b"2"]

    @behaviour("STREAM-24")
    @lie("stream-read-from-first")
    def test_behind_the_end_wait_for_their_offset(self, publish, read):
        """An offset is no index into what is there: messages before it are skipped, also those to come."""
        publish(b"0", b"1")
        reader = read(offset=4)

        publish(b"2", b"3", b"4", b"5")

        assert reader.wait_for(2) == [b"4", b"5"]

    @behaviour("STREAM-18", "STREAM-19")
    @rabbitmq(since="3.13")
    @lie("stream-filter-lost")
    def test_may_ask_for_several_filter_values_or_for_messages_without_one_since_3_13(self, publish, read):
        """A reader of two regions needs no second subscription."""
        for colour in ("red", "blue", "green"):
            publish(colour.encode(), headers={"x-stream-filter-value": colour})
        publish(b"none")

        several = read(offset="first", filter=["red", "green"])
        unfiltered = read(offset="first", filter="blue", **{"match-unfiltered": True})

        assert several.wait_for(2) == [b"red", b"green"]
        assert unfiltered.wait_for(2) == [b"blue", b"none"]


class TestStreamSegment:
    """RabbitMQ: `x-stream-max-segment-size-bytes`."""

    @behaviour("STREAM-22", "CHAN-03")
    @lie("segment-size-lost")
    def test_above_three_gigabytes_closes_the_channel_with_406(self, refusal):
        """A segment is one file, and old messages are deleted segment by segment."""
        arguments = STREAM | {"x-stream-max-segment-size-bytes": 3_000_000_001}

        said = refusal(lambda channel: channel.queue_declare("log", durable=True, arguments=arguments))

        assert said.code == 406
        assert said.closed == "channel"
        assert "Exceeded max value for x-stream-max-segment-size-bytes" in said.text
