"""Publisher confirms: numbering, several queues, deletion, and transactions.

The chapter on publisher confirms shows what an ack and a nack say. These are the edges: how publishes are numbered, and
what is sent for a message when one of its queues rejects it or is deleted.

Spec: https://www.rabbitmq.com/docs/confirms
Reference: CONFIRM-02, CONFIRM-08, CONFIRM-11, CONFIRM-14, CONFIRM-03, CONFIRM-09, CONFIRM-19, CONFIRM-13
"""

import pytest
from pika import BasicProperties, DeliveryMode, frame, spec

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture(autouse=True)
def queues(channel):
    """A queue without a limit and one that rejects all but one message, both bound to `amq.fanout`."""
    channel.queue_declare("open", durable=True)
    channel.queue_declare("full", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for queue in ("open", "full"):
        channel.queue_bind(queue, "amq.fanout")


class TestPublisherConfirms:
    """RabbitMQ: what the broker sends for each publish in confirm mode."""

    @behaviour("CONFIRM-02")
    @lie("confirms-counted-together")
    def test_number_publishes_from_1_on_each_channel(self, connection, confirm_log):
        """A publish carries no number: both sides count for themselves, and must begin at the same place."""
        first = confirm_log(connection)
        second = confirm_log(connection)

        first.channel.basic_publish("", "open", b"")
        first.channel.basic_publish("", "open", b"")
        first.wait_for(2)
        second.channel.basic_publish("", "open", b"")
        second.wait_for(1)

        assert first.acked == [1, 2]
        assert second.acked == [1]

    @behaviour("CONFIRM-11")
    @lie("nack-confirmed")
    def test_nack_a_message_that_one_of_its_queues_rejects(self, connection, confirm_log, drain):
        """The other queues keep it: published again after such a nack, the message is there twice."""
        log = confirm_log(connection)

        log.channel.basic_publish("amq.fanout", "", b"first")
        log.channel.basic_publish("amq.fanout", "", b"second")
        log.wait_for(2)

        assert log.acked == [1]
        assert log.nacked == [2]
        assert drain("open") == [b"first", b"second"]
        assert drain("full") == [b"first"]

    @behaviour("CONFIRM-08")
    @lie("confirm-nacked")
    def test_ack_persistent_messages_whose_queue_is_deleted(self, connection, confirm_log, lookup):
        """Deleting a queue is deliberate, so confirms that still wait for the disk become acks, not nacks."""
        log = confirm_log(connection)

        for _ in range(100):
            log.channel.basic_publish("", "open", b"", BasicProperties(delivery_mode=DeliveryMode.Persistent))
        log.channel.queue_delete("open")
        log.wait_for(100)

        assert log.acked == list(range(1, 101))
        assert log.nacked == []
        assert lookup("queue", "open") == "missing"

    @behaviour("CONFIRM-14")
    @lie("precondition-hidden")
    @pytest.mark.parametrize(
        ("first", "second"),
        [("confirm_delivery", "tx_select"), ("tx_select", "confirm_delivery")],
        ids=["tx_after_confirm", "confirm_after_tx"],
    )
    def test_and_transactions_on_one_channel_are_refused_with_406(self, refusal, first, second):
        """Both report what became of a publish, in two ways that cannot be mixed; only the channel is closed."""

        def mix(channel):
            getattr(channel, first)()
            getattr(channel, second)()

        said = refusal(mix)

        assert said.code == 406
        assert said.closed == "channel"
        assert "PRECONDITION_FAILED - cannot switch" in said.text


class TestConfirmSelect:
    """RabbitMQ: `confirm.select` on a channel that has published already."""

    @behaviour("CONFIRM-03")
    @lie("confirm-nacked")
    def test_does_not_count_earlier_publishes(self, raw_client, channel):
        """Whether those have reached their queues is never said."""
        channel.queue_declare("work", durable=True)
        client = raw_client().open(1)
        publish = [
            frame.Method(1, spec.Basic.Publish(exchange="", routing_key="work")),
            frame.Header(1, 0, BasicProperties()),
        ]

        client.send(*publish, *publish, frame.Method(1, spec.Confirm.Select()), *publish)

        client.hears("confirm.select-ok")
        assert client.hears("basic.ack").delivery_tag == 1


class TestConfirm:
    """RabbitMQ: the confirm of a message that does not stay in its queue."""

    @behaviour("CONFIRM-09", "CONFIRM-19")
    @lie("confirm-nacked")
    @pytest.mark.parametrize(
        "arguments",
        [
            {"x-message-ttl": 0},
            {"x-max-length": 0},
            {"x-message-ttl": 0, "x-dead-letter-exchange": "amq.fanout"},
        ],
        ids=["expires_at_once", "dropped_at_once", "dead_lettered_at_once"],
    )
    def test_is_an_ack_if_the_message_expires_or_is_dropped_at_once(self, connection, channel, confirm_log, arguments):
        """A confirm says that the queue did what it was declared for, not that somebody will see the message."""
        channel.queue_declare("work", durable=True, arguments=arguments)
        log = confirm_log(connection)

        for _ in range(3):
            log.channel.basic_publish("", "work", b"order")
        log.wait_for(3)

        assert log.acked == [1, 2, 3]
        assert log.nacked == []

    @behaviour("CONFIRM-09")
    @lie("confirm-nacked")
    def test_is_an_ack_for_a_message_that_a_waiting_consumer_rejects(self, connection, channel, confirm_log):
        """The publisher answers for the way to the queue, the consumer for what comes then."""
        channel.queue_declare("work", durable=True)
        consumer = connection.channel()
        consumer.basic_consume("work", lambda who, method, *_: who.basic_reject(method.delivery_tag, requeue=False))
        log = confirm_log(connection)

        log.channel.basic_publish("", "work", b"order")
        log.wait_for(1)

        assert log.acked == [1]


class TestConfirmsUnderLoad:
    """RabbitMQ: confirms of many publishes that were sent without waiting, some of which are rejected."""

    @behaviour("CONFIRM-13")
    @lie("nack-confirmed")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_settle_each_number_once(self, connection, channel, confirm_log, queue_type):
        """An ack for several numbers never stands for one that was rejected: what was not kept is sent again."""
        arguments = {"x-queue-type": queue_type, "x-max-length": 5, "x-overflow": "reject-publish"}
        channel.queue_declare("limited", durable=True, arguments=arguments)
        log = confirm_log(connection)

        for number in range(1, 11):  # until the queue is full, and its publishers know
            log.channel.basic_publish("", "limited", b"order")
            log.wait_for(number)
        for _ in range(100):
            log.channel.basic_publish("", "limited", b"order")
        log.wait_for(110)

        assert sorted(log.acked + log.nacked) == list(range(1, 111))
        assert log.nacked != []
