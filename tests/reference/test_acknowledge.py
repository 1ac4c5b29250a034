"""Acknowledgements: unacked messages in counts, and delivery tags of another channel.

Spec: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
Reference: QDECL-02, CHAN-11, ACK-03, ACK-04, ACK-07, NACK-05
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def queue(channel):
    """A queue with three messages."""
    channel.queue_declare("work", durable=True)
    for body in (b"first", b"second", b"third"):
        channel.basic_publish("", "work", body)
    return "work"


class TestUnackedMessages:
    """RabbitMQ: messages that were delivered and not yet acked."""

    @behaviour("QDECL-02")
    @lie("message-count-wrong")
    def test_are_not_in_the_message_count_of_a_passive_declare(self, connection, channel, queue):
        """The count has ready messages only: a queue that looks empty may have many unacked ones."""
        consumer = connection.channel()
        consumer.basic_get(queue)
        consumer.basic_get(queue)

        declared = channel.queue_declare(queue, passive=True)

        assert declared.method.message_count == 1


class TestDeliveryTag:
    """RabbitMQ: the number of a delivery on its channel."""

    @behaviour("CHAN-11", "CHAN-03")
    @lie("precondition-hidden", "mistake-costs-connection")
    def test_of_another_channel_closes_the_channel_of_the_ack_with_406_if_it_is_unknown_there(
        self, connection, queue, refusal
    ):
        """Each channel counts its deliveries from 1, so an ack belongs on the channel of its delivery."""
        consumer = connection.channel()
        method, _, _ = consumer.basic_get(queue)

        def ack_elsewhere(channel):
            channel.basic_ack(method.delivery_tag)
            channel.queue_declare(queue, passive=True)

        said = refusal(ack_elsewhere)

        assert said.code == 406
        assert said.closed == "channel"
        assert "unknown delivery tag 1" in said.text
        assert consumer.is_open


def ack_tag_0(channel):
    channel.basic_ack(0)


def ack_an_auto_acked_message(channel):
    channel.basic_get("work", auto_ack=True)
    channel.basic_ack(1)


def nack_after_ack(channel):
    channel.basic_get("work")
    channel.basic_ack(1)
    channel.basic_nack(1)


def reject_after_reject(channel):
    channel.basic_get("work")
    channel.basic_reject(1)
    channel.basic_reject(1)


class TestAck:
    """RabbitMQ: `basic.ack` at the edge."""

    @behaviour("ACK-03")
    @lie("ack-swallowed")
    def test_of_tag_0_with_multiple_settles_all_deliveries_and_is_no_error_where_there_is_none(
        self, connection, queue, channel, drain_when_ready
    ):
        """A program may settle whatever it has, without knowing what that is."""
        consumer = connection.channel()
        consumer.basic_ack(0, multiple=True)
        consumer.basic_get(queue)
        consumer.basic_get(queue)

        consumer.basic_ack(0, multiple=True)
        consumer.close()

        assert drain_when_ready(queue, 1) == [b"third"]

    @behaviour("ACK-04", "ACK-07", "NACK-05", "CHAN-03")
    @lie("code-406-changed")
    @pytest.mark.parametrize(
        ("mistake", "tag"),
        [
            (ack_tag_0, 0),
            (ack_an_auto_acked_message, 1),
            (nack_after_ack, 1),
            (reject_after_reject, 1),
        ],
        ids=["tag_0_without_multiple", "ack_of_an_auto_acked", "nack_after_ack", "reject_after_reject"],
    )
    def test_nack_or_reject_of_nothing_closes_the_channel_with_406(self, queue, refusal, mistake, tag):
        """A delivery is settled once; a second answer means that the program has lost count."""

        def settle(channel):
            mistake(channel)
            channel.queue_declare(queue, passive=True)

        said = refusal(settle)

        assert said.code == 406
        assert said.closed == "channel"
        assert f"unknown delivery tag {tag}" in said.text
