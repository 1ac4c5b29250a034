"""Channels: how an error closes them, what their numbers mean, and what is counted on them.

Spec: https://www.rabbitmq.com/docs/channels#error-handling
Reference: CHAN-01, CHAN-03, CHAN-05, CHAN-06, CHAN-09, CHAN-12, FRAMES-10, ACK-06
"""

import pytest
from pika import frame, spec

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture(autouse=True)
def queue(channel):
    """An empty queue."""
    channel.queue_declare("work", durable=True)


class TestChannelError:
    """RabbitMQ: a mistake that closes a channel."""

    @behaviour("CHAN-03")
    @lie("mistake-costs-connection")
    def test_closes_only_the_offending_channel(self, channel, refusal, drain):
        """Connections are expensive and channels are cheap: work on the other channels goes on."""
        said = refusal(lambda careless: careless.queue_declare("nowhere", passive=True))

        assert said.code == 404
        assert said.closed == "channel"
        channel.basic_publish("", "work", b"on a sibling")
        assert drain("work") == [b"on a sibling"]

    @behaviour("CHAN-05", "CHAN-03")
    @lie("offending-method-hidden")
    def test_names_the_offending_method_in_channel_close(self, connection, methods_from_broker, refusal):
        """After many methods that were sent at once, the code alone would not show which of them was refused."""
        careless = connection.channel()
        closes = methods_from_broker(careless, spec.Channel.Close)

        refusal(lambda _: careless.queue_declare("nowhere", passive=True))

        (close,) = closes
        assert close.reply_code == 404
        assert close.class_id == spec.Queue.INDEX
        assert close.method_id == spec.Queue.Declare.INDEX & 0xFFFF

    @behaviour("CHAN-06", "CHAN-03")
    @lie("absence-hidden")
    def test_leaves_the_channel_number_free_for_a_new_channel(self, connection, refusal):
        """A client that opens a new channel after each error does not run out of numbers."""
        numbers = []

        def look_for_nothing(careless):
            numbers.append(careless.channel_number)
            careless.queue_declare("nowhere", passive=True)

        said = refusal(look_for_nothing)
        again = connection.channel(numbers[0])

        assert said.code == 404
        assert again.channel_number == numbers[0]
        assert again.queue_declare("work", passive=True).method.queue == "work"


class TestChannelNumber:
    """RabbitMQ: the number that each frame carries."""

    @behaviour("CHAN-01", "FRAMES-10", "CHAN-04")
    @lie("connection-code-changed")
    @pytest.mark.parametrize(
        ("number", "method"),
        [(1, spec.Channel.Open()), (7, spec.Basic.Ack(1))],
        ids=["channel_opened_twice", "ack_on_a_channel_never_opened"],
    )
    def test_opened_twice_or_never_opened_closes_the_connection_with_504(
        self, connect, send_frames, closed_connection, number, method
    ):
        """The two sides no longer agree on what a number means, so nothing that follows could be trusted."""
        said = closed_connection(connect(), lambda channel: send_frames(channel, frame.Method(number, method)))

        assert said.reply_code == 504
        assert said.reply_text.startswith("CHANNEL_ERROR")


class TestChannelOrder:
    """RabbitMQ: what is counted, and kept in order, on a channel."""

    @behaviour("CHAN-12")
    @lie("answers-swapped")
    def test_answers_come_in_the_order_of_the_requests(self, connection, send_frames, methods_from_broker, served):
        """A client may send its next request before the first is answered."""
        asking = connection.channel()
        answers = methods_from_broker(asking, spec.Queue.DeclareOk)
        names = [f"q{number}" for number in range(10)]

        declares = [spec.Queue.Declare(queue=name, durable=True) for name in names]
        send_frames(asking, *[frame.Method(asking.channel_number, declare) for declare in declares])

        served(connection, lambda: len(answers), 10)
        assert [answer.queue for answer in answers] == names

    @behaviour("ACK-06")
    @lie("delivery-tag-changed")
    def test_delivery_tags_count_consumed_and_fetched_messages_together(
        self, connection, channel, get_without_ack, subscribe_without_ack
    ):
        """A tag numbers deliveries: those of a consumer have gaps if its channel also uses `basic.get`."""
        for body in (b"consumed", b"fetched", b"consumed too"):
            channel.basic_publish("", "work", body)
        worker = connection.channel()
        worker.basic_qos(prefetch_count=1)
        consumer = subscribe_without_ack(worker, "work")
        consumer.wait_for(1)

        tag_of_fetched, _ = get_without_ack(worker, "work")
        worker.basic_ack(consumer.tags[0])

        assert consumer.wait_for(2) == [b"consumed", b"consumed too"]
        assert consumer.tags == [1, 3]
        assert tag_of_fetched == 2


class TestChannelClose:
    """RabbitMQ: a channel that its client closes."""

    @behaviour("CHAN-09")
    @lie("acks-not-awaited")
    def test_requeues_unacked_messages_of_consumers_and_of_basic_get(
        self, connection, channel, subscribe_without_ack, get_without_ack, receive
    ):
        """close-ok may come before either is ready again: wait for both before you rely on their order."""
        for body in (b"fetched", b"consumed"):
            channel.basic_publish("", "work", body)
        closing = connection.channel()
        get_without_ack(closing, "work")
        subscribe_without_ack(closing, "work").wait_for(1)

        closing.close()

        bodies = sorted(delivery.body for delivery in receive("work", 2))
        assert bodies == [b"consumed", b"fetched"]
