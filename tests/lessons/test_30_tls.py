"""TLS: how a connection is kept private, and how each side knows the other.

Without TLS whoever sits between a program and its broker reads every order, and the password with which it was sent.
With TLS the broker shows a certificate, and the client checks two things: that an authority which it trusts has signed
it, and that it names the host that was meant. The broker may ask the client for a certificate as well, and then nobody
gets as far as the login who has none. Here both certificates come from a private authority, as within a company.

Spec: https://www.rabbitmq.com/docs/ssl
Code: rmqspec/client/settings.py, rmqspec/client/refusal.py, rmqspec/cli/settings.py
"""

import socket
import ssl
from dataclasses import replace

import pika
import pytest
import trustme
from pika import exceptions

from rmqspec.client import Settings
from rmqspec.client.errors import TlsRefused, Unreachable
from rmqspec.tools.broker import Configuration

from .over_tls import WAYS, attempt, refused, what_it_hears

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
pytestmark = pytest.mark.timeout(180)  # a broker boots inside

LINES = (
    "ssl_options.cacertfile = {files}/ca.pem",
    "ssl_options.certfile = {files}/server.pem",
    "ssl_options.keyfile = {files}/server.key",
    "ssl_options.verify = verify_peer",
    "ssl_options.fail_if_no_peer_cert = true",
)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def papers(authority, tmp_path_factory):
    """A directory of certificates: our authority's and our client's, and those of strangers."""
    directory, strangers = tmp_path_factory.mktemp("papers"), trustme.CA()
    for name, issuer in (("our", authority), ("strange", strangers)):
        issuer.cert_pem.write_to_path(directory / f"{name}-ca.pem")
        client = issuer.issue_cert("client.example")
        client.private_key_and_cert_chain_pem.write_to_path(directory / f"{name}-client.pem")
    return directory


@pytest.fixture(scope="module")
def guarded(another_broker, authority):
    """A broker that listens for TLS too, and asks every client there for a certificate."""
    server = authority.issue_cert("localhost", "127.0.0.1", "::1")
    files = {
        "ca.pem": authority.cert_pem.bytes(),
        "server.pem": server.cert_chain_pems[0].bytes(),
        "server.key": server.private_key_pem.bytes(),
    }
    return another_broker(Configuration(lines=LINES, files=files, tls=True))


class TestRabbitMQ:
    """What the broker promises. Only pika and ssl are used here."""

    @pytest.fixture
    def context(self, papers):
        """What a client knows and shows: `context(ca="strange", client=None)`."""

        def make(ca="our", client="our"):
            made = ssl.create_default_context(cafile=papers / f"{ca}-ca.pem")
            if client:
                made.load_cert_chain(papers / f"{client}-client.pem")
            return made

        return make

    @pytest.fixture
    def refusal(self, guarded, context):
        """Why a client is not served, in the words of TLS or of the broker; empty if it is."""

        def words(name="localhost", password=guarded.endpoint.password, **papers):
            parameters = pika.URLParameters(replace(guarded.endpoint, password=password).tls_url())
            parameters.ssl_options = pika.SSLOptions(context(**papers), name)
            try:
                with pika.BlockingConnection(parameters) as connection:
                    connection.channel().queue_declare("q", durable=True)
            except (ssl.SSLError, exceptions.AMQPError) as error:
                return str(error)
            return ""

        return words

    @behaviour("TLS-01")
    @lie("authority-unknown")
    def test_hides_its_words_from_the_wire(self, guarded, context):
        """Who listens in between sees that there is a conversation, and neither its words nor the password."""
        at, incoming, outgoing, overheard = guarded.endpoint, ssl.MemoryBIO(), ssl.MemoryBIO(), b""
        link = context().wrap_bio(incoming, outgoing, server_hostname="localhost")

        with socket.create_connection((at.host, at.tls_port), timeout=10) as wire:
            for step in (link.do_handshake, lambda: link.write(b"AMQP\0\0\x09\x01"), lambda: link.read(4096)):
                while (said := attempt(step)) is None:
                    wire.sendall(outgoing.read())
                    overheard += (heard := wire.recv(65536))
                    incoming.write(heard)

        assert (b"RabbitMQ" in said, b"RabbitMQ" in overheard) == (True, False)

    @behaviour("TLS-02")
    @pytest.mark.parametrize(
        "wrong", [{"ca": "strange"}, {"name": "example.com"}], ids=["unknown_authority", "another_name"]
    )
    @lie("authority-unknown")
    def test_shows_a_certificate_that_can_be_checked(self, refusal, wrong):
        """A client that checks neither authority nor name talks in private to it knows not whom."""
        assert "certificate verify failed" in refusal(**wrong)

        assert not refusal()

    @behaviour("TLS-03")
    @pytest.mark.parametrize(
        ("client", "alert"),
        [(None, "CERTIFICATE_REQUIRED"), ("strange", "UNKNOWN_CA")],
        ids=["no_certificate", "unknown_authority"],
    )
    @lie("certificate-not-checked")
    def test_turns_clients_away_by_their_certificate(self, guarded, refusal, context, patience, client, alert):
        """With verify_peer alone those who show none get in: fail_if_no_peer_cert is what shuts the door to them."""
        at = guarded.endpoint
        with socket.create_connection((at.host, at.tls_port), timeout=patience) as plain:
            # To the client all seems well until it reads.
            link = context(client=client).wrap_socket(plain, server_hostname="localhost")
            with link:
                assert f"ALERT_{alert}" in what_it_hears(link)

        assert not refusal()

    @behaviour("TLS-04", "AUTH-01")
    @lie("authority-unknown")
    def test_takes_no_certificate_for_a_login(self, refusal):
        """It says which program knocks; who that is to be, and what it may do, is still a matter of its user."""
        assert "(403) 'ACCESS_REFUSED" in refusal(password="sesame")

        assert not refusal()

    @behaviour("TLS-05")
    @lie("tls-plain")
    def test_keeps_its_plain_port_beside_the_other(self, guarded):
        """A port for TLS shuts none: who wants all to be private has to set listeners.tcp to none."""
        with pika.BlockingConnection(pika.URLParameters(guarded.endpoint.url())) as plain:
            assert plain.channel().is_open

        with pytest.raises(exceptions.IncompatibleProtocolError):
            pika.BlockingConnection(pika.URLParameters(guarded.endpoint.tls_url().replace("amqps:", "amqp:")))


NOT_TRUSTED = "check the authority (RABBITMQ_CA or --ca) and the server name (RABBITMQ_SERVER_NAME or --server-name)"
NOT_TAKEN = "check RABBITMQ_CERTIFICATE and RABBITMQ_KEY, or --certificate and --key"
REFUSALS = {
    "unknown_authority": ({"ca": "strange-ca.pem"}, TlsRefused, NOT_TRUSTED),
    "systems_authorities": ({"ca": None}, TlsRefused, NOT_TRUSTED),
    "another_name": ({"server_name": "example.com"}, TlsRefused, NOT_TRUSTED),
    "no_certificate": ({"certificate": None}, TlsRefused, NOT_TAKEN),
    "certificate_of_a_stranger": ({"certificate": "strange-client.pem"}, TlsRefused, NOT_TAKEN),
    "tls_at_the_plain_port": ({"port": "port"}, TlsRefused, "does not speak TLS: the URL begins with amqp://, or"),
    "plain_at_the_port_for_tls": ({"scheme": "amqp"}, Unreachable, "if that is its port for TLS, the URL begins with"),
}


class TestSettings:
    """What our client adds: certificates are files that settings name, and each refusal says which to look at."""

    @pytest.fixture
    def settings(self, guarded, papers):
        def make(scheme="amqps", port="tls_port", ca="our-ca.pem", certificate="our-client.pem", **more):
            url = replace(guarded.endpoint, scheme=scheme, port=getattr(guarded.endpoint, port)).url()
            ca, certificate = (name and str(papers / name) for name in (ca, certificate))
            return Settings(urls=(url,), ca=ca, certificate=certificate, **more)

        return make

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("name", [None, "localhost"], ids=["by_host", "by_name"])
    @lie("authority-unknown")
    def test_open_a_connection_with_certificates(self, settings, way, name):
        """Where one connects by an address that no certificate names, the server's name says who is meant."""
        assert refused(way, settings(server_name=name)) is None

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("wrong", REFUSALS)
    @lie("tls-plain")
    @lie(
        None,
        because="Only a broker that speaks TLS at its plain port would change this, and no such broker starts here.",
    )
    @lie(
        None,
        because="Only a broker that speaks TLS at its plain port would change this, and no such broker starts here.",
    )
    def test_tell_one_trouble_with_tls_from_another(self, settings, guarded, way, wrong):
        """OpenSSL says alert number 48, pika that the protocol is not supported: neither says whose file it is."""
        change, kind, remedy = REFUSALS[wrong]

        error = refused(way, settings(**change))

        assert type(error) is kind
        assert remedy in str(error)
        assert guarded.endpoint.password not in str(error)


class TestCommand:
    """What `rmqspec` adds: the same files by option, or by the environment."""

    @pytest.fixture
    def options(self, papers):
        return "--ca", str(papers / "our-ca.pem"), "--certificate", str(papers / "our-client.pem")

    @pytest.fixture
    def url(self, guarded):
        guarded.management.create_vhost("shop")
        yield guarded.endpoint.tls_url("shop")
        guarded.management.delete_vhost("shop")

    @lie("authority-unknown")
    def test_serves_orders_over_tls(self, run, options, papers):
        """From the producer to whoever looks after what failed: one part that cannot do it, and nobody can use it."""
        produce = run("demo", "produce", "--orders", "2", *options)
        assert produce.ends() == 0, produce.output

        run("demo", "worker", "--failure-rate", "1", "--work-time", "0", *options).waits_for("failed order", 2)

        by_environment = {"RABBITMQ_CA": options[1], "RABBITMQ_CERTIFICATE": options[3]}
        assert run("dead-letters", "list", **by_environment).waits_for("2 dead letters")
        assert run("dead-letters", "purge", "--yes", *options).waits_for("2 deleted")

    @lie("authority-unknown")
    def test_shows_the_whole_demo_over_tls(self, run, options):
        """What a person tries first with the broker of the company, whose authority no system knows."""
        demo = run("demo", "--orders", "2", "--work-time", "0", *options)

        assert demo.ends() == 0, demo.output
        assert "All orders are settled" in demo.output
        assert run("dead-letters", "purge", "--yes", *options).waits_for("1 deleted")  # what was no order

    @lie("authority-unknown")
    def test_prefers_its_options_to_the_environment(self, run, options, papers):
        """What is typed is what is meant; what stands in the environment is often forgotten."""
        strange = {"RABBITMQ_CA": str(papers / "strange-ca.pem")}

        refused, taken = (run("demo", "produce", "--orders", "1", *given, **strange) for given in ((), options))

        assert (refused.ends(), taken.ends()) == (1, 0)
        assert (NOT_TRUSTED in refused.output, len(refused.lines)) == (True, 1)
