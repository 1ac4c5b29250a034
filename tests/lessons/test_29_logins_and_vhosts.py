"""Logins, vhosts and limits: who is let in, where to, and how often.

Before the first queue is declared a connection has three doors to pass. The login: does the broker know this user with
this password? The vhost: does it exist, and has this user any permission there? The limits: are there too many
connections, channels or queues already? The broker answers each with a code and hangs up, and pika hands on an
exception whose name begins with Probable. Our client turns each answer into one sentence that says what to do.

Spec: https://www.rabbitmq.com/docs/vhosts
Code: rmqspec/client/refusal.py, rmqspec/client/connection.py, rmqspec/client/settings.py
"""

from dataclasses import replace

import pytest
from pika import exceptions

from rmqspec.client import Publisher, connect
from rmqspec.client.errors import ClientError, LoginRefused, VhostRefused
from rmqspec.tools.broker.endpoint import random_login

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie

ALL = {"configure": ".*", "write": ".*", "read": ".*"}


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @pytest.fixture
    def elsewhere(self, vhosts):
        """A second vhost."""
        name = vhosts.take()
        yield name
        vhosts.give_back(name)

    @behaviour("AUTH-01", "AUTH-06")
    @lie("connection-code-changed")
    def test_refuses_unknown_users_and_wrong_passwords_alike(self, user, connect_as):
        """Who guesses is not even told that there is such a user; the reason stands in the broker's own log."""
        who = user(**ALL)

        said = []
        for wrong in (replace(who, password="sesame"), replace(who, user="nobody")):
            with pytest.raises(exceptions.ProbableAuthenticationError, match=r"\(403\) .ACCESS_REFUSED") as error:
                connect_as(wrong)
            said.append(str(error.value))

        assert said[0] == said[1]
        assert connect_as(who).is_open

    @behaviour("AUTH-08")
    @lie("connection-code-changed")
    def test_asks_for_the_password_at_the_door_alone(self, broker, user, connect_as):
        """A changed password shuts nobody out who is in: after a theft the open connections have to be closed too."""
        who = user(**ALL)
        inside, changed = connect_as(who), replace(who, password=random_login()[1])

        broker.management.create_user(changed.user, changed.password)

        with pytest.raises(exceptions.ProbableAuthenticationError, match=r"\(403\)"):
            connect_as(who)
        assert connect_as(changed).is_open
        assert inside.channel().queue_declare("q", durable=True).method.queue == "q"

    @behaviour("AUTH-08", "PROTO-16")
    @lie("connection-code-changed")
    def test_shows_a_deleted_user_out(self, broker, vhost, user, connect_as, connection, eventually):
        """This does end the connections that are open; whoever gets the name later has none of the permissions."""
        inside = connect_as(who := user(**ALL))
        # The broker lists a connection a moment after it has opened it, and ends those that are listed.
        eventually(lambda: vhost in broker.management.vhosts_used_by(who.user), True)

        broker.management.delete_user(who.user)

        with pytest.raises(exceptions.ConnectionClosedByBroker, match="CONNECTION_FORCED - user") as error:
            inside.process_data_events(time_limit=10)
        assert (error.value.reply_code, inside.is_closed, connection.channel().is_open) == (320, True, True)
        broker.management.create_user(who.user, who.password)
        with pytest.raises(exceptions.ProbableAccessDeniedError, match=r"\(530\)"):
            connect_as(who)

    @behaviour("AUTH-07")
    @lie("look-at-empty")
    def test_takes_a_new_secret_on_an_open_connection(self, user, connect_as):
        """For logins that expire, as OAuth tokens do: the connection, and what is in flight on it, lives on."""
        channel = (inside := connect_as(user(**ALL))).channel()
        channel.basic_publish("", channel.queue_declare("work", exclusive=True).method.queue, b"in flight")

        inside.update_secret("renewed", "the old one expires")

        assert channel.basic_get("work", auto_ack=True)[2] == b"in flight"

    @behaviour("VHOST-02")
    @lie("connection-code-changed")
    def test_shuts_a_vhost_to_users_without_permissions(self, user, connect_as):
        """A new user may enter none, and no tag is a key, not even administrator."""
        with pytest.raises(exceptions.ProbableAccessDeniedError, match=r"\(530\) .NOT_ALLOWED - access to vhost"):
            connect_as(user("administrator"))

        assert connect_as(user(configure="")).is_open

    @behaviour("VHOST-01")
    @lie("connection-code-changed")
    def test_knows_no_vhost_that_nobody_created(self, broker, connect_as):
        """A vhost is not created by being named, as a queue is by being declared: somebody has to be asked for it."""
        with pytest.raises(exceptions.ProbableAccessDeniedError, match=r"\(530\) .NOT_ALLOWED - vhost nowhere not f"):
            connect_as(broker.endpoint, "nowhere")

        assert connect_as(broker.endpoint).is_open

    @behaviour("VHOST-03")
    @lie("binding-lost")
    def test_keeps_equal_names_in_two_vhosts_apart(self, broker, channel, elsewhere, connect_as, drain):
        """So that staging may use the very names of production, and a test those of both."""
        other = connect_as(broker.endpoint, elsewhere).channel()
        other.confirm_delivery()
        for here in (channel, other):
            here.queue_declare("orders", durable=True)
            here.queue_bind("orders", "amq.fanout")

        other.basic_publish("amq.fanout", "", b"theirs")
        channel.basic_publish("amq.fanout", "", b"ours")

        assert drain("orders") == [b"ours"]
        assert other.basic_get("orders")[2] == b"theirs"

    @behaviour("VHOST-04", "VHOST-06")
    def test_furnishes_a_new_vhost(self, broker, vhost, channel):
        """Each has the exchanges whose names begin with amq. from its first day; to create it again changes nothing."""
        channel.exchange_declare("ours", durable=True)

        broker.management.create_vhost(vhost)

        kinds = {f"amq.{kind}" for kind in ("direct", "fanout", "topic", "headers", "match")}
        assert broker.management.exchanges(vhost) >= {"", "ours", *kinds}

    @behaviour("VHOST-05", "PROTO-16")
    @lie("absence-hidden")
    def test_empties_a_vhost_that_is_deleted(self, broker, elsewhere, connect_as, connection, eventually):
        """Its connections hear of it, and what was in it is gone: a vhost of the same name begins with nothing."""
        inside = connect_as(broker.endpoint, elsewhere)
        inside.channel().queue_declare("orders", durable=True)
        eventually(lambda: elsewhere in broker.management.vhosts_used_by(broker.endpoint.user), True)

        broker.management.delete_vhost(elsewhere)

        with pytest.raises(exceptions.ConnectionClosedByBroker, match="CONNECTION_FORCED - vhost") as error:
            inside.process_data_events(time_limit=10)
        assert (error.value.reply_code, connection.channel().is_open) == (320, True)
        broker.management.create_vhost(elsewhere)
        with pytest.raises(exceptions.ChannelClosedByBroker, match="no queue 'orders'"):
            connect_as(broker.endpoint, elsewhere).channel().queue_declare("orders", passive=True)

    @behaviour("LIMITS-01", "LIMITS-06")
    @lie("connection-code-changed")
    def test_counts_the_connections_of_a_vhost(self, broker, vhost, connection, connect_as):
        """A program that opens one for each message fills its own vhost, and not the broker that all share."""
        broker.management.limit_vhost(vhost, "max-connections", 0)

        with pytest.raises(exceptions.ProbableAccessDeniedError, match=r"\(530\) .* connection limit \(0\) is reached"):
            connect_as(broker.endpoint)
        assert connection.channel().is_open
        broker.management.limit_vhost(vhost, "max-connections", -1)
        assert connect_as(broker.endpoint).is_open

    @behaviour("LIMITS-02", "CHAN-03")
    @pytest.mark.parametrize("name", ["second", ""], ids=["named", "server_named"])
    @lie("precondition-hidden")
    def test_counts_the_queues_of_a_vhost(self, broker, vhost, connection, channel, name):
        """Queues that are created for each visitor and never deleted end here, before they end the broker."""
        channel.queue_declare("first", durable=True)
        broker.management.limit_vhost(vhost, "max-queues", 1)
        greedy = connection.channel()

        with pytest.raises(
            exceptions.ChannelClosedByBroker, match=r"queue limit in vhost .* \(1\) is reached"
        ) as error:
            greedy.queue_declare(name, exclusive=True)

        assert (error.value.reply_code, greedy.is_closed) == (406, True)
        assert channel.queue_declare("first", durable=True).method.queue == "first"

    @behaviour("LIMITS-03")
    @lie("connection-code-changed")
    def test_counts_the_connections_of_a_user(self, broker, user, connect_as):
        """One customer's programs cannot take the places of all the others."""
        who, other = user(**ALL), user(**ALL)
        broker.management.limit_user(who.user, "max-connections", 0)

        with pytest.raises(exceptions.ProbableAccessDeniedError, match=r"\(530\) .* user connection limit \(0\)"):
            connect_as(who)
        assert connect_as(other).is_open

    @behaviour("LIMITS-03", "CHAN-04")
    @lie("connection-code-changed")
    def test_counts_the_channels_of_a_user(self, broker, user, connect_as):
        """A channel that is opened for each message and never closed takes its whole connection down, and no other."""
        who = user(**ALL)
        broker.management.limit_user(who.user, "max-channels", 2)
        greedy, modest = connect_as(who), connect_as(who)

        with pytest.raises(exceptions.ConnectionClosedByBroker, match="NOT_ALLOWED - number of channels") as error:
            [greedy.channel() for _ in range(100)]  # the broker counts a moment after it has opened

        assert (error.value.reply_code, greedy.is_closed, modest.is_open) == (530, True, True)


WAYS = {"connect": lambda source: connect(source, "spec"), "publisher": Publisher}


@pytest.mark.parametrize("way", WAYS)
class TestConnect:
    """What our client adds: each refusal is one sentence, however the connection was opened."""

    @pytest.fixture
    def refusal(self, way):
        """What is raised in place of a connection: `refusal(url)`."""

        def ask(source):
            with pytest.raises(ClientError) as error:
                WAYS[way](source)
            return error.value

        return ask

    def test_says_to_check_user_and_password(self, vhost, user, refusal):
        """Which of the two is wrong the broker does not tell, so neither does the sentence."""
        who = user(**ALL)

        error = refusal(replace(who, password="sesame").url(vhost))

        assert (type(error), error.reply_code) == (LoginRefused, 403)
        assert str(error).endswith(f"refused the login of '{who.user}': check user and password")

    def test_says_to_create_the_vhost(self, broker, refusal):
        """A vhost is as easily misspelt as a host, and the broker is well all the while."""
        error = refusal(broker.endpoint.url("no'where"))

        assert (type(error), error.reply_code, error.reply_text) == (
            VhostRefused, 530, "NOT_ALLOWED - vhost no'where not found",
        )  # fmt: skip
        assert str(error).endswith('has no vhost "no\'where": create it, or correct its name')

    def test_says_to_give_permissions(self, vhost, user, refusal):
        """A new user is refused where everybody else is let in, which looks like a wrong password."""
        who = user()

        error = refusal(who.url(vhost))

        assert (type(error), error.reply_code) == (VhostRefused, 530)
        assert f"does not let '{who.user}' into the vhost '{vhost}'" in str(error)
        assert str(error).endswith(f"refused for user '{who.user}'): give permissions there")

    def test_says_to_raise_the_limit(self, broker, vhost, user, refusal):
        """More permissions would not help here, and nor would another password."""
        who = user(**ALL)
        broker.management.limit_user(who.user, "max-connections", 0)

        error = refusal(who.url(vhost))

        assert (type(error), error.reply_code) == (VhostRefused, 530)
        assert str(error).endswith("connection limit (0) is reached): close some, or raise the limit")
