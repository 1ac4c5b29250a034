"""Unroutable messages: what happens to a message that no queue is bound for.

An exchange copies a message to the queues whose bindings match, and there may be none: the routing key has a typo, or
the consumer that declares the queue was never started. By default the broker drops such a message without an error,
and in confirm mode it even acks it. A publisher that sets the flag `mandatory` gets the message returned first, by
`basic.return`. A missing exchange is another thing: that is an error, and it closes the channel.

Our publisher publishes every message as mandatory, and the future of a returned message raises `Returned`.

Spec: https://www.rabbitmq.com/docs/publishers#unroutable
Code: rmqspec/client/publisher.py, rmqspec/client/errors.py
Reference: PUB-01…03, CONFIRM-05, CONFIRM-06, XDECL-15
"""

import pytest
from pika import BasicProperties, exceptions

from rmqspec.client import Publisher
from rmqspec.client.errors import ChannelClosed, Returned

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture(autouse=True)
def orders_queue(channel):
    """Bound for the routing key `order`, and for no other."""
    channel.queue_declare("orders", durable=True)
    channel.queue_bind("orders", "amq.direct", "order")


class TestMandatoryPublish:
    """RabbitMQ: an unroutable message that was published with `mandatory`."""

    @behaviour("PUB-01")
    @lie("returned-body-lost")
    def test_is_returned_complete_by_basic_return_312_no_route(self, channel):
        """The return has all that it takes to publish the message elsewhere, so the publisher need not keep a copy."""
        properties = BasicProperties(message_id="7", headers={"shop": "Ada"})

        with pytest.raises(exceptions.UnroutableError) as error:
            channel.basic_publish("amq.direct", "oder", b"two mice", properties, mandatory=True)

        (returned,) = error.value.messages
        assert returned.method.reply_code == 312
        assert returned.method.reply_text == "NO_ROUTE"
        assert returned.method.exchange == "amq.direct"
        assert returned.method.routing_key == "oder"
        assert returned.properties == properties
        assert returned.body == b"two mice"

    @behaviour("PUB-01")
    @lie("second-message-lost")
    def test_leaves_the_channel_open_when_it_is_returned(self, channel, drain):
        """A return reports one message and is no error: the next one can be published on the same channel."""
        with pytest.raises(exceptions.UnroutableError):
            channel.basic_publish("amq.direct", "oder", b"returned", mandatory=True)

        channel.basic_publish("amq.direct", "order", b"routed", mandatory=True)

        assert channel.is_open
        assert drain("orders") == [b"routed"]

    @behaviour("CONFIRM-06")
    @lie("return-late")
    def test_is_returned_before_it_is_acked(self, connection, confirm_log):
        """If the ack comes without a return before it, the publisher knows for certain that the message was routed."""
        log = confirm_log(connection)

        log.channel.basic_publish("amq.direct", "oder", b"", mandatory=True)
        log.wait_for(1)

        assert log.methods == ["Basic.Return", "Basic.Ack"]


class TestPublishWithoutMandatory:
    """RabbitMQ: an unroutable message that was published without the flag, which is the default."""

    @behaviour("PUB-02", "CONFIRM-05")
    @lie("mandatory-always")
    def test_is_dropped_and_acked_without_a_return(self, connection, confirm_log, channel, drain):
        """With a typo in a routing key every message is lost, and the publisher gets an ack for each."""
        log = confirm_log(connection)

        log.channel.basic_publish("amq.direct", "oder", b"lost")
        log.wait_for(1)

        assert log.methods == ["Basic.Ack"]
        channel.basic_publish("amq.direct", "order", b"kept")
        assert drain("orders") == [b"kept"]


class TestPublishToAMissingExchange:
    """RabbitMQ: a publish to an exchange that does not exist."""

    @behaviour("XDECL-15")
    @lie("code-404-changed")
    def test_closes_the_channel_with_404(self, refusal, channel, drain):
        """Not only this message is lost, but also every other one that is still unconfirmed on the channel."""

        def publish(careless):
            careless.confirm_delivery()
            careless.basic_publish("oders", "order", b"lost")

        said = refusal(publish)

        assert said.code == 404
        assert said.closed == "channel"
        assert "NOT_FOUND - no exchange 'oders'" in said.text
        channel.basic_publish("amq.direct", "order", b"kept, on another channel")
        assert drain("orders") == [b"kept, on another channel"]


class TestPublisher:
    """Our publisher: no message is dropped unless the caller permits it."""

    @lie("return-code-changed")
    def test_raises_returned_with_the_message_and_312_no_route(self, source, settled):
        """The error carries the message: the caller keeps it, corrects the routing key, or gives it up."""
        with Publisher(source) as publisher:
            future = publisher.publish("amq.direct", "oder", b"two mice")

        with pytest.raises(Returned, match="no queue is bound for it") as error:
            settled(future).result()
        assert error.value.reply_code == 312
        assert error.value.reply_text == "NO_ROUTE"
        assert error.value.message.routing_key == "oder"
        assert error.value.message.body == b"two mice"

    @lie("return-address-lost")
    def test_matches_each_return_to_its_publish_among_equal_bodies(self, source, drain, settled):
        """basic.return carries no delivery tag, and a hundred messages with the same body may be unconfirmed."""
        keys = ["order", "oder", "order", "order", "oder"] * 20

        with Publisher(source) as publisher:
            futures = [publisher.publish("amq.direct", key, b"two mice") for key in keys]

        errors = [settled(future).exception() for future in futures]
        assert [type(error) for error in errors] == [type(None) if key == "order" else Returned for key in keys]
        assert drain("orders") == [b"two mice"] * 60

    @lie("confirm-nacked")
    def test_confirms_unroutable_messages_without_mandatory(self, source, drain, settled):
        """For news that matters only to those who listen now: if no queue is bound, that is no error."""
        with Publisher(source) as publisher:
            dropped = publisher.publish("amq.direct", "oder", b"news", mandatory=False)
            routed = publisher.publish("amq.direct", "order", b"two mice", mandatory=False)

        assert settled(dropped).exception() is None
        assert settled(routed).exception() is None
        assert drain("orders") == [b"two mice"]

    @lie("code-404-changed")
    def test_publishes_again_after_a_missing_exchange_closed_its_channel(self, source, drain, settled):
        """The broker closes the channel; only the message with the wrong exchange may fail because of it."""
        with Publisher(source) as publisher:
            with pytest.raises(ChannelClosed, match="no exchange 'oders'") as error:
                settled(publisher.publish("oders", "order", b"lost")).result()
            after = publisher.publish("amq.direct", "order", b"kept")

        assert error.value.reply_code == 404
        assert settled(after).exception() is None
        assert drain("orders") == [b"kept"]
