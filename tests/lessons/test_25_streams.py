"""Streams: a log that is read, not emptied.

A queue is empty when its messages are done; a stream keeps them. Each message has a number, its offset, and a reader
says where it begins: at the start, at the end, at an offset or at a time. Any number of readers read the same stream,
each at its own pace, as often as they like, and none takes anything from the others; only its old end is cut, by size
or by age. In the order system each listener has a queue of its own, and what was logged before the queue was there is
lost to it: a stream would still have it.

Spec: https://www.rabbitmq.com/docs/streams
Code: rmqspec/orders/topology.py, rmqspec/orders/log_consumer.py
"""

from datetime import UTC, datetime

import pytest
from pika import BasicProperties, exceptions

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

STREAM = {"x-queue-type": "stream"}

STARTS = {
    "unasked": ({}, b"34"),
    "next": ({"offset": "next"}, b"34"),
    "first": ({"offset": "first"}, b"01234"),
    "last": ({"offset": "last"}, b"234"),
    "number": ({"offset": 1}, b"1234"),
    "number_yet_to_come": ({"offset": 4}, b"4"),
    "time_long_past": ({"offset": datetime(2000, 1, 1, tzinfo=UTC)}, b"01234"),
    "time_yet_to_come": ({"offset": datetime(2100, 1, 1, tzinfo=UTC)}, b"34"),
    "an_hour_back": ({"offset": "1h"}, b"01234"),
}

UNFIT = {
    "transient": ({"durable": False}, "'non-durable'"),
    "exclusive": ({"exclusive": True}, "'exclusive-owner'"),
    "named_by_the_broker": ({"queue": ""}, "server-named"),
    "ttl": ({"arguments": STREAM | {"x-message-ttl": 1000}}, "'x-message-ttl'"),
    "length": ({"arguments": STREAM | {"x-max-length": 10}}, "'x-max-length'"),
    "dead_letters": ({"arguments": STREAM | {"x-dead-letter-exchange": ""}}, "'x-dead-letter-exchange'"),
    "age_without_unit": ({"arguments": STREAM | {"x-max-age": "5"}}, "'x-max-age'"),
}


@pytest.fixture
def publish(channel):
    """Publishes to the stream `log`, each message after the last one's confirm: `publish(b"0", b"1")`."""
    channel.queue_declare("log", durable=True, arguments=STREAM)

    def each(*bodies, queue="log", headers=None):
        for body in bodies:
            channel.basic_publish("", queue, body, BasicProperties(headers=headers))

    return each


@pytest.fixture
def read(connection, subscribe_without_ack):
    """Subscribes to a stream: `read(offset="first").wait_for(2)` is what came once two messages have."""

    def subscribe(queue="log", prefetch=100, on=connection, **asked):
        channel = on.channel()
        channel.basic_qos(prefetch_count=prefetch)
        return subscribe_without_ack(
            channel, queue, arguments={f"x-stream-{name}": value for name, value in asked.items()}
        )

    return subscribe


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("STREAM-06")
    @lie("offset-lost")
    def test_keeps_what_was_read_and_acknowledged(self, publish, read):
        """An ack asks for more, that is all: once a bug is fixed, all of yesterday can be read again."""
        publish(b"0", b"1")
        first = read(offset="first")
        first.wait_for(2)
        first.channel.basic_ack(0, multiple=True)

        again = read(offset="first")

        assert (first.bodies, again.wait_for(2)) == ([b"0", b"1"], [b"0", b"1"])

    @behaviour("STREAM-06", "STREAM-10")
    @lie("prefetch-one")
    def test_gives_each_reader_everything(self, connect, publish, read):
        """Consumers of a queue share its messages; ten readers of a stream need no ten queues with ten copies."""
        one, other = read(offset="first"), read(offset="first", on=connect())

        publish(b"0", b"1", b"2")

        assert one.wait_for(3) == other.wait_for(3) == [b"0", b"1", b"2"]

    @behaviour("STREAM-03")
    @pytest.mark.parametrize(("asked", "bodies"), STARTS.values(), ids=STARTS)
    @lie("delivered-twice")
    def test_begins_where_its_reader_asks(self, publish, read, asked, bodies):
        """Unasked it begins at the end: a reader that wants the history and does not say so sees none of it."""
        publish(b"0", b"1", b"2")

        reader = read(**asked)
        for body in (b"3", b"4"):  # on the reader's channel, so that they come behind its subscription
            reader.channel.basic_publish("", "log", body)

        assert b"".join(reader.wait_for(len(bodies))) == bodies

    @behaviour("STREAM-04")
    @lie("offset-lost")
    def test_begins_at_the_last_chunk_by_last(self, connection, publish, read):
        """What came together is stored together: ask for the last message, and some before it may come first."""
        publish(b"long before")
        hasty, whole = connection.channel(), read(offset="first", prefetch=1000)
        for number in range(100):
            hasty.basic_publish("", "log", b"%d" % number)
        whole.wait_for(101)

        tail = read(offset="last", prefetch=1000)

        expected = whole.bodies[whole.bodies.index(tail.wait_for(1)[0]) :]
        assert (tail.wait_for(len(expected)), b"long before" in expected) == (expected, False)

    @behaviour("STREAM-05")
    @lie("stream-offset-wrong")
    def test_tells_each_offset_in_a_header(self, publish, read):
        """The bookmark: kept beside what was made of the message, it lets the next reader resume behind it."""
        publish(b"0", b"1", b"2")
        reader = read(offset="first", prefetch=2)
        reader.wait_for(2)
        bookmarks = [headers.get("x-stream-offset", -1) for headers in reader.headers]

        resumed = read(offset=bookmarks[-1] + 1)

        assert (bookmarks, resumed.wait_for(1), resumed.headers) == ([0, 1], [b"2"], [{"x-stream-offset": 2}])

    @behaviour("STREAM-08", "STREAM-06")
    @lie("ack-multiple-lost")
    def test_sends_on_as_acks_make_room(self, channel, publish, read, subscribe_without_ack):
        """A reader's only brake; an ack may come in any order, and each makes room for one more."""
        channel.queue_declare("beside", durable=True)
        publish(b"0", b"1", b"2", b"3", b"4")
        reader = read(offset="first", prefetch=2)
        beside = subscribe_without_ack(reader.channel, "beside")

        publish(b"sentinel", queue="beside")
        first = (beside.wait_for(1), list(reader.wait_for(2)))
        reader.channel.basic_ack(reader.tags[1])
        second = list(reader.wait_for(3))
        reader.channel.basic_ack(0, multiple=True)

        assert (first, second) == (([b"sentinel"], [b"0", b"1"]), [b"0", b"1", b"2"])
        assert reader.wait_for(5) == [b"0", b"1", b"2", b"3", b"4"]

    @behaviour("STREAM-07")
    @pytest.mark.rabbitmq(since="4.0")
    @lie("offset-lost")
    def test_takes_a_nack_for_an_ack(self, publish, read):
        """Nothing comes back and nothing is dead-lettered: what failed must be written down by its reader."""
        publish(b"0", b"1", b"2")
        reader = read(offset="first", prefetch=1)

        for count, requeue in ((1, True), (2, False)):
            reader.wait_for(count)
            reader.channel.basic_nack(reader.tags[-1], requeue=requeue)

        assert reader.wait_for(3) == [b"0", b"1", b"2"]

    @behaviour("STREAM-07")
    @pytest.mark.rabbitmq(before="4.0")
    @lie("offset-lost")
    def test_refuses_a_nack(self, connect, publish, read):
        """Error handling that was copied from a queue's consumer turns one bad message into a lost connection."""
        publish(b"0")
        careless = read(offset="first", on=connect())
        careless.wait_for(1)

        careless.channel.basic_nack(careless.tags[0])

        with pytest.raises(exceptions.ConnectionClosedByBroker, match=r"NOT_IMPLEMENTED - basic\.nack") as error:
            careless.wait_for(2)
        assert (error.value.reply_code, read(offset="first").wait_for(1)) == (540, [b"0"])

    @behaviour("STREAM-02", "STREAM-09")
    @pytest.mark.parametrize(
        ("method", "more"),
        [("basic_get", {}), ("queue_purge", {}), ("basic_consume", {"on_message_callback": print, "auto_ack": True})],
        ids=["get", "purge", "auto_ack"],
    )
    @lie("offset-lost")
    def test_refuses_what_would_empty_it(self, connect, publish, read, method, more):
        """Code that was written for a queue loses its whole connection here, and all that went over it."""
        publish(b"kept")
        careless = connect()
        (channel := careless.channel()).basic_qos(prefetch_count=1)

        with pytest.raises(exceptions.ConnectionClosedByBroker, match=r"NOT_IMPLEMENTED .* stream") as error:
            getattr(channel, method)("log", **more)

        assert (error.value.reply_code, careless.is_closed) == (540, True)
        assert read(offset="first").wait_for(1) == [b"kept"]

    @behaviour("STREAM-02", "CHAN-03")
    @lie("offset-lost")
    def test_refuses_a_reader_without_prefetch(self, connection, publish, read):
        """Without a limit it would pour years of messages into one reader's memory."""
        publish(b"a long history")

        with pytest.raises(exceptions.ChannelClosedByBroker, match="prefetch count is not set") as error:
            read(prefetch=0)

        assert (error.value.reply_code, connection.is_open) == (406, True)
        assert read(offset="first", prefetch=1).wait_for(1) == [b"a long history"]

    @behaviour("STREAM-01", "STREAM-09", "STREAM-12")
    @pytest.mark.parametrize(("unfit", "words"), UNFIT.values(), ids=UNFIT)
    @lie("precondition-hidden")
    def test_refuses_what_does_not_fit_a_log(self, connection, channel, unfit, words):
        """No message in a log dies alone and no client owns it; its old end is cut, by bytes or by age."""
        fit = {"queue": "other", "durable": True, "arguments": STREAM | {"x-max-age": "1Y", "x-max-length-bytes": 1000}}
        careless = connection.channel()

        with pytest.raises(exceptions.ChannelClosedByBroker, match=words) as error:
            careless.queue_declare(**fit | unfit)

        assert (error.value.reply_code, careless.is_closed, connection.is_open) == (406, True, True)
        assert channel.queue_declare(**fit).method.queue == "other"

    @behaviour("STREAM-11")
    @lie("segment-size-lost")
    def test_cuts_off_whole_segments_alone(self, channel, publish, read, eventually):
        """The limit is a coarse one: a segment has 500 MB unless told otherwise, and is never cut in half."""
        for queue, size in (("fine", 1000), ("coarse", 500_000_000)):
            limits = {"x-max-length-bytes": 3000, "x-stream-max-segment-size-bytes": size}
            channel.queue_declare(queue, durable=True, arguments=STREAM | limits)
            publish(*[b"%d" % number * 1000 for number in range(7)], queue=queue)

        eventually(lambda: read("fine", prefetch=1, offset="first").wait_for(1)[0] > b"1", True)
        assert read("coarse", prefetch=1, offset="first").wait_for(1)[0] == b"0" * 1000

    @behaviour("STREAM-13")
    @pytest.mark.rabbitmq(since="3.13")
    @lie("offset-lost")
    def test_leaves_out_what_a_filter_does_not_ask_for(self, publish, read):
        """It saves the way, not the check: what is stored together comes together, and a reader looks again."""
        for colour in (b"red", b"blue", b"red"):
            publish(colour, headers={"x-stream-filter-value": colour.decode()})

        everything, red = read(offset="first"), read(offset="first", filter="red")

        assert (everything.wait_for(3), red.wait_for(2)) == ([b"red", b"blue", b"red"], [b"red", b"red"])

    @behaviour("STREAM-15", "DLX-12")
    @pytest.mark.rabbitmq(since="3.12")
    @lie("offset-lost")
    def test_keeps_dead_letters_in_a_log(self, channel, publish, read, get_without_ack):
        """A history of all failures, which nobody can empty by accident."""
        channel.queue_declare("work", durable=True, arguments={"x-dead-letter-exchange": "amq.fanout"})
        channel.queue_bind("log", "amq.fanout")
        publish(b"failed", queue="work")

        channel.basic_reject(get_without_ack(channel, "work")[0], requeue=False)

        assert read(offset="first").wait_for(1) == [b"failed"]
