"""Ack and nack: a message is removed from its queue only when its consumer acknowledges it.

RabbitMQ delivers a message and keeps it as unacked until the consumer answers. `basic.ack` says that the message is
done: RabbitMQ deletes it. `basic.nack` and `basic.reject` say that it is not done: with `requeue` it returns to the
queue, without `requeue` it is dead-lettered or deleted. If a consumer dies before it answers, its channel closes, and
RabbitMQ requeues its unacked messages at their old places, marked as `redelivered`. So a crash loses no message; the
price is that a message may be processed twice. With automatic acknowledgement (`auto_ack`) a message is done as soon as
it is sent, and a crash loses it.

Our worker sends the ack as its last step, when the order is completed and its event is confirmed.

Spec: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
Code: rmqspec/client/consumer.py, rmqspec/orders/worker.py
Reference: ACK-01, ACK-02, ACK-05, NACK-01, NACK-02, NACK-04, ORDER-01, ORDER-04, ORDER-06, GET-02, CHAN-09…11
"""

import pytest

from rmqspec.client import Outcome
from rmqspec.client.errors import ChannelClosed
from rmqspec.orders import Completed, Order, Worker, parse, sample_orders

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    """A queue with three messages."""
    channel.queue_declare("work", durable=True)
    for body in (b"first", b"second", b"third"):
        channel.basic_publish("", "work", body)
    return "work"


@pytest.fixture
def consumer(connection, queue):
    """A channel that has received the first two messages, with the delivery tags 1 and 2, and has acked neither."""
    channel = connection.channel()
    channel.basic_get(queue)
    channel.basic_get(queue)
    return channel


class TestUnackedMessages:
    """RabbitMQ: messages that were delivered and not yet acked."""

    @behaviour("CHAN-10")
    @lie("acks-not-awaited")
    def test_are_requeued_when_the_connection_ends(self, connect, queue, cut, drain_when_ready):
        """A consumer that crashes cannot say so. RabbitMQ sees only that its connection is gone, and that is enough."""
        crashing = connect()
        crashing.channel().basic_get(queue)

        cut(crashing)

        assert sorted(drain_when_ready("work", 3)) == [b"first", b"second", b"third"]

    @behaviour("NACK-04", "ORDER-10")
    @lie("redelivered-lost", "redelivered-always")
    def test_are_marked_redelivered_when_requeued_and_no_other_messages_are(self, queue, consumer, receive):
        """The work may have been done already. Messages that were never delivered do not carry the mark."""
        consumer.close()

        deliveries = receive(queue, 3)

        redelivered = {delivery.body: delivery.redelivered for delivery in deliveries}
        assert redelivered == {b"first": True, b"second": True, b"third": False}

    @behaviour("ORDER-04")
    @lie("deliveries-swapped")
    def test_are_requeued_at_their_original_position_when_the_channel_closes(
        self, channel, queue, consumer, receive, eventually
    ):
        """At the end of the queue the oldest message would wait longest, and once more after every crash."""
        consumer.close()
        eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count, 3)

        next_two = receive(queue, 2)

        assert [delivery.body for delivery in next_two] == [b"first", b"second"]

    @behaviour("ORDER-06")
    @lie("recover-ignored")
    def test_are_all_requeued_on_basic_recover(self, consumer, drain_when_ready):
        """A consumer that has lost track of its work returns all of it at once, and need not close its channel."""
        consumer.basic_recover(requeue=True)

        assert drain_when_ready("work", 3) == [b"first", b"second", b"third"]


class TestBasicAck:
    """RabbitMQ: `basic.ack`."""

    @behaviour("ACK-05")
    @lie("ack-multiple-always")
    def test_removes_only_the_message_with_its_delivery_tag(self, consumer, drain_when_ready):
        """Messages are acked one by one and in any order: the second may be done while the first is not."""
        consumer.basic_ack(delivery_tag=2)

        consumer.close()

        assert drain_when_ready("work", 2) == [b"first", b"third"]

    @behaviour("ACK-02")
    @lie("ack-multiple-lost")
    def test_with_multiple_removes_all_messages_up_to_its_delivery_tag(self, queue, consumer, drain_when_ready):
        """One ack for a hundred messages saves traffic. Messages with a higher delivery tag stay unacked."""
        consumer.basic_get(queue)

        consumer.basic_ack(delivery_tag=2, multiple=True)

        consumer.close()
        assert drain_when_ready("work", 1) == [b"third"]


class TestBasicNackAndBasicReject:
    """RabbitMQ: `basic.nack`, and `basic.reject`, which does the same for one message at a time."""

    @behaviour("NACK-01", "ORDER-01")
    @lie("requeue-discards")
    @pytest.mark.parametrize("method", ["basic_nack", "basic_reject"])
    def test_with_requeue_return_the_message_to_the_front_of_the_queue(self, consumer, drain_when_ready, method):
        """For work that cannot be done now. The message may be delivered again at once, even to the same consumer."""
        settle = getattr(consumer, method)

        settle(delivery_tag=1, requeue=True)

        assert drain_when_ready("work", 2) == [b"first", b"third"]

    @behaviour("NACK-01")
    @lie("discard-requeues")
    @pytest.mark.parametrize("method", ["basic_nack", "basic_reject"])
    def test_without_requeue_delete_the_message(self, consumer, drain_when_ready, method):
        """Only a dead-letter exchange would keep it; this queue names none."""
        settle = getattr(consumer, method)

        settle(delivery_tag=1, requeue=False)

        consumer.close()

        assert drain_when_ready("work", 2) == [b"second", b"third"]


class TestAutoAck:
    """RabbitMQ: automatic acknowledgement."""

    @behaviour("GET-02")
    @lie("acks-awaited")
    def test_of_basic_get_does_not_requeue_the_message_when_the_channel_closes(
        self, connection, queue, drain_when_ready
    ):
        """A message is acked when it is sent, so a crash before the work loses it, and nobody is notified."""
        auto_ack = connection.channel()
        auto_ack.basic_get(queue, auto_ack=True)
        manual_ack = connection.channel()
        manual_ack.basic_get(queue, auto_ack=False)

        auto_ack.close()
        manual_ack.close()

        assert drain_when_ready("work", 2) == [b"second", b"third"]


class TestUnknownDeliveryTag:
    """RabbitMQ: an ack for a message that is not unacked on this channel."""

    @behaviour("ACK-01", "CHAN-03")
    @lie("precondition-hidden")
    def test_closes_the_channel_with_406_on_a_second_ack_of_a_delivery_tag(self, queue, refusal):
        """A consumer that counts wrong is stopped before it acks a message that it has not processed."""

        def ack_twice(channel):
            channel.basic_get(queue)
            channel.basic_ack(delivery_tag=1)
            channel.basic_ack(delivery_tag=1)
            channel.queue_declare(queue, passive=True)  # basic.ack has no reply; this one shows the error

        said = refusal(ack_twice)

        assert said.code == 406
        assert said.closed == "channel"
        assert "unknown delivery tag 1" in said.text


class Crash(Exception):
    """Ends a worker as a power cut would: it sends nothing more."""


def crash_at(moment):
    """What a worker reports its steps to; at this step it crashes."""

    def say(words):
        if words.startswith(moment):
            raise Crash

    return say


class TestWorker:
    """Our worker: it acks an order as its last step."""

    @pytest.fixture
    def order(self, orders):
        """An order that waits in the queue `orders`."""
        (order,) = sample_orders(1)
        orders.producer.publish(order)
        return order

    @lie("ack-swallowed")
    def test_acks_completed_orders(self, orders, order, receive, drain):
        """Without this ack the order would be delivered again at every restart of the worker."""
        worker = orders.start(Worker)
        (event,) = receive("notifications")

        orders.halt(worker)

        assert parse(Completed, event.body).order_id == order.order_id
        assert worker.consumer.outcomes == {Outcome.ACK: 1}
        assert drain("orders") == []
        assert drain("orders.failed") == []

    @lie("acks-not-awaited")
    @pytest.mark.parametrize("moment", ["took", "completed"], ids=["before_the_work", "before_the_ack"])
    def test_leaves_its_order_unacked_to_be_redelivered_when_it_crashes(
        self, moment, source, order, receive, run_until_it_ends
    ):
        """The order is redelivered to another worker. Acked on arrival, it would be lost with the worker."""
        with pytest.raises(Crash):
            run_until_it_ends(Worker(source, say=crash_at(moment)))

        (delivery,) = receive("orders")
        assert parse(Order, delivery.body) == order
        assert delivery.redelivered is True

    @lie("acks-not-awaited", "delivered-message-id-lost")
    def test_publishes_an_event_twice_if_it_crashes_before_the_ack(
        self, source, orders, order, receive, run_until_it_ends
    ):
        """The price of losing no order. Both events carry the same message id, so a consumer can skip the second."""
        with pytest.raises(Crash):
            run_until_it_ends(Worker(source, say=crash_at("completed")))

        orders.start(Worker)

        first, second = receive("notifications", 2)
        assert parse(Completed, first.body).order_id == order.order_id
        assert parse(Completed, second.body).order_id == order.order_id
        assert first.properties.message_id is not None
        assert first.properties.message_id == second.properties.message_id

    @lie("acks-not-awaited")
    def test_leaves_an_order_unacked_if_the_exchange_for_its_event_is_missing(
        self, source, channel, order, receive, run_until_it_ends
    ):
        """An order is completed only when its event is confirmed; until then it must not leave the queue."""

        def delete_the_exchange(_words):
            """Called by the worker when it has received the order."""
            channel.exchange_delete("events.fanout")

        worker = Worker(source, say=delete_the_exchange)

        with pytest.raises(ChannelClosed, match=r"no exchange 'events[.]fanout'") as error:
            run_until_it_ends(worker)

        assert error.value.reply_code == 404
        (delivery,) = receive("orders")
        assert parse(Order, delivery.body) == order
        assert delivery.redelivered is True
