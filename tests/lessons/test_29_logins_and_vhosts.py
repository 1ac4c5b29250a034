"""Logins and vhosts: what a connection needs before its first queue.

The broker checks three things when a connection is opened. The login: does it know this user with this password? The
vhost: does it exist, and has the user any permission there? The limits: has this vhost or user fewer connections than
it may have? If one of these checks fails, it closes the connection with a code, 403 or 530, and pika raises an error
whose name begins with *Probable*. Other limits apply later: too many channels of a user close the connection, too many
queues in a vhost close the channel.

A vhost is a namespace: queues, exchanges, bindings and permissions of one are not seen in another. Our client turns
each refusal into one sentence that says what to do.

Spec: https://www.rabbitmq.com/docs/vhosts
Code: rmqspec/client/refusal.py, rmqspec/client/connection.py, rmqspec/client/settings.py
Reference: AUTH-01, AUTH-06…08, VHOST-01…06, LIMITS-01…03, LIMITS-06, PROTO-16
"""

from dataclasses import replace

import pika
import pytest
from pika import exceptions

from rmqspec.client import Publisher, connect
from rmqspec.client.errors import ClientError, LoginRefused, VhostRefused

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

ALL = {"configure": ".*", "write": ".*", "read": ".*"}


class TestLogin:
    """RabbitMQ: a login by user and password."""

    @behaviour("AUTH-01", "AUTH-06")
    @lie("login-named")
    def test_of_an_unknown_user_gets_the_same_403_as_a_wrong_password(self, user, url):
        """Guessing does not even show which users exist. The reason is in the broker's log."""
        known = user(**ALL)
        parameters = pika.URLParameters(url)

        parameters.credentials = pika.PlainCredentials(known.user, "sesame")
        with pytest.raises(exceptions.ProbableAuthenticationError) as of_wrong_password:
            pika.BlockingConnection(parameters)
        parameters.credentials = pika.PlainCredentials("nobody", "sesame")
        with pytest.raises(exceptions.ProbableAuthenticationError) as of_unknown_user:
            pika.BlockingConnection(parameters)

        assert "(403) 'ACCESS_REFUSED" in str(of_wrong_password.value)
        assert str(of_unknown_user.value) == str(of_wrong_password.value)
        parameters.credentials = pika.PlainCredentials(known.user, known.password)
        with pika.BlockingConnection(parameters) as connection:
            assert connection.is_open


class TestVhost:
    """RabbitMQ: the vhost that a connection names."""

    @behaviour("VHOST-02")
    @lie("connection-code-changed")
    def test_refuses_users_without_permissions_even_administrators_with_530(self, user, connection_refusal):
        """Any permission will do, but no tag gives one, not even `administrator`."""
        said = connection_refusal(user("administrator"))

        assert said.code == 530
        assert said.closed == "connection"
        assert said.text.startswith("NOT_ALLOWED - access to vhost")
        assert connection_refusal(user(configure="")).code == 0

    @behaviour("VHOST-01")
    @lie("vhost-ignored")
    def test_that_does_not_exist_refuses_the_connection_with_530(self, broker, connection_refusal):
        """Unlike a queue, a vhost cannot be declared by a client: an operator has to create it."""
        said = connection_refusal(broker.endpoint, "nowhere")

        assert said.code == 530
        assert said.text == "NOT_ALLOWED - vhost nowhere not found"
        assert connection_refusal(broker.endpoint).code == 0

    @behaviour("VHOST-03")
    @lie("vhost-ignored")
    def test_has_queues_and_exchanges_of_its_own_under_equal_names(
        self, broker, connection, another_vhost, connect_as, refusal
    ):
        """A test system can use the very names of the live system, without a way to its messages."""
        # An exclusive queue: a second one of that name in the same vhost would be refused.
        there = connect_as(broker.endpoint, another_vhost)
        ours = connection.channel()
        ours.queue_declare("orders", exclusive=True)
        declared = refusal(lambda channel: channel.queue_declare("orders", exclusive=True), on=there)
        assert declared.code == 0
        theirs = there.channel()

        for channel, body in ((ours, b"ours"), (theirs, b"theirs")):
            channel.queue_bind("orders", "amq.fanout")
            channel.confirm_delivery()
            channel.basic_publish("amq.fanout", "", body)

        assert ours.basic_get("orders")[2] == b"ours"
        assert ours.basic_get("orders")[2] is None
        assert theirs.basic_get("orders")[2] == b"theirs"
        assert theirs.basic_get("orders")[2] is None


class TestConnectionLimit:
    """RabbitMQ: the limit `max-connections` of a vhost."""

    @behaviour("LIMITS-01", "LIMITS-06")
    @lie("connection-code-changed")
    def test_of_a_vhost_refuses_further_connections_with_530(self, broker, vhost, connection, connection_refusal):
        """A program that opens a connection for each message fills its own vhost, and not the whole broker."""
        broker.management.limit_vhost(vhost, "max-connections", 0)

        said = connection_refusal(broker.endpoint)

        assert said.code == 530
        assert said.text.startswith("NOT_ALLOWED - access to vhost")
        assert said.text.endswith("connection limit (0) is reached")
        assert connection.channel().is_open
        broker.management.limit_vhost(vhost, "max-connections", -1)
        assert connection_refusal(broker.endpoint).code == 0


WAYS = {"connect": lambda source: connect(source, "spec"), "publisher": Publisher}


@pytest.mark.parametrize("way", WAYS)
class TestConnect:
    """Our client: each refusal is one sentence, whether it opens a connection or a publisher."""

    @pytest.fixture
    def error_of(self, way, route):
        """The error that is raised instead of a connection: `error_of(url)`."""

        def ask(url):
            with pytest.raises(ClientError) as error:
                WAYS[way](route(url))
            return error.value

        return ask

    @lie("connection-code-changed")
    def test_says_to_check_user_and_password_after_a_refused_login(self, vhost, user, error_of):
        """The broker does not say which of the two is wrong, so neither does the sentence."""
        who = user(**ALL)

        error = error_of(replace(who, password="sesame").url(vhost))

        assert type(error) is LoginRefused
        assert error.reply_code == 403
        assert str(error).endswith(f"refused the login of '{who.user}': check user and password")

    @lie("error-text-lost")
    def test_says_to_create_a_vhost_that_does_not_exist(self, broker, error_of):
        """The name of a vhost is as easily misspelt as that of a host, while the broker is well."""
        error = error_of(broker.endpoint.url("no'where"))

        assert type(error) is VhostRefused
        assert error.reply_code == 530
        assert error.reply_text == "NOT_ALLOWED - vhost no'where not found"
        assert str(error).endswith('has no vhost "no\'where": create it, or correct its name')

    @lie("connection-code-changed")
    def test_says_to_give_permissions_to_a_user_without_any(self, vhost, user, error_of):
        """A new user is refused where all others are accepted, which looks like a wrong password."""
        who = user()

        error = error_of(who.url(vhost))

        assert type(error) is VhostRefused
        assert error.reply_code == 530
        assert f"does not let '{who.user}' into the vhost '{vhost}'" in str(error)
        assert str(error).endswith(f"refused for user '{who.user}'): give permissions there")

    @lie("error-text-lost")
    def test_says_to_raise_the_limit_if_connections_are_limited(self, broker, vhost, user, error_of):
        """The code is the same as without permissions, but more permissions would not help."""
        who = user(**ALL)
        broker.management.limit_user(who.user, "max-connections", 0)

        error = error_of(who.url(vhost))

        assert type(error) is VhostRefused
        assert error.reply_code == 530
        assert str(error).endswith("connection limit (0) is reached): close some, or raise the limit")
