"""Permissions: which user may do what, and with which names.

A broker is shared by several teams and programs. A vhost gives each its own names. Within a vhost a user has three
permissions, each a regular expression over the names of queues and exchanges: *configure* to declare and delete,
*write* to publish, *read* to consume. In an order system a publisher can then send orders and not read them, and a
worker can read orders and not delete their queue. This limits what a stolen password is good for.

A topic permission also limits the routing keys at one exchange.

Spec: https://www.rabbitmq.com/docs/access-control
Code: rmqspec/tools/broker/management.py, rmqspec/client/refusal.py
Reference: PERM-01…08, TOPICPERM-01…04, PUB-08
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

ALL = {"configure": ".*", "write": ".*", "read": ".*"}


@pytest.fixture(autouse=True)
def names(channel):
    """The queue `ours` and the exchanges `team` and `company`."""
    channel.queue_declare("ours", durable=True)
    channel.exchange_declare("team", "topic", durable=True)
    channel.exchange_declare("company", "topic", durable=True)


@pytest.fixture
def connect_with(user, connect_as):
    """Opens a connection of a new user with these permissions: `connect_with(write="^orders$")`."""
    return lambda **permissions: connect_as(user(**permissions))


def publish(exchange, routing_key, **properties):
    """A publish whose confirm is awaited, so that a refusal is seen: `publish("team", "order.new")(channel)`."""

    def operation(channel):
        channel.confirm_delivery()
        channel.basic_publish(exchange, routing_key, b"", BasicProperties(**properties))

    return operation


OPERATIONS = {
    "declare": ("configure", lambda channel: channel.queue_declare("fresh", durable=True)),
    "publish": ("write", publish("team", "")),
    "consume": ("read", lambda channel: channel.basic_consume("ours", print)),
}

BINDINGS = {
    "queue": ("ours", lambda channel: channel.queue_bind("ours", "team", "a")),
    "exchange": ("company", lambda channel: channel.exchange_bind("company", "team", "a")),
}


class TestPermissions:
    """RabbitMQ: the three permissions of a user in a vhost."""

    @behaviour("PERM-01", "CHAN-03")
    @lie("refusal-hidden", cases=("declare", "consume"))
    @lie("code-403-changed", cases="publish")
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_are_configure_to_declare_write_to_publish_and_read_to_consume(self, connect_with, refusal, operation):
        """The other two do not help, and nothing else is needed: to give all three, to be safe, gives too much."""
        needed, operate = OPERATIONS[operation]
        others = {permission: ".*" for permission in ALL if permission != needed}

        said = refusal(operate, on=connect_with(**others))

        assert said.code == 403
        assert said.closed == "channel"
        assert "ACCESS_REFUSED" in said.text
        assert refusal(operate, on=connect_with(**{needed: ".*"})).code == 0

    @behaviour("PERM-01")
    @lie("refusal-hidden")
    def test_are_regular_expressions_that_match_anywhere_in_a_name_unless_they_are_anchored(
        self, connect_with, refusal
    ):
        """Without ^ and $ the permission `ours` also allows the name `yours`."""
        loose = connect_with(configure="ours")
        strict = connect_with(configure="^ours$")

        loose.channel().queue_declare("yours", durable=True)
        said = refusal(lambda channel: channel.queue_declare("yours", durable=True), on=strict)

        assert said.code == 403
        assert said.closed == "channel"

    @behaviour("PERM-02", "CHAN-03")
    @lie("refusal-hidden")
    @pytest.mark.parametrize("binding", BINDINGS)
    def test_require_read_on_the_source_and_write_on_the_destination_to_bind_a_queue_or_an_exchange(
        self, connect_with, refusal, binding
    ):
        """A binding is a way to read all that an exchange gets, so a permission to declare queues is not enough."""
        destination, bind = BINDINGS[binding]

        without_read = refusal(bind, on=connect_with(write=f"^{destination}$", read=f"^{destination}$"))
        assert without_read.code == 403
        assert without_read.closed == "channel"

        without_write = refusal(bind, on=connect_with(write="^team$", read="^team$"))
        assert without_write.code == 403
        assert without_write.closed == "channel"

        assert refusal(bind, on=connect_with(write=f"^{destination}$", read="^team$")).code == 0

    @behaviour("PERM-03")
    @lie("code-403-changed")
    def test_require_write_on_amq_default_instead_of_the_queue_to_publish_to_the_default_exchange(
        self, connect_with, refusal
    ):
        """To publish directly to a queue is to write to this exchange; a write permission on the queue is no help."""
        to_the_queue = publish("", "ours")

        said = refusal(to_the_queue, on=connect_with(write="^ours$"))

        assert said.code == 403
        assert said.closed == "channel"
        assert "exchange 'amq.default'" in said.text
        assert refusal(to_the_queue, on=connect_with(write="^amq[.]default$")).code == 0


class TestTopicPermission:
    """RabbitMQ: the permission of a user on routing keys, besides those on names."""

    @behaviour("TOPICPERM-01", "TOPICPERM-04", "CHAN-03")
    @lie("topic-as-fanout")
    def test_restricts_the_routing_keys_published_to_one_topic_exchange_and_to_no_other(
        self, broker, vhost, user, connect_as, refusal
    ):
        """Several teams can share an exchange, each with its own routing keys."""
        who = user(**ALL)
        broker.management.permit_topics(vhost, who.user, "team", write="^order[.]", read=".*")
        connection = connect_as(who)

        said = refusal(publish("team", "payment.new"), on=connection)

        assert said.code == 403
        assert said.closed == "channel"
        assert "topic 'payment.new'" in said.text
        assert refusal(publish("team", "order.new"), on=connection).code == 0
        assert refusal(publish("company", "payment.new"), on=connection).code == 0


class TestUserId:
    """RabbitMQ: the property `user_id` of a message."""

    @behaviour("PUB-08", "CHAN-03")
    @lie("user-id-unchecked")
    def test_closes_the_channel_with_406_if_it_is_not_the_name_of_the_publishing_user(
        self, user, connect_as, refusal, receive
    ):
        """A publisher can invent every other property; this one a consumer can trust."""
        who = user(**ALL)
        connection = connect_as(who)

        said = refusal(publish("", "ours", user_id="boss"), on=connection)

        assert said.code == 406
        assert said.closed == "channel"
        assert "user_id property set to 'boss'" in said.text
        connection.channel().basic_publish("", "ours", b"", BasicProperties(user_id=who.user))
        (delivery,) = receive("ours")
        assert delivery.properties.user_id == who.user
