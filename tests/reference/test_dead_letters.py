"""Dead letters: what a message keeps when it is dead-lettered.

A dead letter is published anew, by the broker, to the dead-letter exchange. Body and properties stay; exchange and
routing key of the delivery are those of the new publish. On a 4.3 broker the `redelivered` flag survives it in part.

Spec: https://www.rabbitmq.com/docs/dlx
Reference: XDEATH-15, XDEATH-16
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq


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
    def test_has_redelivered_false_since_4_3_if_a_consumer_was_waiting_for_it(self, channel, reject, eventually):
        """So the flag depends on who came first, and says nothing about earlier deliveries."""
        redelivered = []
        channel.queue_declare("failed", durable=True)
        channel.basic_consume("failed", lambda _channel, method, *_: redelivered.append(method.redelivered))

        reject()

        eventually(lambda: channel.connection.process_data_events(0) or redelivered, [False])
