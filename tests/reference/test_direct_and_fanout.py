"""Direct and fanout exchanges: repeated bindings, letter case, and how messages arrive.

Spec: https://www.rabbitmq.com/docs/exchanges
Reference: DIRECT-01, DIRECT-03, BIND-01, BIND-04, PUB-04, PUB-06
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

# All properties but `user_id`, which must be the user's name.
PROPERTIES = BasicProperties(
    content_type="text/plain",
    content_encoding="utf-8",
    headers={"shop": "Ada", "items": 2},
    delivery_mode=2,
    priority=3,
    correlation_id="00-0001/1",
    reply_to="answers",
    expiration="60000",
    message_id="00-0001",
    timestamp=1_700_000_000,
    type="order",
    app_id="shop",
    cluster_id="old",
)


@pytest.fixture
def direct(channel):
    """A direct exchange without bindings."""
    channel.exchange_declare("post", "direct", durable=True)
    return "post"


@pytest.fixture
def fanout(channel):
    """A fanout exchange without bindings."""
    channel.exchange_declare("news", "fanout", durable=True)
    return "news"


class TestMessage:
    """RabbitMQ: a message on its way through an exchange and a queue."""

    @behaviour("PUB-04", "PUB-06")
    @lie("delivery-mode-wrong", "delivered-message-id-lost")
    @lie("delivered-body-falsified", cases="body")
    @pytest.mark.parametrize("body", [b"one keyboard", b""], ids=["body", "no_body"])
    def test_arrives_with_the_body_and_all_properties_that_were_published(
        self, channel, direct, bound_queue, receive, body
    ):
        """Only BCC, a direct reply-to and the expiration of a dead letter are changed on the way."""
        queue = bound_queue(direct, "order")

        channel.basic_publish(direct, "order", body, PROPERTIES)

        (delivery,) = receive(queue)
        assert delivery.exchange == "post"
        assert delivery.routing_key == "order"
        assert delivery.body == body
        assert delivery.properties == PROPERTIES


class TestDirectExchange:
    """RabbitMQ: an exchange of type direct."""

    @behaviour("DIRECT-01")
    @lie("key-in-lower-case")
    def test_compares_routing_keys_case_sensitively(self, channel, direct, bound_queue, drain):
        """A key that is written differently in two programs loses messages without an error."""
        queue = bound_queue(direct, "order")

        channel.basic_publish(direct, "Order", b"upper case")
        channel.basic_publish(direct, "order", b"lower case")

        assert drain(queue) == [b"lower case"]

    @behaviour("DIRECT-01", "BIND-01")
    @lie("delivered-twice")
    def test_delivers_one_copy_to_a_queue_that_is_bound_twice_with_one_key(
        self, channel, direct, bound_queue, subscribe_without_ack
    ):
        """A program may declare its topology at each start: the second bind changes nothing."""
        queue = bound_queue(direct, "order", "order")

        channel.basic_publish(direct, "order", b"first")
        channel.basic_publish(direct, "order", b"second")

        consumer = subscribe_without_ack(channel, queue)
        assert consumer.wait_for(2) == [b"first", b"second"]


class TestFanoutExchange:
    """RabbitMQ: an exchange of type fanout."""

    @behaviour("DIRECT-03", "BIND-01")
    @lie("delivered-twice")
    def test_delivers_one_copy_to_a_queue_that_is_bound_with_two_keys(
        self, channel, fanout, bound_queue, subscribe_without_ack
    ):
        """Several bindings of one queue match the message, and still it gets one copy."""
        queue = bound_queue(fanout, "sport", "weather")

        channel.basic_publish(fanout, "sport", b"first")
        channel.basic_publish(fanout, "sport", b"second")

        consumer = subscribe_without_ack(channel, queue)
        assert consumer.wait_for(2) == [b"first", b"second"]

    @behaviour("DIRECT-03", "BIND-04")
    @lie("unbind-ignored")
    def test_stops_copying_to_the_unbound_queue_only(self, channel, fanout, bound_queue, drain):
        """One consumer can leave, and the others notice nothing."""
        leaving = bound_queue(fanout)
        staying = bound_queue(fanout)

        channel.queue_unbind(leaving, fanout, "")
        channel.basic_publish(fanout, "", b"we close")

        assert drain(leaving) == []
        assert drain(staying) == [b"we close"]
