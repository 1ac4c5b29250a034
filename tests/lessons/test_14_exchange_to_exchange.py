"""Exchange-to-exchange bindings and CC: routing in several steps, and to several routing keys.

An exchange can be bound to another exchange as a queue is: what the first one routes to it, the second one routes
again. So a company can build a tree of exchanges in which each team binds what it needs, and publishers know only the
first exchange.

A publisher that knows the receivers can name more routing keys in the headers `CC` and `BCC`, as in a letter. However
many ways lead to a queue, it gets one copy of the message. The order system needs neither of them. Where our clients
publish a message again, they leave `CC` and `BCC` out, so that no copy is sent twice.

Spec: https://www.rabbitmq.com/docs/e2e
Code: rmqspec/client/topology.py, rmqspec/client/republish.py
Reference: E2E-01…07, CCBCC-01…09, BIND-01, BIND-02
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie


@pytest.fixture
def company(channel):
    """A topic exchange, and the fanout exchange `team`, which is bound to it for `order.#`."""
    channel.exchange_declare("company", "topic", durable=True)
    channel.exchange_declare("team", "fanout", durable=True)
    channel.exchange_bind("team", "company", "order.#")
    return "company"


class TestExchangeBinding:
    """RabbitMQ: a binding from one exchange to another."""

    @behaviour("E2E-01")
    @lie("exchange-binding-lost")
    def test_routes_matching_messages_on_through_a_second_exchange(self, channel, bound_queue, is_routed, receive):
        """Publishers name only the first exchange, and consumers see only that one: the tree may be rebuilt."""
        channel.exchange_declare("company", "topic", durable=True)
        channel.exchange_declare("team", "fanout", durable=True)
        channel.exchange_bind("team", "company", "order.#")
        orders = bound_queue("team")

        channel.basic_publish("company", "order.new", b"an order")

        (delivery,) = receive(orders)
        assert delivery.body == b"an order"
        assert delivery.exchange == "company"
        assert delivery.routing_key == "order.new"
        assert is_routed("company", "payment.new") is False

    @behaviour("E2E-04")
    @lie("exchange-binding-key-replaces")
    def test_keeps_the_messages_routing_key_for_the_second_exchange(self, channel, company, bound_queue, drain):
        """The binding key between exchanges is a filter; it does not become the routing key of what passes."""
        channel.exchange_declare("desk", "direct", durable=True)
        channel.exchange_bind("desk", company, "order.#")
        by_routing_key = bound_queue("desk", "order.new")
        by_binding_key = bound_queue("desk", "order.#")

        channel.basic_publish(company, "order.new", b"an order")

        assert drain(by_routing_key) == [b"an order"]
        assert drain(by_binding_key) == []

    @behaviour("E2E-02")
    @lie("published-twice")
    def test_delivers_one_copy_to_a_queue_however_many_paths_lead_to_it(self, channel, company, bound_queue, drain):
        """Teams bind what they like; no customer gets two letters because two of them bound the same messages."""
        queue = bound_queue("team")
        channel.exchange_bind("team", company, "*.new")
        channel.queue_bind(queue, company, "#")

        channel.basic_publish(company, "order.new", b"by three paths")
        channel.basic_publish(company, "order.old", b"by two")

        assert drain(queue) == [b"by three paths", b"by two"]


class TestCcAndBcc:
    """RabbitMQ: the headers `CC` and `BCC`, lists of further routing keys."""

    @pytest.fixture
    def post(self, channel):
        """A direct exchange with a queue for each of three keys."""
        channel.exchange_declare("post", "direct", durable=True)
        for name in ("ann", "bob", "cat"):
            channel.queue_declare(name, durable=True)
            channel.queue_bind(name, "post", name)
        return "post"

    @behaviour("CCBCC-01")
    @lie("cc-lost")
    def test_cc_routes_a_copy_by_each_of_its_keys(self, channel, post, drain):
        """The publisher picks the receivers of each message. Header names are case-sensitive: `cc` does nothing."""
        channel.basic_publish(post, "ann", b"to three", BasicProperties(headers={"CC": ["bob", "cat"]}))
        channel.basic_publish(post, "ann", b"to one", BasicProperties(headers={"cc": ["bob", "cat"]}))

        assert drain("ann") == [b"to three", b"to one"]
        assert drain("bob") == [b"to three"]
        assert drain("cat") == [b"to three"]

    @behaviour("CCBCC-02")
    @lie("bcc-told")
    def test_bcc_routes_copies_too_and_is_removed_from_the_message(self, channel, post, receive):
        """Even the hidden receiver does not see that it is one: its copy carries the original routing key."""
        headers = {"CC": ["nobody"], "BCC": ["bob"], "note": "n"}
        channel.basic_publish(post, "ann", b"letter", BasicProperties(headers=headers))

        (to_ann,) = receive("ann")
        (to_bob,) = receive("bob")
        assert to_ann.properties.headers == {"CC": ["nobody"], "note": "n"}
        assert to_bob.properties.headers == {"CC": ["nobody"], "note": "n"}
        assert to_ann.routing_key == "ann"
        assert to_bob.routing_key == "ann"
