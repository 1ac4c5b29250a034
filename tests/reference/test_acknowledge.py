"""Acknowledgements: unacked messages in counts, and delivery tags of another channel.

Spec: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
Reference: QDECL-02, CHAN-11
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
