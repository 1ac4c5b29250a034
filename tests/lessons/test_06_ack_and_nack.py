"""Ack and nack: a message is done when its consumer says so.

A broker that hands a message to a consumer does not forget it. It waits for a word: ack (done, forget it) or nack
(not done: put it back, or throw it away). If the consumer dies before it says anything, its channel closes, and all
that it held goes back to the queue, at its old place and marked `redelivered`. So nothing is lost when a consumer
crashes; the price is that an order may be worked on twice. Who asks for automatic acknowledgement gives this up: then
a message is done the moment it is sent.

Our worker says ack as the very last thing, when the order is completed and everybody has been told.

Spec: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
Code: rmqspec/client/consumer.py, rmqspec/orders/worker.py
"""

import pytest
from pika import exceptions

from rmqspec.client import Outcome
from rmqspec.client.errors import ChannelClosed
from rmqspec.orders import Completed, Order, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    channel.queue_declare("work", durable=True)
    for body in (b"first", b"second", b"third"):
        channel.basic_publish("", "work", body)
    return "work"


@pytest.fixture
def holder(connection, queue):
    """A channel that was given the first two messages, under the delivery tags 1 and 2, and has not settled them."""
    channel = connection.channel()
    channel.basic_get(queue)
    channel.basic_get(queue)
    return channel


@pytest.fixture
def take_back(channel, queue, drain, eventually):
    """Waits until so many messages are ready, and takes them: what is given back is there a moment later."""

    def wait(count):
        eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count, count)
        return drain(queue)

    return wait


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("QDECL-02")
    @lie("message-count-wrong")
    def test_does_not_count_what_a_consumer_holds(self, channel, queue, holder):
        """The depth of a queue is what waits: a queue that looks empty may still have work in somebody's hands."""
        declared = channel.queue_declare(queue, passive=True)

        assert declared.method.message_count == 1

    @behaviour("CHAN-09")
    @lie("message-count-wrong")
    def test_takes_back_what_a_closed_channel_held(self, holder, take_back):
        """A consumer that dies says no goodbye; losing its channel is all that the broker sees of it."""
        holder.close()

        assert sorted(take_back(3)) == [b"first", b"second", b"third"]

    @behaviour("CHAN-10")
    @lie("second-delivery-lost")
    def test_takes_back_what_a_closed_connection_held(self, connect, queue, receive):
        """The same when the whole process goes: nobody has to notice it and send the message again."""
        crashed = connect()
        crashed.channel().basic_get(queue)

        crashed.close()

        assert sorted(delivery.body for delivery in receive(queue, 3)) == [b"first", b"second", b"third"]

    @behaviour("NACK-04", "ORDER-10")
    @lie("redelivered-always")
    def test_marks_what_comes_back_as_redelivered(self, queue, holder, receive):
        """The mark says that somebody may have done the work already; what nobody had yet does not carry it."""
        holder.close()

        assert {delivery.body: delivery.redelivered for delivery in receive(queue, 3)} == {
            b"first": True,
            b"second": True,
            b"third": False,
        }

    @behaviour("ORDER-04")
    @lie("message-count-wrong")
    def test_returns_a_message_to_its_old_place(self, holder, take_back):
        """At the end of the queue the oldest order would wait longest, and once more after every crash."""
        holder.close()

        assert take_back(3) == [b"first", b"second", b"third"]

    @behaviour("ACK-05")
    @lie("ack-multiple-always")
    def test_forgets_what_was_acknowledged(self, holder, take_back):
        """Each message is settled for itself: the second may be done while the first is not."""
        holder.basic_ack(2)
        holder.close()

        assert take_back(2) == [b"first", b"third"]

    @behaviour("ACK-02")
    @lie("ack-multiple-lost")
    def test_settles_all_up_to_a_tag_by_multiple(self, queue, holder, take_back):
        """One ack for a hundred messages saves traffic; what was taken after the tag stays open."""
        holder.basic_get(queue)

        holder.basic_ack(2, multiple=True)
        holder.close()

        assert take_back(1) == [b"third"]

    @behaviour("NACK-01", "ORDER-01")
    @lie("requeue-discards")
    def test_puts_a_nacked_message_back(self, holder, take_back):
        """For work that cannot be done now; it goes to the front again, maybe to the same consumer at once."""
        holder.basic_nack(1, requeue=True)

        assert take_back(2) == [b"first", b"third"]

    @behaviour("NACK-01")
    @lie("discard-requeues")
    def test_throws_away_what_is_nacked_without_requeue(self, holder, take_back):
        """Where no dead-letter exchange catches it (next chapter), this deletes the message for good."""
        holder.basic_nack(1, requeue=False)
        holder.close()

        assert take_back(2) == [b"second", b"third"]

    @behaviour("NACK-02")
    @lie("nack-multiple-lost")
    def test_nacks_several_by_multiple(self, holder, take_back):
        """A consumer that stops gives back all that it has not begun, in one word and in order."""
        holder.basic_nack(2, multiple=True, requeue=True)

        assert take_back(3) == [b"first", b"second", b"third"]

    @behaviour("ORDER-06")
    @lie("recover-ignored")
    def test_gives_back_all_that_a_channel_holds(self, holder, take_back):
        """One word for whoever has lost his place: it comes again, to him or to somebody else."""
        holder.basic_recover(requeue=True)

        assert take_back(3) == [b"first", b"second", b"third"]

    @behaviour("GET-02")
    @lie("acks-awaited")
    def test_loses_what_an_auto_ack_consumer_held(self, connection, queue, take_back):
        """Done the moment it is sent: a crash before the work loses the message, and nobody is told."""
        careless, careful = connection.channel(), connection.channel()
        careless.basic_get(queue, auto_ack=True)
        careful.basic_get(queue)

        careless.close()
        careful.close()

        assert take_back(2) == [b"second", b"third"]

    @behaviour("ACK-01", "CHAN-03")
    @lie("ack-swallowed")
    def test_closes_the_channel_at_a_second_ack(self, connection, channel, queue, holder):
        """A program that counts its tags wrong is stopped before it acknowledges somebody's work by mistake."""
        holder.basic_ack(1)
        holder.basic_ack(1)

        with pytest.raises(exceptions.ChannelClosedByBroker, match="unknown delivery tag 1") as error:
            holder.queue_declare(queue, passive=True)

        assert (error.value.reply_code, holder.is_closed, connection.is_open) == (406, True, True)
        assert channel.queue_declare(queue, passive=True).method.queue == "work"

    @behaviour("CHAN-11", "CHAN-03")
    @lie("ack-swallowed")
    def test_knows_a_tag_on_its_own_channel_only(self, connection, channel, queue, holder):
        """Tags are numbered for each channel anew; an ack from another thread's channel ends that channel."""
        stranger = connection.channel()
        stranger.basic_ack(1)

        with pytest.raises(exceptions.ChannelClosedByBroker, match="unknown delivery tag 1") as error:
            stranger.queue_declare(queue, passive=True)

        assert (error.value.reply_code, stranger.is_closed, holder.is_open) == (406, True, True)
        assert channel.queue_declare(queue, passive=True).method.queue == "work"


class Crash(Exception):
    """Ends a worker as a power cut would: not a word to the broker."""


def crash_at(moment):
    def say(words):
        if words.startswith(moment):
            raise Crash

    return say


class TestWorker:
    """What our worker adds."""

    @pytest.fixture
    def order(self, orders):
        (order,) = sample_orders(1)
        orders.producer.publish(order)
        return order

    @pytest.mark.parametrize("moment", ["took", "completed"], ids=["before_the_work", "before_the_ack"])
    @lie("redelivered-lost")
    def test_leaves_its_order_to_others_when_it_crashes(self, moment, source, order, receive, run_until_it_ends):
        """Acknowledged on arrival, the order would be gone with the worker that had just begun it."""
        with pytest.raises(Crash):
            run_until_it_ends(Worker(source, say=crash_at(moment)))

        (delivery,) = receive("orders")
        assert (parse(Order, delivery.body), delivery.redelivered) == (order, True)

    @lie("delivered-message-id-lost")
    def test_tells_twice_when_it_crashes_before_the_ack(self, source, orders, order, receive, run_until_it_ends):
        """The price of losing nothing: whoever listens knows a repeated order by its message id."""
        with pytest.raises(Crash):
            run_until_it_ends(Worker(source, say=crash_at("completed")))

        orders.start(Worker)

        first, second = receive("notifications", 2)
        assert first.properties.message_id == second.properties.message_id is not None
        assert [parse(Completed, told.body).order_id for told in (first, second)] == ["00-0001", "00-0001"]

    @lie("exchange-delete-ignored")
    def test_keeps_an_order_of_which_it_cannot_tell(self, source, channel, order, receive, run_until_it_ends):
        """An order that nobody hears of is not completed, so it is not acknowledged either."""
        worker = Worker(source, say=lambda _: channel.exchange_delete("events.fanout"))  # said when it has the order

        with pytest.raises(ChannelClosed, match="no exchange 'events") as error:
            run_until_it_ends(worker)

        assert (error.value.reply_code, channel.is_open) == (404, True)
        (delivery,) = receive("orders")
        assert (parse(Order, delivery.body), delivery.redelivered) == (order, True)

    @lie("ack-rejects")
    def test_acknowledges_an_order_that_is_done(self, orders, order, receive, drain):
        """Without this ack the order would come back at every restart of the worker, for ever."""
        worker = orders.start(Worker)
        (told,) = receive("notifications")

        orders.halt(worker)

        assert parse(Completed, told.body).order_id == "00-0001"
        assert worker.consumer.outcomes == {Outcome.ACK: 1}
        assert (drain("orders"), drain("orders.failed")) == ([], [])
