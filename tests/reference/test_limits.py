"""Limits: how many queues a vhost may have, and how many connections and channels a user.

Spec: https://www.rabbitmq.com/docs/vhosts#limits, https://www.rabbitmq.com/docs/user-limits
Reference: LIMITS-02, LIMITS-03, LIMITS-13
"""

import pytest

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

ALL = {"configure": ".*", "write": ".*", "read": ".*"}


class TestVhostLimit:
    """RabbitMQ: the limits of a vhost."""

    @behaviour("LIMITS-02", "CHAN-03")
    @lie("precondition-hidden")
    @pytest.mark.parametrize("name", ["second", ""], ids=["named", "server_named"])
    def test_max_queues_closes_the_channel_with_406_on_one_more_queue(self, broker, vhost, channel, refusal, name):
        """A program that declares a queue for each visitor, and deletes none, is stopped before the broker suffers."""
        channel.queue_declare("first", durable=True)
        broker.management.limit_vhost(vhost, "max-queues", 1)

        said = refusal(lambda greedy: greedy.queue_declare(name, exclusive=True))

        assert said.code == 406
        assert said.closed == "channel"
        assert "queue limit in vhost" in said.text
        assert "(1) is reached" in said.text
        assert channel.queue_declare("first", durable=True).method.queue == "first"


class TestUserLimit:
    """RabbitMQ: the limits of a user."""

    @behaviour("LIMITS-03")
    @lie("connection-code-changed")
    def test_max_connections_refuses_further_connections_of_that_user_with_530(self, broker, user, connection_refusal):
        """The programs of one customer cannot use up the connections of all others."""
        limited = user(**ALL)
        other = user(**ALL)
        broker.management.limit_user(limited.user, "max-connections", 0)

        said = connection_refusal(limited)

        assert said.code == 530
        assert said.closed == "connection"
        assert said.text.endswith("user connection limit (0) is reached")
        assert connection_refusal(other).code == 0

    @behaviour("LIMITS-03", "CHAN-04")
    @lie("connection-code-changed")
    def test_max_channels_closes_the_connection_with_530_on_one_more_channel(self, broker, user, connect_as, refusal):
        """A program that opens a channel for each message loses its whole connection; others of the user stay."""
        who = user(**ALL)
        broker.management.limit_user(who.user, "max-channels", 2)
        greedy = connect_as(who)
        modest = connect_as(who)

        def open_many(_channel):
            for _ in range(100):  # the broker counts a moment after it has opened
                greedy.channel()

        said = refusal(open_many, on=greedy)

        assert said.code == 530
        assert said.closed == "connection"
        assert "NOT_ALLOWED - number of channels" in said.text
        assert modest.is_open


class TestChannelLimitText:
    """RabbitMQ: the text of the 530 at a user's limit of channels."""

    @behaviour("LIMITS-13")
    @lie("error-text-lost")
    @pytest.mark.parametrize(
        ("named", "other"),
        [
            pytest.param("user", "node", id="user", marks=rabbitmq(before="3.13")),
            pytest.param("node", "user", id="node", marks=rabbitmq(since="4.0", before="4.2")),
            pytest.param("user", "node", id="user_again", marks=rabbitmq(since="4.3")),
        ],
    )
    def test_names_the_user_and_from_4_0_to_4_2_5_the_node(self, broker, user, connect_as, refusal, named, other):
        """Whoever looks for the user with too many channels in the log of 4.0 finds the name of a node."""
        who = user(**ALL)
        names = {"user": who.user, "node": broker.management.get("overview")["node"]}
        broker.management.limit_user(who.user, "max-channels", 2)
        greedy = connect_as(who)

        said = refusal(lambda _: [greedy.channel() for _ in range(100)], on=greedy)

        assert said.code == 530
        assert said.closed == "connection"
        assert f"number of channels opened for user '{names[named]}'" in said.text
        assert names[other] not in said.text
