"""Authentication: the mechanisms of login, and changes of users while their connections are open.

Spec: https://www.rabbitmq.com/docs/access-control#authentication
Reference: AUTH-04, AUTH-07, AUTH-08, PROTO-16
"""

from dataclasses import replace

import pytest
from pika import BlockingConnection, PlainCredentials, URLParameters, exceptions

from rmqspec.tools.broker.endpoint import random_login
from tests.pika_internals import agreed_parameters

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

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


class TestAnonymousLogin:
    """RabbitMQ: the SASL mechanism ANONYMOUS, by which a client logs in without user and password."""

    @behaviour("AUTH-04")
    @rabbitmq(before="4.0")
    @lie("anonymous-login-changed")
    def test_is_not_offered_before_4_0(self, login_mechanisms):
        """Whoever has no password does not get in, not even as guest."""
        assert set(login_mechanisms.split()) == {"AMQPLAIN", "PLAIN"}

    @behaviour("AUTH-04")
    @rabbitmq(since="4.0")
    @lie("anonymous-login-changed")
    def test_is_offered_by_default_since_4_0(self, login_mechanisms):
        """If the user guest exists, everybody on the machine is that user: delete it, or set anonymous_login_user."""
        assert set(login_mechanisms.split()) == {"AMQPLAIN", "ANONYMOUS", "PLAIN"}


class NotingCredentials(PlainCredentials):
    """User and password, with a memory of the mechanisms that the broker offered."""

    mechanisms = ""

    def response_for(self, start):
        self.mechanisms = start.mechanisms if isinstance(start.mechanisms, str) else start.mechanisms.decode()
        return super().response_for(start)


@pytest.fixture
def login_mechanisms(url):
    """The mechanisms of `connection.start`, separated by spaces."""
    parameters = URLParameters(url)
    login = parameters.credentials
    parameters.credentials = NotingCredentials(login.username, login.password)
    with BlockingConnection(parameters) as connection:
        return agreed_parameters(connection).credentials.mechanisms


class TestConsumerWhoseUserMayNoLongerRead:
    """RabbitMQ: a consumer whose user has lost the permission to read, after `connection.update-secret`."""

    @behaviour("AUTH-07")
    @rabbitmq(before="4.2")
    @lie("consumer-not-made")
    def test_runs_on_before_4_2(self, consumer_without_permission, channel):
        """Permissions are checked when it starts: to withdraw them, its connection has to be closed."""
        consumer, _ = consumer_without_permission

        channel.basic_publish("", "work", b"secret")

        assert consumer.wait_for(1) == [b"secret"]

    @behaviour("AUTH-07")
    @rabbitmq(since="4.3")
    @lie("cancel-swallowed")
    def test_gets_basic_cancel_since_4_3(self, consumer_without_permission, channel, eventually):
        """A renewed token with fewer rights ends its consumers, and leaves the channel open."""
        consumer, cancelled = consumer_without_permission

        eventually(cancelled, [consumer.consumer_tag])

        assert consumer.channel.is_open
        assert channel.queue_declare("work", passive=True).method.consumer_count == 0


@pytest.fixture
def consumer_without_permission(broker, vhost, user, connect_as, channel, subscribe_without_ack, cancelled_consumers):
    """A consumer whose user may not read any more, and the tags of its channel that were cancelled since then."""
    who = user(**ALL)
    connection = connect_as(who)
    consuming = connection.channel()
    channel.queue_declare("work", durable=True)
    consumer = subscribe_without_ack(consuming, "work")
    cancelled = cancelled_consumers(consuming)
    broker.management.permit(vhost, who.user, **ALL | {"read": ""})
    connection.update_secret(who.password, "the permissions have changed")
    return consumer, cancelled
