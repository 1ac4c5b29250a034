"""Permissions: the remaining operations, passive declares by version, server-named queues, caching and impersonation.

Spec: https://www.rabbitmq.com/docs/access-control
Reference: PERM-01, PERM-04…08, TOPICPERM-02, TOPICPERM-03, PUB-08
"""

import pytest
from pika import BasicProperties

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

ALL = {"configure": ".*", "write": ".*", "read": ".*"}

OPERATIONS = {
    "delete_queue": ("configure", lambda channel: channel.queue_delete("ours")),
    "declare_exchange": ("configure", lambda channel: channel.exchange_declare("fresh", "topic", durable=True)),
    "delete_exchange": ("configure", lambda channel: channel.exchange_delete("team")),
    "get": ("read", lambda channel: channel.basic_get("ours")),
    "purge": ("read", lambda channel: channel.queue_purge("ours")),
}

DECLARATIONS = {
    "dead_letter_exchange": lambda channel: channel.queue_declare(
        "mine", durable=True, arguments={"x-dead-letter-exchange": "team"}
    ),
    "alternate_exchange": lambda channel: channel.exchange_declare(
        "mine", durable=True, arguments={"alternate-exchange": "team"}
    ),
}


def passive_declare(channel):
    """Looks at the queue `ours` without declaring it."""
    channel.queue_declare("ours", passive=True)


@pytest.fixture(autouse=True)
def names(channel):
    """The queue `ours` and the exchange `team`."""
    channel.queue_declare("ours", durable=True)
    channel.exchange_declare("team", "topic", durable=True)


@pytest.fixture
def connect_with(user, connect_as):
    """Opens a connection of a new user with these permissions: `connect_with(write="^orders$")`."""
    return lambda **permissions: connect_as(user(**permissions))


class TestPermissions:
    """RabbitMQ: the three permissions of a user in a vhost."""

    @behaviour("PERM-01", "QDEL-07", "CHAN-03")
    @lie("refusal-hidden")
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_are_configure_to_declare_or_delete_and_read_to_get_or_purge(self, connect_with, refusal, operation):
        """The other two do not help, and nothing else is needed."""
        needed, operate = OPERATIONS[operation]
        others = {permission: ".*" for permission in ALL if permission != needed}

        said = refusal(operate, on=connect_with(**others))

        assert said.code == 403
        assert said.closed == "channel"
        assert "ACCESS_REFUSED" in said.text
        assert refusal(operate, on=connect_with(**{needed: ".*"})).code == 0

    @behaviour("PERM-04", "DLX-10")
    @lie("refusal-hidden")
    @pytest.mark.parametrize("declaration", DECLARATIONS)
    def test_require_write_on_a_named_dead_letter_or_alternate_exchange_and_read_on_the_declared_one(
        self, connect_with, refusal, declaration
    ):
        """Otherwise dead-lettering would be a way to publish to an exchange without its write permission."""
        declare = DECLARATIONS[declaration]

        without_write = refusal(declare, on=connect_with(configure="^mine$", read="^mine$"))
        assert without_write.code == 403
        assert without_write.closed == "channel"
        assert "exchange 'team'" in without_write.text

        without_read = refusal(declare, on=connect_with(configure="^mine$", write="^team$"))
        assert without_read.code == 403
        assert without_read.closed == "channel"
        assert "'mine'" in without_read.text

        assert refusal(declare, on=connect_with(configure="^mine$", write="^team$", read="^mine$")).code == 0

    @behaviour("PERM-05")
    @rabbitmq(before="4.2")
    @lie("queue-look-declares")
    def test_are_not_required_for_a_passive_declare_before_4_2(self, connect_with, refusal):
        """Every user of the vhost can see how long any queue is."""
        assert refusal(passive_declare, on=connect_with(configure="")).code == 0

    @behaviour("PERM-05")
    @rabbitmq(since="4.3.1")
    @lie("refusal-hidden")
    def test_require_any_of_the_three_for_a_passive_declare_since_4_3_1(self, connect_with, refusal):
        """A monitoring user without permissions needs one before the upgrade."""
        said = refusal(passive_declare, on=connect_with(configure=""))

        assert said.code == 403
        assert said.closed == "channel"
        assert refusal(passive_declare, on=connect_with(configure="^ours$")).code == 0
        assert refusal(passive_declare, on=connect_with(write="^ours$")).code == 0
        assert refusal(passive_declare, on=connect_with(read="^ours$")).code == 0

    @behaviour("PERM-06")
    @lie("refusal-hidden")
    def test_require_configure_on_amq_gen_for_a_server_named_queue(self, connect_with, refusal):
        """An RPC client that declares such a queue for its replies needs this permission."""

        def declare(channel):
            assert channel.queue_declare("", exclusive=True).method.queue.startswith("amq.gen-")

        said = refusal(declare, on=connect_with(write=".*", read=".*"))

        assert said.code == 403
        assert said.closed == "channel"
        assert "queue 'amq.gen-" in said.text
        assert refusal(declare, on=connect_with(configure="^amq[.]gen-")).code == 0

    @behaviour("PERM-07")
    @lie("refusal-hidden")
    def test_that_were_revoked_are_refused_with_403_on_a_new_channel_of_an_open_connection(
        self, broker, vhost, user, connect_as, refusal
    ):
        """An open channel may cache a permission for a while: to revoke one, also close the connections."""
        who = user(**ALL)
        connection = connect_as(who)
        connection.channel().queue_purge("ours")

        broker.management.permit(vhost, who.user, write=".*")

        said = refusal(lambda channel: channel.queue_purge("ours"), on=connection)
        assert said.code == 403
        assert said.closed == "channel"


class TestTopicPermission:
    """RabbitMQ: the permission of a user on routing keys, besides those on names."""

    @behaviour("TOPICPERM-02", "TOPICPERM-03")
    @lie("refusal-hidden")
    def test_may_contain_username_and_restricts_the_patterns_of_bindings(
        self, broker, vhost, user, connect_as, refusal
    ):
        """One rule serves a thousand customers, each of whom may receive messages about itself only."""
        who = user(**ALL)
        broker.management.permit_topics(vhost, who.user, "team", write=".*", read="^{username}[.]")
        connection = connect_as(who)

        said = refusal(lambda channel: channel.queue_bind("ours", "team", "#"), on=connection)

        assert said.code == 403
        assert said.closed == "channel"
        assert "topic '#'" in said.text
        own = refusal(lambda channel: channel.queue_bind("ours", "team", f"{who.user}.#"), on=connection)
        assert own.code == 0


class TestUserId:
    """RabbitMQ: the property `user_id` of a message."""

    @behaviour("PUB-08", "PERM-08")
    @lie("user-id-unchecked")
    def test_may_name_another_user_if_the_publisher_has_the_tag_impersonator(self, user, connect_as, receive):
        """A bridge between brokers republishes messages of others; consumers have to trust every user with this tag."""
        bridge = connect_as(user("impersonator", **ALL)).channel()
        bridge.confirm_delivery()

        bridge.basic_publish("", "ours", b"", BasicProperties(user_id="boss"))

        (delivery,) = receive("ours")
        assert delivery.properties.user_id == "boss"
