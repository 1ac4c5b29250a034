"""Dead letters: what a message keeps when it is dead-lettered.

A dead letter is published anew, by the broker, to the dead-letter exchange. Body and properties stay; exchange and
routing key of the delivery are those of the new publish. On a 4.3 broker the `redelivered` flag survives it in part.

Spec: https://www.rabbitmq.com/docs/dlx
Reference: XDEATH-15, XDEATH-16, DLX-03, DLX-05, DLX-08, DLX-13, QQ-16
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

TO_DEAD = {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
CAUSES = {
    "rejected": {},
    "expired": {"x-message-ttl": 1},
    "maxlen": {"x-max-length": 0},
    "delivery_limit": {"x-delivery-limit": 0},
}


class TestDeadLetteredMessage:
    """RabbitMQ: the message as a consumer of the dead letters sees it."""

    @behaviour("XDEATH-15")
    @lie("content-type-lost", "message-id-lost", "body-falsified", "headers-lost")
    def test_keeps_its_body_properties_and_headers(self, rejected):
        """It can be looked at and published again exactly as its producer made it."""
        dead = rejected(message_id="00-0001", content_type="application/json", headers={"shop": "Ada"})

        assert dead.body == b"an order"
        assert dead.properties.message_id == "00-0001"
        assert dead.properties.content_type == "application/json"
        assert dead.headers.get("shop") == "Ada"

    @behaviour("XDEATH-16")
    @lie("delivered-exchange-lost", "delivered-key-lost")
    def test_carries_the_dead_letter_exchange_and_its_original_routing_key(self, rejected):
        """The dead-letter exchange routes by the key that the message had before, so it can sort by it."""
        dead = rejected()

        assert dead.exchange == "failures"
        assert dead.routing_key == "order"

    @behaviour("XDEATH-16")
    @rabbitmq(before="4.3")
    @lie("redelivered-always")
    def test_has_redelivered_false_in_the_dead_letter_queue_before_4_3(self, rejected):
        """`redelivered` describes this queue only, and this is the first delivery from it."""
        dead = rejected()

        assert dead.redelivered is False

    @behaviour("XDEATH-16")
    @rabbitmq(since="4.3")
    @lie("redelivered-lost")
    def test_has_redelivered_true_since_4_3_if_it_waited_in_the_dead_letter_queue(self, channel, reject, eventually):
        """A consumer that skips redelivered messages would skip each order that was rejected before it started."""
        reject()
        eventually(lambda: channel.queue_declare("failed", passive=True).method.message_count, 1)

        method, _, _ = channel.basic_get("failed")

        assert method.redelivered is True

    @behaviour("XDEATH-16")
    @rabbitmq(since="4.3")
    @lie("redelivered-always")
    def test_has_redelivered_false_since_4_3_if_a_consumer_was_waiting_for_it(
        self, connection, channel, reject, served
    ):
        """So the flag depends on who came first, and says nothing about earlier deliveries."""
        redelivered = []
        channel.queue_declare("failed", durable=True)
        channel.basic_consume("failed", lambda _channel, method, *_: redelivered.append(method.redelivered))

        reject()

        served(connection, lambda: redelivered, [False])


class TestDeadLettering:
    """RabbitMQ: when a message is dead-lettered, and where it goes."""

    @behaviour("DLX-03")
    @lie("ack-rejects")
    def test_does_not_happen_on_ack_requeue_cancel_purge_or_queue_delete(
        self, connection, channel, dead_lettering_queue, reject, get_without_ack, subscribe_without_ack, receive
    ):
        """A queue that is deleted with a thousand orders in it leaves none of them in the dead-letter queue."""
        worker = connection.channel()
        for body in (b"acked", b"requeued"):
            channel.basic_publish("shop", "order", body)
        tag, _ = get_without_ack(worker, "work")
        worker.basic_ack(tag)
        tag, _ = get_without_ack(worker, "work")
        worker.basic_nack(tag, requeue=True)
        consumer = subscribe_without_ack(worker, "work")
        consumer.wait_for(1)
        worker.basic_cancel(consumer.consumer_tag)
        channel.basic_publish("shop", "order", b"purged")
        channel.queue_purge("work")
        worker.basic_nack(consumer.tags[0], requeue=True)
        worker.queue_delete("work")  # with the message that was requeued

        channel.basic_publish("failures", "", b"a sentinel")

        assert [delivery.body for delivery in receive("failed")] == [b"a sentinel"]

    @behaviour("DLX-05")
    @lie("cc-lost", cases="CC")
    @lie("bcc-lost", cases="BCC")
    @pytest.mark.parametrize("header", ["CC", "BCC"])
    def test_without_a_key_of_its_own_goes_to_the_keys_in_cc_and_bcc_too(
        self, channel, bound_queue, get_without_ack, receive, header
    ):
        """The dead-letter exchange sees the message as its publisher had addressed it, hidden copies included."""
        main = bound_queue("amq.direct", "order")
        copy = bound_queue("amq.direct", "copy")
        channel.queue_declare("work", durable=True, arguments={"x-dead-letter-exchange": "amq.direct"})
        channel.queue_bind("work", "amq.topic", "order")
        properties = BasicProperties(headers={header: ["copy"]})
        channel.basic_publish("amq.topic", "order", b"an order", properties)
        tag, _ = get_without_ack(channel, "work")

        channel.basic_reject(tag, requeue=False)

        assert [delivery.body for delivery in receive(main)] == [b"an order"]
        assert [delivery.body for delivery in receive(copy)] == [b"an order"]

    @behaviour("DLX-08")
    @lie("fanout-as-direct")
    def test_reaches_every_queue_that_is_bound_to_the_dead_letter_exchange(
        self, channel, dead_lettering_queue, reject, receive
    ):
        """One queue for a person to look at and one for the alarm; each has a copy."""
        channel.queue_declare("alarm", durable=True)
        channel.queue_bind("alarm", "failures", "another key")

        reject(message_id="7")

        assert [delivery.properties.message_id for delivery in receive("failed")] == ["7"]
        assert [delivery.properties.message_id for delivery in receive("alarm")] == ["7"]

    @behaviour("DLX-13")
    @lie("nack-multiple-lost")
    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_of_several_by_one_nack_keeps_their_order(self, channel, bound_queue, get_without_ack, receive, queue_type):
        """Each is dead-lettered once, and whoever replays them replays them as they came."""
        dead = bound_queue("amq.fanout")
        arguments = {"x-queue-type": queue_type, "x-dead-letter-exchange": "amq.fanout"}
        channel.queue_declare("batch", durable=True, arguments=arguments)
        for body in (b"1", b"2", b"3"):
            channel.basic_publish("", "batch", body)
            tag, _ = get_without_ack(channel, "batch")

        channel.basic_nack(tag, multiple=True, requeue=False)

        assert [delivery.body for delivery in receive(dead, 3)] == [b"1", b"2", b"3"]


class TestDeadLettersOfQuorumQueue:
    """RabbitMQ: several messages of one quorum queue that die together."""

    @behaviour("QQ-16")
    @lie("deliveries-swapped")
    @pytest.mark.parametrize("reason", CAUSES)
    def test_keep_their_order(self, connection, channel, receive, reason):
        """What is repaired and sent again can keep the order in which it was published."""
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("work", durable=True, arguments=TO_DEAD | CAUSES[reason])
        consumer = connection.channel()

        for body in (b"1", b"2", b"3", b"4"):
            channel.basic_publish("", "work", body)
        if reason in {"rejected", "delivery_limit"}:
            for _ in range(4):
                consumer.basic_get("work")
        if reason == "rejected":
            consumer.basic_nack(0, multiple=True, requeue=False)
        consumer.close()

        dead = receive("dead", 4)
        assert [message.body for message in dead] == [b"1", b"2", b"3", b"4"]
        assert {message.died_of for message in dead} == {reason}
