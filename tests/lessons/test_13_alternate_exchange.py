"""Alternate exchange: where an exchange sends messages that match none of its bindings.

An exchange drops a message that matches none of its bindings, unless it was declared with an alternate exchange: then
the message is published there. That exchange may have an alternate too, and only if the last one routes the message to
no queue is it unroutable. So messages with a misspelt routing key, or about something that nobody consumes yet, can be
collected in a queue where somebody sees them.

What matters is whether a binding matches, not what becomes of the message in its queue afterwards: rejected and expired
messages are the business of a dead-letter exchange.

Spec: https://www.rabbitmq.com/docs/ae
Code: rmqspec/client/topology.py, rmqspec/client/publisher.py
Reference: AE-01…05, AE-07, XDECL-04
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def shop(channel):
    """A direct exchange whose alternate is the exchange `unknown`; that one is not declared here."""
    channel.exchange_declare("shop", "direct", durable=True, arguments={"alternate-exchange": "unknown"})
    return "shop"


class TestAlternateExchange:
    """RabbitMQ: the exchange named by the argument or policy `alternate-exchange`."""

    @behaviour("AE-01")
    @lie("alternate-exchange-lost")
    def test_receives_unroutable_messages_with_their_exchange_and_routing_key(self, channel, bound_queue, receive):
        """The routing key is kept, so that somebody who finds the message sees where it was meant to go."""
        channel.exchange_declare("unknown", "fanout", durable=True)
        channel.exchange_declare("shop", "direct", durable=True, arguments={"alternate-exchange": "unknown"})
        bound_queue("shop", "paid")
        rest = bound_queue("unknown")

        channel.basic_publish("shop", "payed", b"misspelt")

        (delivery,) = receive(rest)
        assert delivery.body == b"misspelt"
        assert delivery.exchange == "shop"
        assert delivery.routing_key == "payed"

    @behaviour("AE-05")
    @lie("alternate-gets-all")
    def test_receives_no_message_that_matched_a_binding(self, shop, channel, bound_queue, drain):
        """It sees only the unroutable rest: an audit of all messages cannot be built with it."""
        channel.exchange_declare("unknown", "fanout", durable=True)
        paid = bound_queue(shop, "paid")
        rest = bound_queue("unknown")

        channel.basic_publish(shop, "paid", b"bound")
        channel.basic_publish(shop, "sent", b"not bound")

        assert drain(paid) == [b"bound"]
        assert drain(rest) == [b"not bound"]

    @behaviour("AE-03")
    @lie("alternate-exchange-lost")
    def test_makes_mandatory_return_only_messages_that_it_cannot_route_either(
        self, shop, channel, bound_queue, is_routed, drain
    ):
        """A publisher gets no return for a misspelt key if a queue behind the alternate exchange has the message."""
        channel.exchange_declare("unknown", "direct", durable=True)
        misspelt = bound_queue("unknown", "payed")

        assert is_routed(shop, "payed") is True
        assert is_routed(shop, "lost") is False
        assert drain(misspelt) == [b"payed"]

    @behaviour("AE-04")
    @lie("alternate-exchange-lost")
    def test_may_be_missing_and_unroutable_messages_are_then_dropped_and_acked(self, shop, channel, bound_queue, drain):
        """The declaration does not check its name and publishers get acks: only the broker's log shows the typo."""
        channel.basic_publish(shop, "lost", b"dropped")  # in confirm mode: returns with the ack

        channel.exchange_declare("unknown", "fanout", durable=True)
        rest = bound_queue("unknown")
        channel.basic_publish(shop, "lost", b"kept")

        assert channel.is_open
        assert drain(rest) == [b"kept"]

    @behaviour("AE-07")
    @lie("routed-returned")
    def test_can_be_set_by_a_policy_on_an_existing_exchange(
        self, broker, vhost, channel, bound_queue, is_routed, eventually
    ):
        """An operator can collect unroutable messages on a running system without declaring the exchange again."""
        channel.exchange_declare("depot", "direct", durable=True)
        channel.exchange_declare("unknown", "fanout", durable=True)
        bound_queue("unknown")
        routed_before = is_routed("depot", "lost")

        broker.management.set_policy(vhost, "alternates", "^depot$", {"alternate-exchange": "unknown"})

        assert routed_before is False
        eventually(lambda: is_routed("depot", "lost"), True)
