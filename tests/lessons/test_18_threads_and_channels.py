"""Threads and channels: who may use a connection, and what is counted where.

A connection carries many channels, and a channel is where things are counted: delivery tags, confirms, the order of
questions and answers. A message is several frames in a row. Two threads that write to one channel at the same time mix
their frames, and the broker ends the connection, for all that are on it. So a connection belongs to one thread; others
hand their work over to that thread, or have connections of their own. Our publisher, consumer and caller have a thread
each and may be used from any.

Spec: https://www.rabbitmq.com/docs/channels
Code: rmqspec/client/link.py, rmqspec/client/outbox.py, rmqspec/client/publisher.py
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pika
import pytest
from pika import BasicProperties, exceptions, frame, spec

from rmqspec.client import Consumer, Outcome, Publisher
from rmqspec.client.errors import WindowFull

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture(autouse=True)
def queue(channel):
    channel.queue_declare("work", durable=True)


def publish_frames(channel, body):
    """The three frames of a message on a channel: what is to be done, how long it is, and the body."""
    number = channel.channel_number
    pieces = (
        frame.Method(number, spec.Basic.Publish(routing_key="work")),
        frame.Header(number, len(body), BasicProperties()),
        frame.Body(number, body),
    )
    return [piece.marshal() for piece in pieces]


def send(connection, *frames):
    """Writes frames as they are: pika by itself always writes whole messages."""
    connection._impl._output_marshaled_frames(frames)


def closed_with(connection):
    """The code with which the broker closes a connection now."""
    with pytest.raises(exceptions.ConnectionClosedByBroker) as error:
        connection.process_data_events(time_limit=5)
    return error.value.reply_code


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("FRAMES-03", "CHAN-04")
    @lie("connection-code-changed")
    def test_ends_a_connection_whose_threads_mix_frames(self, connect, connection):
        """No lock forgives that: a second message begins before the first is whole, and all channels go."""
        shared, (one, other) = (mixed := connect()), (mixed.channel(), mixed.channel())

        (first, *_), second = publish_frames(one, b"first"), publish_frames(one, b"second")
        send(shared, first, *second)

        assert closed_with(shared) == 505
        assert (one.is_open, other.is_open, connection.is_open) == (False, False, True)

    @behaviour("FRAMES-03")
    @lie("second-delivery-lost")
    def test_joins_frames_that_mix_on_two_channels(self, connection, channel, receive):
        """That is what the number in each frame is for: large messages do not hold up small ones."""
        one, other = connection.channel(), connection.channel()

        first, second = publish_frames(one, b"first"), publish_frames(other, b"second")
        send(connection, *[piece for pair in zip(first, second, strict=True) for piece in pair])

        assert sorted(delivery.body for delivery in receive("work", 2)) == [b"first", b"second"]

    @behaviour("CHAN-11")
    @lie("recover-ignored")
    def test_takes_an_ack_on_another_channel_for_another(self, connection, channel, get_without_ack, drain):
        """Each channel counts from one, so the wrong channel has a message of that number too, and that one is gone."""
        one, other = connection.channel(), connection.channel()
        for body in (b"done", b"not done"):
            channel.basic_publish("", "work", body)
        tags = [get_without_ack(each, "work")[0] for each in (one, other)]

        other.basic_ack(tags[0])
        for each in (one, other):
            each.basic_recover(requeue=True)  # a close would be answered before all is back

        assert (tags, drain("work")) == ([1, 1], [b"done"])

    @behaviour("ACK-06")
    @lie("prefetch-ignored")
    def test_counts_what_it_hands_out_on_a_channel(self, connection, channel, get_without_ack, subscribe_without_ack):
        """Pushed or fetched, each hand-out has the next number: a tag is no name of a message, the next may differ."""
        for body in (b"pushed", b"fetched", b"pushed too"):
            channel.basic_publish("", "work", body)
        worker = connection.channel()
        worker.basic_qos(prefetch_count=1)

        pushed = subscribe_without_ack(worker, "work")
        assert pushed.wait_for(1) == [b"pushed"]
        fetched = get_without_ack(worker, "work")[0]
        worker.basic_ack(pushed.tags[0])

        assert (pushed.wait_for(2), pushed.tags, fetched) == ([b"pushed", b"pushed too"], [1, 3], 2)

    @behaviour("CHAN-12")
    @lie("answers-swapped")
    def test_answers_in_the_order_of_the_questions(self, connection, eventually):
        """A client need not wait for an answer before it asks again; on one channel nothing overtakes."""
        asking, answers = connection.channel(), []
        asking._impl.add_callback(lambda answer: answers.append(answer.method.queue), [spec.Queue.DeclareOk], False)

        names = [f"q{number}" for number in range(10)]
        declares = [frame.Method(asking.channel_number, spec.Queue.Declare(queue=name, durable=True)) for name in names]
        send(connection, *[declare.marshal() for declare in declares])

        eventually(lambda: connection.process_data_events(0) or len(answers), 10)
        assert answers == names

    @behaviour("CHAN-05", "CHAN-03")
    @lie("absence-hidden")
    def test_names_the_method_that_was_wrong(self, connection):
        """Where many methods were sent ahead, the code alone would not tell which of them was refused."""
        asking, closes = connection.channel(), []
        asking._impl.add_callback(lambda close: closes.append(close.method), [spec.Channel.Close])

        with pytest.raises(exceptions.ChannelClosedByBroker):
            asking.queue_declare("nowhere", passive=True)

        assert [(close.reply_code, close.class_id, close.method_id) for close in closes] == [(404, 50, 10)]
        assert (asking.is_closed, connection.is_open) == (True, True)

    @behaviour("CHAN-06", "CHAN-03")
    @lie("absence-hidden")
    def test_gives_the_number_of_a_closed_channel_anew(self, connection):
        """An error costs a channel and not a number: a client that opens a new one for each error does not run out."""
        broken = connection.channel()
        with pytest.raises(exceptions.ChannelClosedByBroker, match="no queue 'nowhere'"):
            broken.queue_declare("nowhere", passive=True)

        again = connection.channel(broken.channel_number)

        assert again.queue_declare("work", passive=True).method.queue == "work"
        assert again.channel_number == broken.channel_number

    @behaviour("CHAN-02", "CHAN-04")
    @lie("connection-code-changed")
    def test_refuses_more_channels_than_were_agreed(self, url, connection):
        """A program that opens a channel for each message and closes none ends here, and not the broker's memory."""
        greedy = pika.BlockingConnection(pika.URLParameters(f"{url}?channel_max=2"))
        channels = [greedy.channel(), greedy.channel()]

        send(greedy, frame.Method(3, spec.Channel.Open()).marshal())

        assert closed_with(greedy) == 530
        assert ([each.is_open for each in channels], connection.is_open) == ([False, False], True)

    @behaviour("CHAN-01", "FRAMES-10", "CHAN-04")
    @pytest.mark.parametrize(
        ("number", "method"), [(1, spec.Channel.Open()), (7, spec.Basic.Ack(1))], ids=["opened_twice", "never_opened"]
    )
    @lie("connection-code-changed")
    def test_ends_a_connection_that_loses_count_of_channels(self, connect, connection, number, method):
        """The two sides no longer mean the same by a number, so nothing that follows could be trusted."""
        confused = connect()
        opened = confused.channel(1)

        send(confused, frame.Method(number, method).marshal())

        assert closed_with(confused) == 504
        assert (opened.is_open, connection.is_open) == (False, True)


class TestBlockingConnection:
    """What pika asks of threads."""

    @lie("ack-requeues")
    def test_takes_acks_of_other_threads_as_work(self, connection, channel, subscribe_without_ack, drain):
        """The one method that any thread may call; the connection's thread does the rest between two frames."""
        channel.basic_publish("", "work", b"an order")
        consumer = connection.channel()
        holder, done = subscribe_without_ack(consumer, "work"), threading.Event()
        holder.wait_for(1)

        def acknowledge():
            consumer.basic_ack(holder.tags[0])
            done.set()

        threading.Thread(target=partial(connection.add_callback_threadsafe, acknowledge)).start()
        while not done.is_set():
            connection.process_data_events(time_limit=10)

        consumer.close()
        assert drain("work") == []


class TestPublisher:
    """What our publisher adds."""

    @lie("body-repeated")
    def test_keeps_the_order_of_each_of_its_threads(self, source, drain):
        """Sixteen threads, one connection: no message is lost or doubled, and none overtakes its own."""
        with Publisher(source) as publisher, ThreadPoolExecutor(16) as pool:

            def produce(thread):
                for number in range(50):
                    publisher.publish("", "work", b"%d %d" % (thread, number))

            list(pool.map(produce, range(16)))

        orders = drain("work")
        for thread in range(16):
            own = [b"%d %d" % (thread, number) for number in range(50)]
            assert [order for order in orders if order in own] == own

    @lie("confirm-swallowed")
    def test_may_be_used_in_the_callback_of_a_confirm(self, source, receive):
        """It runs in the connection's thread; to wait there for a confirm would be to wait for oneself."""
        with Publisher(source) as publisher:
            first = publisher.publish("", "work", b"order")
            first.add_done_callback(lambda done: done.exception() or publisher.publish("", "work", b"invoice"))

            assert [delivery.body for delivery in receive("work", 2)] == [b"order", b"invoice"]

    @lie(
        None,
        because="Our own window refuses, in our own thread: no answer of a broker changes that.",
    )
    def test_does_not_wait_for_room_in_a_callback(self, source):
        """The place of its own message is free for it. Beyond that only its own thread could make room: it hears so."""
        refused = []

        def publish_two(_):
            publisher.publish("", "work", b"invoice")
            try:
                publisher.publish("", "work", b"too many")
            except WindowFull as error:
                refused.append(str(error).partition(",")[0])

        with Publisher(source, window=1) as publisher:
            while not refused and publisher.confirmed[""] < 100:  # a confirm that was first leaves it to this thread
                publisher.publish("", "work", b"order").add_done_callback(publish_two)

        assert refused[0] == "no room in the window within 0 s"


class TestConsumer:
    """What our consumer adds."""

    @lie("prefetch-one")
    def test_runs_several_handlers_on_one_connection(self, source, channel, run_until_it_ends, drain, patience):
        """Each waits for the other three: one after another none of them would ever meet them."""
        meeting = threading.Barrier(4, lambda: consumer.stop(), patience / 2)
        for _ in range(4):
            channel.basic_publish("", "work", b"an order")

        consumer = Consumer(source, "work", lambda _: meeting.wait() >= 0 and Outcome.ACK, prefetch=4, concurrency=4)
        with suppress(threading.BrokenBarrierError):  # they have not met
            run_until_it_ends(consumer)

        assert (consumer.outcomes, drain("work")) == ({Outcome.ACK: 4}, [])
