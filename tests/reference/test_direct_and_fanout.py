"""Direct and fanout exchanges: repeated bindings, letter case, and how messages arrive.

Spec: https://www.rabbitmq.com/docs/exchanges
Reference: DIRECT-01, DIRECT-03, BIND-01, BIND-04, PUB-04, PUB-06, DIRECT-04, DIRECT-05, DIRECT-06, DIRECT-07, GET-08
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
        """BCC is removed and a direct reply-to rewritten; a dead letter loses its expiration and gets x-death."""
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


class TestBindingArgument:
    """RabbitMQ: arguments of bindings to a direct or a fanout exchange."""

    @behaviour("DIRECT-07")
    @lie("unbind-ignored")
    @pytest.mark.parametrize("exchange", ["amq.direct", "amq.fanout", "amq.topic"])
    def test_tells_bindings_apart_and_does_not_influence_routing(self, channel, is_routed, drain, exchange):
        """An unbind without the arguments removes nothing, and is no error."""
        channel.queue_declare("work", durable=True)
        for version in (1, 2):
            channel.queue_bind("work", exchange, "order", {"version": version})

        with_both = is_routed(exchange, "order")
        channel.queue_unbind("work", exchange, "order")
        channel.queue_unbind("work", exchange, "order", {"version": 1})
        with_one = is_routed(exchange, "order")
        channel.queue_unbind("work", exchange, "order", {"version": 2})
        with_none = is_routed(exchange, "order")

        assert with_both is True
        assert with_one is True
        assert with_none is False
        assert drain("work") == [b"order", b"order"]


class TestEmptyQueueName:
    """RabbitMQ: an empty name where a queue is asked for."""

    @behaviour("DIRECT-04", "GET-08")
    @lie("binding-lost")
    def test_means_the_queue_that_was_declared_last_on_this_channel(self, connection, channel, drain, lookup):
        """A program whose queue was named by the broker need not keep the name."""
        own = connection.channel()
        own.queue_declare("work", durable=True)
        own.queue_bind("", "amq.fanout", "")
        for body in (b"fetched", b"purged"):
            channel.basic_publish("amq.fanout", "", body)

        fetched = own.basic_get("", auto_ack=True)
        purged = own.queue_purge("")
        own.queue_delete("")

        assert fetched[2] == b"fetched"
        assert purged.method.message_count == 1
        assert lookup("queue", "work") == "missing"

    @behaviour("DIRECT-04")
    @lie("binding-lost")
    def test_in_a_binding_with_an_empty_key_makes_the_name_of_the_queue_the_key(self, connection, channel, drain):
        """Such a binding works like the default exchange; a binding with an empty key is made by naming the queue."""
        own = connection.channel()
        own.queue_declare("work", durable=True)

        own.queue_bind("", "amq.direct", routing_key="")
        channel.basic_publish("amq.direct", "work", b"by its name")
        channel.basic_publish("amq.direct", "", b"by an empty key")

        assert drain("work") == [b"by its name"]

    @behaviour("DIRECT-06")
    @lie("passive-declare-ignored")
    def test_means_a_queue_that_was_declared_passively_too(self, connection, channel):
        """What was declared on another channel does not count."""
        for name in ("first", "second", "third"):
            channel.queue_declare(name, durable=True)
            channel.basic_publish("", name, name.encode())
        own = connection.channel()
        other = connection.channel()
        own.queue_declare("first", durable=True)
        own.queue_declare("second", passive=True)
        other.queue_declare("third", durable=True)

        _, _, body = own.basic_get("", auto_ack=True)

        assert body == b"second"

    @behaviour("DIRECT-05", "CHAN-03")
    @lie("absence-hidden")
    @pytest.mark.parametrize(
        "operation",
        [
            lambda channel: channel.basic_get(""),
            lambda channel: channel.queue_purge(""),
            lambda channel: channel.queue_delete(""),
            lambda channel: channel.queue_bind("", "amq.fanout", "key"),
            lambda channel: channel.basic_consume("", lambda *_: None),
        ],
        ids=["get", "purge", "delete", "bind", "consume"],
    )
    def test_closes_the_channel_with_404_where_no_queue_was_declared(self, refusal, operation):
        """A variable that was never set does not hit another program's queue."""
        said = refusal(operation)

        assert said.code == 404
        assert said.closed == "channel"
        assert said.text == "NOT_FOUND - no previously declared queue"
