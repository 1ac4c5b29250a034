"""Each way to be refused has a sentence of its own: the whole table, and what pika says in each case.

Code: rmqspec/client/refusal.py
"""

import logging
import re
import socket
import ssl
import traceback
from dataclasses import replace

import pytest
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from rmqspec.client import Publisher, Settings, connect
from rmqspec.client.errors import ClientError, LoginRefused, TlsRefused, Unreachable, VhostRefused
from rmqspec.client.refusal import REFUSALS, refusal
from rmqspec.tools.broker.endpoint import random_login
from rmqspec.tools.broker.ports import ReservedPort
from rmqspec.tools.wire import Proxy

WAYS = {"connect": lambda source: connect(source, "spec"), "publisher": Publisher}
PLAIN, SECURE = "amqp://ann:sesame@host:5672/shop", "amqps://ann:sesame@host:5671/shop"


def denied(text):
    """What pika makes of a 530."""
    return ProbableAccessDeniedError(f"ConnectionClosedByBroker: (530) {text!r}")


def alert(name):
    """What pika makes of a broker that ends the handshake."""
    return IncompatibleProtocolError(
        f"StreamLostError: (\"Stream connection lost: SSLError(1, '[SSL: {name}] (_ssl.c)')\",)"
    )


NO_ACCESS = "NOT_ALLOWED - access to vhost 'shop' refused for user 'ann'"
TOO_MANY = "NOT_ALLOWED - connection refused for user 'ann': user connection limit (1) is reached"
UNVERIFIED = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)"
CASES = {
    "login": (
        PLAIN, ProbableAuthenticationError("ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - Login was refused'"),
        LoginRefused, "the broker at host:5672 refused the login of 'ann': check user and password",
    ),
    "guest": (
        "amqp://guest:sesame@host", ProbableAuthenticationError("ConnectionClosedByBroker: (403) 'ACCESS_REFUSED'"),
        LoginRefused, "the broker at host:5672 refused the login of 'guest': check user and password (guest may come "
        "from the broker's own machine alone)",
    ),
    "mechanism": (
        PLAIN, AuthenticationError("PLAIN"),
        LoginRefused, "the broker at host:5672 takes no login by user and password (PLAIN): let it, with "
        "auth_mechanisms",
    ),
    "vhost": (
        PLAIN, denied("NOT_ALLOWED - vhost shop not found"),
        VhostRefused, "the broker at host:5672 has no vhost 'shop': create it, or correct its name",
    ),
    "limit": (
        PLAIN, denied(TOO_MANY),
        VhostRefused, f"the broker at host:5672 lets no more connections in ({TOO_MANY}): close some, or raise "
        "the limit",
    ),
    "permissions": (
        PLAIN, denied(NO_ACCESS),
        VhostRefused, f"the broker at host:5672 does not let 'ann' into the vhost 'shop' ({NO_ACCESS}): give "
        "permissions there",
    ),
    "booting": (
        PLAIN, ProbableAccessDeniedError("ConnectionClosedByBroker: (541) 'INTERNAL_ERROR - vhost shop is down'"),
        Unreachable, "the broker at host:5672 hung up before the connection was open (INTERNAL_ERROR - vhost shop is "
        "down): try again, and look into its log",
    ),
    "small_frames": (
        PLAIN + "?frame_max=4096", ProbableAccessDeniedError("StreamLostError: ('Transport indicated EOF',)"),
        Unreachable, "the broker at host:5672 hung up when it was asked for frames of 4096 bytes: since RabbitMQ 4.1 "
        "frame_max in the URL has to be 8192 or more",
    ),
    "vhost_with_small_frames": (
        PLAIN + "?frame_max=4096", denied("NOT_ALLOWED - vhost shop not found"),
        VhostRefused, "the broker at host:5672 has no vhost 'shop': create it, or correct its name",
    ),
    "booting_with_small_frames": (
        PLAIN + "?frame_max=8191", ProbableAccessDeniedError("ConnectionClosedByBroker: (541) 'INTERNAL_ERROR'"),
        Unreachable, "the broker at host:5672 hung up before the connection was open (INTERNAL_ERROR): try again, and "
        "look into its log",
    ),
    "frames_of_8192": (
        PLAIN + "?frame_max=8192", ProbableAccessDeniedError("StreamLostError: ('Transport indicated EOF',)"),
        Unreachable, "the broker at host:5672 hung up before the connection was open (it said nothing): try again, and "
        "look into its log",
    ),
    "authority": (
        SECURE, ssl.SSLCertVerificationError(1, UNVERIFIED),
        TlsRefused, "the certificate of the broker at host:5671 is not trusted (certificate has expired): check the "
        "authority (RABBITMQ_CA or --ca) and the server name (RABBITMQ_SERVER_NAME or --server-name)",
    ),
    "no_tls": (
        SECURE, ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"),
        TlsRefused, "what listens at host:5671 does not speak TLS: the URL begins with amqp://, or the port is wrong",
    ),
    "certificate": (
        SECURE, alert("SSLV3_ALERT_CERTIFICATE_EXPIRED"),
        TlsRefused, "the broker at host:5671 does not take this client's certificate (certificate expired): check "
        "RABBITMQ_CERTIFICATE and RABBITMQ_KEY, or --certificate and --key",
    ),
    "version": (
        SECURE, alert("TLSV1_ALERT_PROTOCOL_VERSION"),
        TlsRefused, "the broker at host:5671 ended the TLS handshake (protocol version): compare the versions and "
        "ciphers of both sides",
    ),
    "tls": (
        PLAIN, IncompatibleProtocolError("StreamLostError: ('Transport indicated EOF',)"),
        Unreachable, "what listens at host:5672 hung up before it said anything: a broker that is starting does so "
        "(try again), and so does its port for TLS (let the URL begin with amqps://)",
    ),
    "silent": (
        PLAIN, AMQPConnectorStackTimeout("Timeout during AMQP handshake"),
        Unreachable, "what listens at host:5672 did not answer within 3 s: it is no broker, or a very busy one",
    ),
    "nobody": (
        PLAIN, AMQPConnectionError("ConnectionRefusedError"),
        Unreachable, "no broker answers at host:5672: start one (rmqspec rabbitup), or correct its address",
    ),
}  # fmt: skip


@pytest.fixture
def ask():
    """What is raised in place of a connection: `ask("connect", url)`."""

    def refused(way, source):
        with pytest.raises(ClientError) as error:
            WAYS[way](source)
        return error.value

    return refused


class TestTable:
    """Every row of `REFUSALS`."""

    @pytest.mark.parametrize("case", CASES)
    def test_says_what_happened_and_what_to_do(self, case):
        """The words are literals here: whoever changes a pattern sees which sentence is said in its place."""
        url, error, kind, sentence = CASES[case]

        said = refusal(Settings(urls=(url,), timeout=3).parameters(0, "spec"), error)

        assert (type(said), str(said)) == (kind, sentence)

    def test_has_no_row_without_a_case(self):
        """A row that no case reaches stands behind another that takes its place, or is for nobody."""
        shapes = [re.sub(r"\\{\w+(!r|:g)?\\}", ".*", re.escape(sentence)) for _, _, sentence in REFUSALS]

        reached = {n for n, shape in enumerate(shapes) for *_, said in CASES.values() if re.fullmatch(shape, said)}
        assert reached == set(range(len(REFUSALS)))

    def test_is_right_about_who_may_try_again(self):
        """A link reconnects after Unreachable alone: a broker that was restarting must not count as a refusal."""
        again = {case for case, (_, _, kind, _) in CASES.items() if kind is Unreachable}

        assert again == {
            "booting", "booting_with_small_frames", "frames_of_8192", "small_frames", "tls", "silent", "nobody",
        }  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
class TestRefusal:
    """The same with real brokers, where the lessons do not show it."""

    def test_is_none_when_the_broker_dies_during_the_login(self, broker, url, ask, way):
        """pika calls it a probable authentication error; who believed that would never connect again."""
        at = broker.endpoint
        with socket.create_connection((at.host, at.port), timeout=10) as link:
            link.sendall(b"AMQP\0\0\x09\x01")
            greeting = len(link.recv(65536))

        with Proxy(at.host, at.port) as proxy:
            proxy.drop_after(greeting)
            error = ask(way, proxy.url(url))

        assert type(error) is Unreachable
        assert "hung up before the connection was open" in str(error)

    def test_names_a_host_that_nobody_knows(self, ask, way):
        """A name that is misspelt is as common as a broker that is down, and the sentence shows it."""
        error = ask(way, "amqp://nobody.invalid")

        assert str(error).startswith("no broker answers at nobody.invalid:5672: start one")

    @pytest.mark.rabbitmq(since="4.1")
    def test_explains_frames_that_are_too_small(self, url, ask, way):
        """The broker closes the socket and says nothing; pika takes it for a vhost that is refused."""
        error = ask(way, f"{url}?frame_max=4096")

        assert type(error) is Unreachable
        assert str(error).endswith("since RabbitMQ 4.1 frame_max in the URL has to be 8192 or more")

    @pytest.mark.parametrize("wrong", ["password", "vhost", "permission", "port", "url", "parameter"])
    def test_keeps_the_password_out_of_all_words(self, broker, vhost, ask, way, wrong, caplog):
        """A traceback is pasted into a ticket and a log is read by many; pika's own lines count too."""
        caplog.set_level(logging.DEBUG)
        port = ReservedPort()
        name, password = random_login()
        who = replace(broker.endpoint, user=name, password=password)
        broker.management.create_user(name, password if wrong != "password" else "other")
        url = {
            "port": replace(who, port=port.number).url(),
            "vhost": who.url("nowhere"),
            "url": f"amqp://{name}:{password}/{password}@host/",
            "parameter": f"amqp://{name}:1?{password}=1@host/",
        }
        source = Settings(urls=(url.get(wrong) or who.url(vhost),))

        error = ask(way, source)
        broker.management.delete_user(name)
        port.release()

        assert password not in f"{source!r} {error!r} {''.join(traceback.format_exception(error))} {caplog.text}"
