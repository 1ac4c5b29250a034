"""Threads and channels: what may be shared, and what is counted per channel.

A connection carries many channels. Delivery tags and confirms are counted on each channel separately, and a mistake
usually closes only its channel. A message is sent as several frames, and the frames of two messages must not mix on one
channel: if two threads publish on the same channel without a lock and their frames mix, the broker closes the whole
connection. Frames of different channels may mix, so for the broker a channel for each thread is enough.

Client libraries may ask for more. pika's connections are not thread-safe: one thread uses a connection, and other
threads hand their work over with `add_callback_threadsafe`. Our publisher, consumer and RPC client each have a thread
of their own, and can be called from any thread.

Spec: https://www.rabbitmq.com/docs/channels
Code: rmqspec/client/link.py, rmqspec/client/outbox.py, rmqspec/client/publisher.py
Reference: CHAN-01…06, CHAN-09, CHAN-11, CHAN-12, FRAMES-03, FRAMES-10, ACK-06
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pika
import pytest
from pika import BasicProperties, frame, spec

from rmqspec.client import Consumer, Outcome, Publisher
from rmqspec.client.errors import WindowFull

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture(autouse=True)
def queue(channel):
    """An empty queue."""
    channel.queue_declare("work", durable=True)


def publish_frames(channel, body):
    """The three frames of a message on a channel: the method, the header with the size, and the body."""
    number = channel.channel_number
    return (
        frame.Method(number, spec.Basic.Publish(routing_key="work")),
        frame.Header(number, len(body), BasicProperties()),
        frame.Body(number, body),
    )


class TestInterleavedFrames:
    """RabbitMQ: the frames of two messages, mixed as two threads without a lock would mix them."""

    @behaviour("FRAMES-03", "CHAN-04")
    @lie("connection-code-changed")
    def test_on_one_channel_close_the_connection_with_505(self, connect, send_frames, closed_connection):
        """A thread that publishes on another thread's channel ends the work of all channels of the connection."""
        connection = connect()
        sibling = connection.channel()

        def mix(channel):
            method, _, _ = publish_frames(channel, b"first")
            send_frames(channel, method, *publish_frames(channel, b"second"))

        said = closed_connection(connection, mix)

        assert said.reply_code == 505
        assert "UNEXPECTED_FRAME" in said.reply_text
        assert sibling.is_closed

    @behaviour("FRAMES-03")
    @lie("body-repeated")
    def test_on_two_channels_are_joined_to_two_messages(self, connection, send_frames, receive):
        """Each frame carries the number of its channel, so a large message does not hold up small ones."""
        one = connection.channel()
        other = connection.channel()

        for pair in zip(publish_frames(one, b"first"), publish_frames(other, b"second"), strict=True):
            send_frames(one, *pair)

        assert sorted(delivery.body for delivery in receive("work", 2)) == [b"first", b"second"]


class TestDeliveryTag:
    """RabbitMQ: the number by which a consumer acks a message."""

    @behaviour("CHAN-11")
    @lie("delivery-tags-counted-together")
    def test_used_on_another_channel_acks_another_message(self, connection, channel, get_without_ack, drain):
        """Tags are counted per channel: tag 1 elsewhere is another message, and that one is lost if its work fails."""
        one = connection.channel()
        other = connection.channel()
        for body in (b"done", b"not done"):
            channel.basic_publish("", "work", body)
        tag_of_done, _ = get_without_ack(one, "work")
        tag_of_not_done, _ = get_without_ack(other, "work")

        other.basic_ack(tag_of_done)

        # Not by closing the channels: close-ok may come before their messages are requeued.
        for each in (one, other):
            each.basic_recover(requeue=True)
        assert tag_of_done == 1
        assert tag_of_not_done == 1
        assert drain("work") == [b"done"]


class TestChannelMax:
    """RabbitMQ: the number of channels that client and broker agreed on when the connection was opened."""

    @behaviour("CHAN-02", "CHAN-04")
    @lie("connection-code-changed")
    def test_exceeded_closes_the_connection_with_530(self, url, send_frames, closed_connection):
        """A program that opens a channel for each message and closes none is stopped here."""
        connection = pika.BlockingConnection(pika.URLParameters(f"{url}?channel_max=2"))
        sibling = connection.channel()

        said = closed_connection(connection, lambda channel: send_frames(channel, frame.Method(3, spec.Channel.Open())))

        assert said.reply_code == 530
        assert sibling.is_closed


class TestBlockingConnection:
    """pika: its blocking connection and other threads."""

    @lie("ack-swallowed")
    def test_acks_from_other_threads_by_add_callback_threadsafe(
        self, connection, channel, subscribe_without_ack, served, drain
    ):
        """The one method that any thread may call: the connection's own thread then sends the ack."""
        channel.basic_publish("", "work", b"an order")
        consumer_channel = connection.channel()
        consumer = subscribe_without_ack(consumer_channel, "work")
        consumer.wait_for(1)
        acked = threading.Event()

        def acknowledge():
            consumer_channel.basic_ack(consumer.tags[0])
            acked.set()

        threading.Thread(target=connection.add_callback_threadsafe, args=(acknowledge,)).start()
        served(connection, acked.is_set, True)

        consumer_channel.basic_cancel(consumer.consumer_tag)
        consumer_channel.basic_recover(requeue=True)
        assert drain("work") == []


class TestPublisher:
    """Our publisher: it can be called from any thread."""

    @lie("deliveries-swapped")
    def test_keeps_the_order_of_each_publishing_thread(self, source, receive):
        """Sixteen threads share one connection; no message is lost or doubled, or overtakes one of its own thread."""
        with Publisher(source) as publisher, ThreadPoolExecutor(16) as pool:

            def produce(thread):
                for number in range(50):
                    publisher.publish("", "work", b"%d %d" % (thread, number))

            list(pool.map(produce, range(16)))

        bodies = [delivery.body for delivery in receive("work", 16 * 50)]
        for thread in range(16):
            own = [b"%d %d" % (thread, number) for number in range(50)]
            assert [body for body in bodies if body in own] == own

    @lie("confirm-swallowed")
    def test_can_publish_in_the_callback_of_a_confirm(self, source, receive):
        """The callback runs in the connection's thread; to wait there for a confirm would be a deadlock."""

        def publish_invoice(confirmed):
            if confirmed.exception() is None:
                publisher.publish("", "work", b"invoice")

        with Publisher(source) as publisher:
            publisher.publish("", "work", b"order").add_done_callback(publish_invoice)

            assert [delivery.body for delivery in receive("work", 2)] == [b"order", b"invoice"]

    @lie(None, because="Our own window refuses, in our own thread: no answer of a broker changes that.")
    def test_raises_window_full_at_once_in_a_callback(self, source):
        """One message fits in the place of its own; waiting for more would block the thread that makes room."""
        refused = []

        def publish_two(_):
            publisher.publish("", "work", b"invoice")
            try:
                publisher.publish("", "work", b"too many")
            except WindowFull as error:
                refused.append(str(error).partition(",")[0])

        with Publisher(source, window=1) as publisher:
            # A callback that was added after the confirm runs in this thread, which may wait: then once more.
            while not refused and publisher.confirmed[""] < 100:
                publisher.publish("", "work", b"order").add_done_callback(publish_two)

        assert refused[0] == "no room in the window within 0 s"


class TestConsumer:
    """Our consumer: several handlers on one connection."""

    @lie("prefetch-one")
    def test_runs_handlers_concurrently_up_to_its_concurrency(
        self, source, channel, run_until_it_ends, drain, wait_limit
    ):
        """Each of four handlers waits for the other three: one after another they would never meet."""
        for _ in range(4):
            channel.basic_publish("", "work", b"an order")
        meeting = threading.Barrier(4, lambda: consumer.stop(), wait_limit / 2)

        def meet(_):
            meeting.wait()
            return Outcome.ACK

        consumer = Consumer(source, "work", meet, prefetch=4, concurrency=4)
        with suppress(threading.BrokenBarrierError):  # they have not met
            run_until_it_ends(consumer)

        assert consumer.outcomes == {Outcome.ACK: 4}
        assert drain("work") == []
