"""The handshake: login mechanisms, tuning, and methods that come out of their turn.

Spec: https://www.rabbitmq.com/docs/connections, https://www.rabbitmq.com/docs/auth-notification
Reference: PROTO-06, PROTO-08, PROTO-10…13, PROTO-15, PROTO-21, PROTO-23, PROTO-24, PROTO-26, PROTO-27, PROTO-29,
PROTO-30, AUTH-02, AUTH-03
"""

import pika
import pytest
from pika import frame, spec

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
rabbitmq = pytest.mark.rabbitmq

AROUND_PAYLOAD = 8  # bytes of a frame: type, channel, size, and end
ALL = {"configure": ".*", "write": ".*", "read": ".*"}


def on_channel_0(method):
    """A frame of the connection itself."""
    return frame.Method(0, method)


def entry(name, value):
    """A string in a field table, as AMQPLAIN has it."""
    return bytes([len(name)]) + name.encode() + b"S" + len(value).to_bytes(4, "big") + value.encode()


def login_of(url, size):
    """A `connection.start-ok` whose frame has a payload of so many bytes."""
    who = pika.URLParameters(url).credentials

    def padded(length):
        properties = {"padding": "x" * length}
        login = f"\0{who.username}\0{who.password}"
        return on_channel_0(spec.Connection.StartOk(properties, "PLAIN", login, "en_US")).marshal()

    return padded(AROUND_PAYLOAD + size - len(padded(0)))


OUT_OF_TURN = {
    "connection_open_again": (on_channel_0(spec.Connection.Open("/")), spec.Connection.Open),
    "tune_ok_again": (on_channel_0(spec.Connection.TuneOk()), spec.Connection.TuneOk),
    "start_ok_again": (on_channel_0(spec.Connection.StartOk({}, "PLAIN", "", "en_US")), spec.Connection.StartOk),
    "secure_ok_unasked": (on_channel_0(spec.Connection.SecureOk("")), spec.Connection.SecureOk),
    "close_ok_unasked": (on_channel_0(spec.Connection.CloseOk()), spec.Connection.CloseOk),
    "channel_open_on_channel_0": (on_channel_0(spec.Channel.Open()), spec.Channel.Open),
    "queue_declare_on_channel_0": (on_channel_0(spec.Queue.Declare(queue="work")), spec.Queue.Declare),
}


class TestLogin:
    """RabbitMQ: `connection.start-ok`."""

    @behaviour("AUTH-02")
    @lie("connection-code-changed")
    def test_by_amqplain_accepts_and_refuses_the_same_passwords_as_plain(self, raw_client, user):
        """Old clients send the login as a table; it is neither safer nor less safe."""
        who = user(**ALL)

        def log_in(password):
            client = raw_client()
            client.begin()
            login = entry("LOGIN", who.user) + entry("PASSWORD", password)
            client.log_in("AMQPLAIN", login, capabilities={"authentication_failure_close": True})
            return client

        log_in(who.password).hears("connection.tune")

        refused = log_in("wrong").hears_close()
        assert refused.reply_code == 403
        assert "mechanism AMQPLAIN" in refused.reply_text

    @behaviour("AUTH-03")
    @lie("connection-code-changed")
    def test_with_a_wrong_password_is_refused_by_403_if_the_client_has_authentication_failure_close(self, raw_client):
        """The client can tell a wrong password from a broken network, and need not try again."""
        client = raw_client()
        client.begin()
        client.log_in(response="\0guest\0wrong", capabilities={"authentication_failure_close": True})

        close = client.hears_close()

        assert close.reply_code == 403
        assert "Login was refused" in close.reply_text
        client.hears_the_end()


class TestHandshake:
    """RabbitMQ: the way from `connection.start` to `connection.open-ok`."""

    @behaviour("PROTO-06", "PROTO-10", "PROTO-11", "PROTO-21", "AUTH-03")
    @lie("handshake-mended")
    def test_that_fails_ends_without_connection_close_after_some_seconds(self, raw_client):
        """A program sees a socket that closes late: the reason stands in the broker's log alone."""
        wrong_password = raw_client()
        wrong_password.begin()
        wrong_password.log_in(response="\0guest\0wrong")
        unknown_mechanism = raw_client()
        unknown_mechanism.begin()
        unknown_mechanism.log_in(mechanism="GUESSING")
        wrongly_tuned = [
            {"channel_max": 0},  # no limit, where the broker has one
            {"channel_max": 4000},  # more than the broker offers
            {"frame_max": 200_000},
            {"frame_max": 100},  # less than any connection needs
        ]
        tuned = []
        for tuning in wrongly_tuned:
            client = raw_client()
            client.begin()
            client.log_in()
            client.tune(**tuning)
            client.enter()
            tuned.append(client)

        for client in (wrong_password, unknown_mechanism, *tuned):
            client.hears_the_end(within=10)

    @behaviour("PROTO-08")
    @lie("client-properties-lost")
    @pytest.mark.parametrize(
        "largest",
        [
            pytest.param(4096, id="4096_before_4_1", marks=rabbitmq(before="4.1")),
            pytest.param(8192, id="8192_since_4_1", marks=rabbitmq(since="4.1")),
        ],
    )
    def test_ends_without_connection_close_on_a_login_in_a_frame_with_more_than_4096_or_8192_bytes(
        self, url, raw_client, largest
    ):
        """A long token, or many client properties, look like a broken network; the broker's log has the reason."""
        fits = raw_client()
        exceeds = raw_client()
        for client, size in ((fits, largest), (exceeds, largest + 1)):
            client.begin()
            client.send(login_of(url, size))

        fits.hears("connection.tune")
        exceeds.hears_the_end(within=10)

    @behaviour("PROTO-11", "CHAN-02")
    @lie("connection-code-changed")
    def test_agrees_on_a_channel_max_below_the_brokers(self, raw_client):
        """A client that limits its own channels finds a leak of channels early."""
        client = raw_client().open(1, 2, channel_max=2)

        client.say(spec.Channel.Open(), channel=3)

        close = client.hears_close()
        assert close.reply_code == 530
        assert "has reached the negotiated channel_max (2)" in close.reply_text
        client.hears_the_end()

    @behaviour("PROTO-29")
    @lie("channel-numbers-limited")
    def test_limits_how_many_channels_there_are_and_not_their_numbers(self, raw_client):
        """A client may choose any number, such as one for each of its threads."""
        client = raw_client().open(channel_max=2)

        client.say(spec.Channel.Open(), channel=60_000)

        client.hears("channel.open-ok")

    @behaviour("PROTO-30")
    @lie("channel-numbers-limited")
    def test_may_come_byte_by_byte(self, raw_client):
        """TCP knows no frames: a broker that needed them whole would fail on a slow line."""
        client = raw_client().open()

        for byte in frame.Method(60_000, spec.Channel.Open()).marshal():
            client.send(bytes([byte]))

        client.hears("channel.open-ok")


class TestConnectionMethod:
    """RabbitMQ: methods of an open connection on channel 0."""

    @behaviour("PROTO-12", "PROTO-13", "PROTO-23", "PROTO-24", "PROTO-27", "CHAN-04")
    @lie("connection-code-changed")
    @pytest.mark.parametrize(("sent", "method"), OUT_OF_TURN.values(), ids=OUT_OF_TURN)
    def test_out_of_its_turn_closes_the_connection_with_504(self, raw_client, method_at_fault, sent, method):
        """The two sides disagree on how far they are; each channel of the connection is lost."""
        client = raw_client().open(1)

        client.send(sent)

        close = client.hears_close()
        assert close.reply_code == 504
        assert close.reply_text == "CHANNEL_ERROR - unexpected method in connection state running"
        assert method_at_fault(close) is method
        client.hears_the_end()

    @behaviour("PROTO-12", "CHAN-04")
    @lie("connection-code-changed")
    def test_on_another_channel_closes_the_connection_with_503(self, raw_client, method_at_fault):
        """A channel knows no methods of the connection."""
        client = raw_client().open(1)

        client.say(spec.Connection.Open("/"), channel=1)

        close = client.hears_close()
        assert close.reply_code == 503
        assert close.reply_text == "COMMAND_INVALID - unimplemented method"
        assert method_at_fault(close) is spec.Connection.Open
        client.hears_the_end()


class TestConnectionClose:
    """RabbitMQ: `connection.close`."""

    @behaviour("PROTO-15")
    @lie("connection-code-changed")
    def test_from_both_sides_at_once_is_answered_on_both(self, raw_client):
        """Neither side waits for an answer that the other holds back because it is closing itself."""
        client = raw_client().open(1)

        client.send(
            on_channel_0(spec.Queue.Declare(queue="work")), on_channel_0(spec.Connection.Close(200, "goodbye", 0, 0))
        )

        close = client.hears("connection.close")
        assert close.reply_code == 504
        client.hears("connection.close-ok")
        client.say(spec.Connection.CloseOk())
        client.hears_the_end()

    @behaviour("PROTO-26")
    @lie("closing-client-served")
    def test_of_a_client_is_answered_with_close_ok_and_methods_behind_it_are_ignored(self, raw_client, lookup):
        """What a client says after its goodbye has no effect: it could not hear whether it has."""
        client = raw_client().open(1)

        client.send(
            on_channel_0(spec.Connection.Close(200, "goodbye", 0, 0)),
            frame.Method(1, spec.Queue.Declare(queue="too late", durable=True)),
        )

        client.hears("connection.close-ok")
        assert lookup("queue", "too late") == "missing"
