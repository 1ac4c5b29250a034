"""TLS: encrypted connections, and certificates by which each side knows the other.

Without TLS everybody on the network between a program and its broker can read the messages and the password. With TLS
the broker shows a certificate, and the client checks that an authority which it trusts has signed it, and that it names
the host that was meant. The broker may require a certificate of the client too; by default the client still needs a
user and a password. (With the plugin rabbitmq_auth_mechanism_ssl and the mechanism EXTERNAL the certificate names the
user, and no password is needed.)

Here a private authority signs all certificates, as within a company.

Spec: https://www.rabbitmq.com/docs/ssl
Code: rmqspec/client/settings.py, rmqspec/client/refusal.py, rmqspec/cli/settings.py
Reference: TLS-01…05
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

from .over_tls import WAYS, error_of, first_words, try_step

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
    """Signs the broker's certificate and our clients'."""
    return trustme.CA()


@pytest.fixture(scope="module")
def certificates(authority, tmp_path_factory):
    """A directory: `our-ca.pem` and `our-client.pem`, and `strange-….pem` of an authority that nobody knows."""
    directory = tmp_path_factory.mktemp("certificates")
    for name, issuer in (("our", authority), ("strange", trustme.CA())):
        issuer.cert_pem.write_to_path(directory / f"{name}-ca.pem")
        client = issuer.issue_cert("client.example")
        client.private_key_and_cert_chain_pem.write_to_path(directory / f"{name}-client.pem")
    return directory


@pytest.fixture(scope="module")
def tls_broker(another_broker, authority):
    """A broker with a port for TLS, where every client must show a certificate, and a plain one."""
    server = authority.issue_cert("localhost", "127.0.0.1", "::1")
    files = {
        "ca.pem": authority.cert_pem.bytes(),
        "server.pem": server.cert_chain_pems[0].bytes(),
        "server.key": server.private_key_pem.bytes(),
    }
    return another_broker(Configuration(lines=LINES, files=files, tls=True))


@pytest.fixture
def context(certificates):
    """What a client trusts and shows: `context(ca="strange", client=None)`."""

    def make(ca="our", client="our"):
        made = ssl.create_default_context(cafile=certificates / f"{ca}-ca.pem")
        if client:
            made.load_cert_chain(certificates / f"{client}-client.pem")
        return made

    return make


@pytest.fixture
def tls_error(tls_broker, context):
    """Why pika cannot declare a queue over TLS, in the words of TLS or of the broker; empty if it can."""

    def of(name="localhost", password=tls_broker.endpoint.password, **certificates):
        parameters = pika.URLParameters(replace(tls_broker.endpoint, password=password).tls_url())
        parameters.ssl_options = pika.SSLOptions(context(**certificates), name)
        try:
            with pika.BlockingConnection(parameters) as connection:
                connection.channel().queue_declare("q", durable=True)
        except (ssl.SSLError, exceptions.AMQPError) as error:
            return str(error)
        return ""

    return of


class TestServerCertificate:
    """RabbitMQ: the certificate that the broker shows, as a client checks it."""

    @behaviour("TLS-02")
    @lie("authority-unknown")
    @pytest.mark.parametrize(
        ("ca_file", "host"),
        [("strange-ca.pem", "localhost"), ("our-ca.pem", "example.com")],
        ids=["unknown_authority", "another_host_name"],
    )
    def test_fails_verification_if_its_authority_is_unknown_or_it_names_another_host(
        self, tls_broker, certificates, tls_error, ca_file, host
    ):
        """A client that checks neither has an encrypted connection to somebody it does not know."""
        context = ssl.create_default_context(cafile=certificates / ca_file)
        context.load_cert_chain(certificates / "our-client.pem")
        parameters = pika.URLParameters(tls_broker.endpoint.tls_url())
        parameters.ssl_options = pika.SSLOptions(context, server_hostname=host)

        with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
            pika.BlockingConnection(parameters)

        assert tls_error() == ""


class TestTlsConnection:
    """RabbitMQ: a connection to its port for TLS."""

    @behaviour("TLS-01")
    @lie("tls-plain")
    def test_encrypts_all_bytes_on_the_network(self, tls_broker, context):
        """Somebody on the network between the two sees that they talk, but neither messages nor passwords."""
        at = tls_broker.endpoint
        incoming = ssl.MemoryBIO()
        outgoing = ssl.MemoryBIO()
        link = context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        overheard = b""

        with socket.create_connection((at.host, at.tls_port), timeout=10) as network:
            for step in (link.do_handshake, lambda: link.write(b"AMQP\0\0\x09\x01"), lambda: link.read(4096)):
                while (received := try_step(step)) is None:
                    said = outgoing.read()
                    network.sendall(said)
                    answered = network.recv(65536)
                    overheard += said + answered
                    incoming.write(answered)

        assert b"RabbitMQ" in received
        assert b"RabbitMQ" not in overheard
        assert b"AMQP" not in overheard


class TestClientCertificate:
    """RabbitMQ: the certificate of a client, with `verify_peer` and `fail_if_no_peer_cert`."""

    @behaviour("TLS-03")
    @lie("certificate-optional", cases="no_certificate")
    @lie("certificate-not-checked", cases="unknown_authority")
    @pytest.mark.parametrize(
        ("client", "alert"),
        [(None, "CERTIFICATE_REQUIRED"), ("strange", "UNKNOWN_CA")],
        ids=["no_certificate", "unknown_authority"],
    )
    def test_that_is_missing_or_of_an_unknown_authority_ends_the_connection_with_an_alert(
        self, tls_broker, tls_error, context, wait_limit, client, alert
    ):
        """With `verify_peer` alone, clients without a certificate are accepted; `fail_if_no_peer_cert` refuses them."""
        at = tls_broker.endpoint
        with socket.create_connection((at.host, at.tls_port), timeout=wait_limit) as plain:
            # The client's handshake succeeds: it learns of the refusal only when it reads.
            link = context(client=client).wrap_socket(plain, server_hostname="localhost")
            with link:
                assert f"ALERT_{alert}" in first_words(link)

        assert tls_error() == ""

    @behaviour("TLS-04", "AUTH-01")
    @lie(None, because="No configuration accepts a wrong password, and words in TLS cannot be falsified on their way.")
    def test_does_not_replace_the_password_by_default(self, tls_error):
        """It shows which program connects; what the program may do is decided by its user."""
        assert "(403) 'ACCESS_REFUSED" in tls_error(password="sesame")

        assert tls_error() == ""


class TestPlainPort:
    """RabbitMQ: the port without TLS."""

    @behaviour("TLS-05")
    @lie("tls-plain")
    def test_stays_open_beside_the_port_for_tls(self, tls_broker):
        """If every connection has to be encrypted, set `listeners.tcp = none`."""
        plain_url = tls_broker.endpoint.url()
        with pika.BlockingConnection(pika.URLParameters(plain_url)) as plain:
            assert plain.channel().is_open

        plain_at_the_port_for_tls = tls_broker.endpoint.tls_url().replace("amqps:", "amqp:")
        with pytest.raises(exceptions.IncompatibleProtocolError):
            pika.BlockingConnection(pika.URLParameters(plain_at_the_port_for_tls))


CHECK_SERVER = "check the authority (RABBITMQ_CA or --ca) and the server name (RABBITMQ_SERVER_NAME or --server-name)"
CHECK_CLIENT = "check RABBITMQ_CERTIFICATE and RABBITMQ_KEY, or --certificate and --key"
TLS_ERRORS = {
    "unknown_authority": ({"ca": "strange-ca.pem"}, TlsRefused, CHECK_SERVER),
    "system_authorities": ({"ca": None}, TlsRefused, CHECK_SERVER),
    "another_host_name": ({"server_name": "example.com"}, TlsRefused, CHECK_SERVER),
    "no_certificate": ({"certificate": None}, TlsRefused, CHECK_CLIENT),
    "strange_certificate": ({"certificate": "strange-client.pem"}, TlsRefused, CHECK_CLIENT),
    "plain_at_the_tls_port": (
        {"scheme": "amqp"},
        Unreachable,
        "so does its port for TLS (let the URL begin with amqps://)",
    ),
}


@pytest.mark.parametrize("way", WAYS)
class TestSettings:
    """Our client's settings: files of certificates, and what its errors say about them."""

    @pytest.fixture
    def settings(self, tls_broker, certificates):
        """Settings that are right, apart from what is given: `settings(ca="strange-ca.pem")`."""

        def make(scheme="amqps", port="tls_port", ca="our-ca.pem", certificate="our-client.pem", **more):
            url = replace(tls_broker.endpoint, scheme=scheme, port=getattr(tls_broker.endpoint, port)).url()
            ca_file = ca and str(certificates / ca)
            certificate_file = certificate and str(certificates / certificate)
            return Settings(urls=(url,), ca=ca_file, certificate=certificate_file, **more)

        return make

    @lie("authority-unknown")
    @pytest.mark.parametrize("name", [None, "localhost"], ids=["by_host", "by_server_name"])
    def test_open_a_connection_with_certificates(self, settings, way, name):
        """If the certificate does not name the address to which one connects, `server_name` says who is meant."""
        assert error_of(way, settings(server_name=name)) is None

    @lie("tls-plain", cases=("unknown_authority", "system_authorities", "another_host_name", "plain_at_the_tls_port"))
    @lie("certificate-optional", cases="no_certificate")
    @lie("certificate-not-checked", cases="strange_certificate")
    @pytest.mark.parametrize("wrong", TLS_ERRORS)
    def test_that_are_wrong_raise_an_error_that_says_which_of_them_to_check(self, settings, tls_broker, way, wrong):
        """OpenSSL reports alert number 48, and pika an unsupported protocol: neither says which file is wrong."""
        change, kind, remedy = TLS_ERRORS[wrong]

        error = error_of(way, settings(**change))

        assert type(error) is kind
        assert remedy in str(error)
        assert tls_broker.endpoint.password not in str(error)

    @lie(None, because="It would take a broker that speaks TLS at its plain port, and no such broker starts here.")
    def test_for_tls_at_the_plain_port_raise_tls_refused(self, settings, tls_broker, way):
        """The commonest mistake when TLS is switched on: `amqps` in the URL, and still port 5672."""
        error = error_of(way, settings(port="port"))

        assert type(error) is TlsRefused
        assert "does not speak TLS: the URL begins with amqp://, or" in str(error)
        assert tls_broker.endpoint.password not in str(error)


class TestCommand:
    """Our command `rmqspec`: the same files by option, or by the environment."""

    @pytest.fixture
    def options(self, certificates):
        """The options that name our authority and certificate."""
        return "--ca", str(certificates / "our-ca.pem"), "--certificate", str(certificates / "our-client.pem")

    @pytest.fixture
    def url(self, tls_broker):
        """The URL that `run` puts into the environment."""
        tls_broker.management.create_vhost("shop")
        yield tls_broker.endpoint.tls_url("shop")
        tls_broker.management.delete_vhost("shop")

    @lie("authority-unknown")
    def test_runs_producer_worker_and_dead_letter_tools_over_tls(self, run, options):
        """If one of these parts could not use TLS, none could be used with such a broker."""
        _, ca, _, certificate = options
        by_environment = {"RABBITMQ_CA": ca, "RABBITMQ_CERTIFICATE": certificate}

        run("demo", "produce", "--orders", "2", *options).waits_for("2 orders published and confirmed")
        run("demo", "worker", "--failure-rate", "1", "--work-time", "0", *options).waits_for("failed order", 2)
        run("dead-letters", "list", **by_environment).waits_for("2 dead letters")
        run("dead-letters", "purge", "--yes", *options).waits_for("2 deleted")

    @lie("authority-unknown")
    def test_runs_the_whole_demo_over_tls(self, run, options):
        """It is what a person tries first with the broker of a company, whose authority no system knows."""
        demo = run("demo", "--orders", "2", "--work-time", "0", *options)

        assert demo.ends(within=60) == 0, demo.output
        assert "All orders are settled" in demo.output
        run("dead-letters", "purge", "--yes", *options).waits_for("1 deleted")  # the demo's invalid order

    @lie("authority-unknown")
    def test_prefers_the_option_ca_to_the_environment_variable_rabbitmq_ca(self, run, options, certificates):
        """An option is typed on purpose; a variable in the environment is often forgotten."""
        wrong = {"RABBITMQ_CA": str(certificates / "strange-ca.pem")}

        by_option = run("demo", "produce", "--orders", "1", *options, **wrong)
        by_option.waits_for("1 order published and confirmed")
        assert by_option.ends() == 0

        by_environment = run("demo", "produce", "--orders", "1", **wrong)
        by_environment.waits_for(CHECK_SERVER)
        assert by_environment.ends() == 1
        assert len(by_environment.lines) == 1
