"""Authentication: changes of users while their connections are open.

Spec: https://www.rabbitmq.com/docs/access-control#authentication
Reference: AUTH-07, AUTH-08, PROTO-16
"""

from dataclasses import replace

import pytest
from pika import exceptions

from rmqspec.tools.broker.endpoint import random_login

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

ALL = {"configure": ".*", "write": ".*", "read": ".*"}


class TestPassword:
    """RabbitMQ: the password of a user."""

    @behaviour("AUTH-08")
    @lie("connection-code-changed")
    def test_change_applies_to_new_connections_only(self, broker, user, connect_as, connection_refusal):
        """After a password was stolen, the open connections have to be closed too."""
        who = user(**ALL)
        opened_before = connect_as(who)
        _, new_password = random_login()

        broker.management.create_user(who.user, new_password)

        assert connection_refusal(who).code == 403
        assert connection_refusal(replace(who, password=new_password)).code == 0
        assert opened_before.channel().queue_declare("q", durable=True).method.queue == "q"


class TestUser:
    """RabbitMQ: a user that is deleted."""

    @behaviour("AUTH-08", "PROTO-16")
    @lie("connection-code-changed")
    def test_deletion_closes_its_connections_with_320_and_drops_its_permissions(
        self, broker, vhost, user, connect_as, connection_refusal, connection, eventually
    ):
        """A user that is created later under the same name has none of the permissions."""
        who = user(**ALL)
        opened_before = connect_as(who)
        # The broker lists a connection a moment after it has opened it, and closes those that are listed.
        eventually(lambda: vhost in broker.management.vhosts_used_by(who.user), True)

        broker.management.delete_user(who.user)

        with pytest.raises(exceptions.ConnectionClosedByBroker) as closed:
            opened_before.process_data_events(time_limit=10)
        assert closed.value.reply_code == 320
        assert "CONNECTION_FORCED - user" in closed.value.reply_text
        assert connection.channel().is_open
        broker.management.create_user(who.user, who.password)
        assert connection_refusal(who).code == 530


class TestUpdateSecret:
    """RabbitMQ: `connection.update-secret`."""

    @behaviour("AUTH-07")
    @lie("secret-refused")
    def test_is_accepted_and_leaves_the_connection_and_its_channels_open(self, user, connect_as, refusal):
        """For logins that expire, as OAuth 2 tokens do: the messages of the connection are not lost."""
        connection = connect_as(user(**ALL))
        channel = connection.channel()
        channel.queue_declare("work", exclusive=True)
        channel.basic_publish("", "work", b"in flight")

        said = refusal(lambda _: connection.update_secret("renewed", "the old one expires"), on=connection)

        assert said.code == 0
        _, _, body = channel.basic_get("work", auto_ack=True)
        assert body == b"in flight"
