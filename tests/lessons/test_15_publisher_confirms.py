"""Publisher confirms: the broker acks or nacks each message that was published.

A publish has no reply. A publisher that wants one puts its channel into confirm mode. From then on both sides count
the publishes of that channel, 1, 2, 3, and the broker sends `basic.ack` for a number when the message is in every queue
it was routed to, or `basic.nack` when a queue rejected it. A confirm may come late, and one confirm may cover many
messages, so a publisher need not wait for one before it sends the next message.

Our publisher remembers which number belongs to which message. It returns a future for each message, and a window limits
how many messages may be unconfirmed. If the connection is lost, the outcome of the unconfirmed ones is unknown: the
caller is notified, or has them sent again.

Spec: https://www.rabbitmq.com/docs/confirms
Code: rmqspec/client/publisher.py, rmqspec/client/window.py, rmqspec/client/link.py
Reference: CONFIRM-02, CONFIRM-04, CONFIRM-05, CONFIRM-07, CONFIRM-08, CONFIRM-10, CONFIRM-11, CONFIRM-14
"""

import threading
from contextlib import contextmanager

import pytest

from rmqspec.client import Publisher, open_connections
from rmqspec.client.errors import Nacked, OutcomeUnknown, WindowFull

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture(autouse=True)
def queues(channel):
    """A queue without a limit, and one that rejects every message but the first."""
    channel.queue_declare("open", durable=True)
    channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})


class TestPublisherConfirms:
    """RabbitMQ: what the broker sends for each publish in confirm mode."""

    @behaviour("CONFIRM-07")
    @lie("confirm-before-enqueued")
    def test_arrive_when_every_queue_has_the_message(self, connection, connect):
        """After the confirm a crash of the publisher loses nothing: any consumer finds the message in its queue."""
        publisher = connection.channel()
        for queue in ("one", "two", "three"):
            publisher.queue_declare(queue, durable=True)
            publisher.queue_bind(queue, "amq.topic", "news")
        reader = connect().channel()

        publisher.confirm_delivery()
        publisher.basic_publish("amq.topic", "news", b"to all")  # pika waits for the confirm

        for queue in ("one", "two", "three"):
            _, _, body = reader.basic_get(queue)
            assert body == b"to all"

    @behaviour("CONFIRM-04")
    @lie("first-confirm-swallowed")
    def test_ack_each_of_a_thousand_publishes_exactly_once(self, connection, confirm_log):
        """One ack may cover many messages, and still none is forgotten: no publisher waits for a confirm in vain."""
        log = confirm_log(connection)

        for _ in range(1000):
            log.channel.basic_publish("", "open", b"")
        log.wait_for(1000)

        assert sorted(log.acked) == list(range(1, 1001))
        assert log.nacked == []

    @behaviour("CONFIRM-05")
    @lie("confirm-nacked")
    def test_ack_an_unroutable_message(self, connection, confirm_log, drain):
        """An ack does not prove that any queue has the message: with a wrong routing key it is dropped and acked."""
        log = confirm_log(connection)

        log.channel.basic_publish("", "nowhere", b"dropped")
        log.channel.basic_publish("", "open", b"kept")
        log.wait_for(2)

        assert log.acked == [1, 2]
        assert drain("open") == [b"kept"]

    @behaviour("CONFIRM-10")
    @lie("nack-confirmed")
    def test_nack_a_message_that_a_full_queue_rejects(self, connection, confirm_log, drain):
        """With `x-overflow: reject-publish` only a publisher that reads nacks knows that its message was rejected."""
        log = confirm_log(connection)

        log.channel.basic_publish("", "full", b"first")
        log.channel.basic_publish("", "full", b"second")
        log.wait_for(2)

        assert log.acked == [1]
        assert log.nacked == [2]
        assert drain("full") == [b"first"]


class TestPublisher:
    """Our publisher: each message has a future with its outcome."""

    @lie("confirm-multiple-lost")
    def test_confirms_a_thousand_pipelined_messages(self, source, settled):
        """It does not wait for one confirm before it sends the next message, so all of them share the round trips."""
        with Publisher(source) as publisher:
            with stalled():
                futures = [publisher.publish("", "open", b"%d" % number) for number in range(1000)]

            outcomes = [settled(future).exception() or future.result().message.body for future in futures]

        assert outcomes == [b"%d" % number for number in range(1000)]

    @lie("deliveries-swapped")
    def test_keeps_the_order_of_publish_calls(self, source, receive):
        """Many messages leave in one write; if one overtook another there, a queue would hold them in a wrong order."""
        with Publisher(source) as publisher:
            for number in range(1000):
                publisher.publish("", "open", b"%d" % number)

        bodies = [delivery.body for delivery in receive("open", 1000)]
        assert bodies == [b"%d" % number for number in range(1000)]

    @lie("nack-confirmed")
    def test_raises_nacked_for_the_rejected_message_only(self, source, settled):
        """A confirm that covers many messages must not give one of them the outcome of its neighbour."""
        with Publisher(source) as publisher:
            futures = [publisher.publish("", queue, queue.encode()) for queue in ("full", "open", "full", "open")]

        errors = [settled(future).exception() for future in futures]
        assert [type(error) for error in errors] == [type(None), type(None), Nacked, type(None)]
        assert errors[2].message.body == b"full"

    @lie("confirm-swallowed")
    def test_flush_returns_true_after_every_message_is_confirmed(self, source, wait_limit):
        """A program that exits after its last publish, without a flush, may have lost what was not yet confirmed."""
        with Publisher(source) as publisher:
            with stalled():
                futures = [publisher.publish("", "open", b"") for _ in range(100)]
                flushed_at_once = publisher.flush(0.01)
            flushed = publisher.flush(wait_limit)

        assert flushed_at_once is False
        assert flushed is True
        assert [future.exception(0) for future in futures] == [None] * 100

    @lie("confirm-swallowed")
    def test_raises_window_full_until_a_confirm_makes_room(self, source, drain, settled):
        """If the broker stops confirming, the window fills and not the memory, and the caller decides what to do."""
        with Publisher(source, window=2, patience=0.05) as publisher:
            with stalled():
                accepted = [publisher.publish("", "open", body) for body in (b"first", b"second")]
                with pytest.raises(WindowFull, match="no room in the window") as error:
                    publisher.publish("", "open", b"third")
            assert [settled(future).exception() for future in accepted] == [None, None]
            publisher.publish("", "open", b"fourth")

        assert error.value.message.body == b"third"
        assert drain("open") == [b"first", b"second", b"fourth"]

    @lie("first-confirm-swallowed")
    def test_raises_outcome_unknown_if_the_connection_dies_before_the_confirm(self, source, settled):
        """The message may be in its queue or not. To report it as lost would be a guess, and so would the opposite."""
        with Publisher(source) as publisher:
            with stalled():
                unconfirmed = publisher.publish("", "open", b"unconfirmed")
                cut_before_a_confirm_is_read()

            with pytest.raises(OutcomeUnknown, match="unknown whether it has") as error:
                settled(unconfirmed).result()
            after = settled(publisher.publish("", "open", b"next")).exception()

        assert error.value.message.body == b"unconfirmed"
        assert after is None

    @lie("first-confirm-swallowed")
    def test_with_resend_sends_unconfirmed_messages_again_after_a_reconnect(self, source, drain, settled):
        """No message is missing then, but some may be in the queue twice: their consumers must recognise duplicates."""
        with Publisher(source, resend=True) as publisher:
            with stalled():
                futures = [publisher.publish("", "open", body) for body in (b"1", b"2")]
                cut_before_a_confirm_is_read()

            errors = [settled(future).exception() for future in futures]

        assert errors == [None, None]
        assert set(drain("open")) == {b"1", b"2"}


def loop_of(publisher):
    (loop,) = (connection for connection in open_connections() if connection.name == publisher)
    return loop


@contextmanager
def stalled(publisher="publisher"):
    """Meanwhile the publisher's I/O thread stands still: it neither sends a message nor reads a confirm."""
    gate = threading.Event()
    loop_of(publisher).ioloop.add_callback_threadsafe(gate.wait)
    try:
        yield
    finally:
        gate.set()


def cut_before_a_confirm_is_read(publisher="publisher"):
    """The connection ends before its thread reads anything more; messages may have been sent."""
    loop = loop_of(publisher)
    loop.ioloop.add_callback_threadsafe(loop.cut)
