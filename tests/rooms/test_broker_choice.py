"""Which broker a run uses: who chose it, where it is, and what is said when there is none.

A suite that takes another broker than the one that was meant proves nothing, and one that falls back in silence is
worse. So the choice has an order, the header says who chose, and a source that cannot give a broker says why and what
to do. Whatever is printed on the way, a password is not.

Spec: https://www.rabbitmq.com/docs/uri-spec
Code: rmqspec/tools/broker/find.py, rmqspec/tools/broker/endpoint.py, rmqspec/tools/broker/ports.py
"""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from socketserver import BaseRequestHandler

import pytest
import trustme

from rmqspec.tools.broker import Choice, Endpoint, Identity, NoBroker, Unavailable, find, installation
from rmqspec.tools.broker.endpoint import random_login
from rmqspec.tools.broker.errors import InvalidChoice
from rmqspec.tools.broker.ports import LOOPBACK, ReservedPort, is_free
from rmqspec.tools.broker.shared import SharedBroker
from rmqspec.tools.broker.url import UrlBroker

from .echo import serving

SLIP = "amqp://guy:secret@host"  # in the variable beside the one that was meant

ANSWERS = {  # of servers that are no broker, and what is said of them
    "hangs-up": (b"", "{where} hung up during the AMQP handshake"),
    "http": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "{where} hung up during the AMQP handshake"),
    "bad-frame": (b"\x01\x00\x00\x00\x00\x00\x00!", "whoever listens there does not speak AMQP 0-9-1"),
    "amqp-1.0": (b"AMQP\x00\x01\x00\x00", "whoever listens there speaks another version of AMQP"),
}


@pytest.fixture
def listener():
    """Starts a server that answers one greeting with these bytes and hangs up; returns its address."""

    def answer_once(server, answer):
        link, _ = server.accept()
        with link:
            link.recv(8)
            link.sendall(answer)

    with ThreadPoolExecutor() as threads, socket.create_server((LOOPBACK, 0)) as server:

        def start(answer):
            threads.submit(answer_once, server, answer)
            return f"{LOOPBACK}:{server.getsockname()[1]}"

        yield start


@pytest.fixture
def ports():
    """Two hundred ports, taken by many threads at once."""
    with ThreadPoolExecutor(16) as threads:
        taken = list(threads.map(lambda _: ReservedPort(), range(200)))
    yield taken
    for port in taken:
        port.release()


class TestChoice:
    @pytest.mark.parametrize(
        ("command_line", "environment", "ini", "chosen", "origin"),
        [
            pytest.param("url", "node", "package", "url", "url, by the command line", id="command-line"),
            pytest.param(None, "node", "package", "node", "node, from the environment", id="environment"),
            pytest.param(None, "", "package", "package", "package, from the ini", id="ini"),
            pytest.param(None, None, "", "auto", "auto, by default", id="default"),
        ],
    )
    def test_takes_each_setting_from_the_nearest(self, command_line, environment, ini, chosen, origin):
        """What is typed now beats what was exported an hour ago, and that beats what a colleague wrote last year."""
        environment = {} if environment is None else {"RABBITMQ_BROKER": environment}

        choice = Choice.settle({"broker": command_line}, environment, {"broker": ini})

        assert (choice.broker, choice.origin) == (chosen, origin)

    def test_settles_one_setting_beside_the_other(self):
        """An image from the environment still counts when the command line names the source."""
        choice = Choice.settle({"broker": "container"}, {"RABBITMQ_IMAGE": "rabbitmq:3.13-management"})

        assert (choice.broker, choice.image) == ("container", "rabbitmq:3.13-management")
        assert choice.origins == {
            "broker": "command line",
            "image": "environment",
            "url": "default",
            "management_url": "default",
        }

    def test_tries_every_source_when_nobody_chose(self):
        """A learner who types pytest gets a broker from wherever one can be had."""
        assert Choice().sources == ("url", "container", "node", "package")

    def test_means_the_url_that_is_given(self):
        """Falling back to another broker would report on one that nobody asked about."""
        choice = Choice.settle({}, {"RABBITMQ_URL": "amqp://127.0.0.1:1"})

        with pytest.raises(NoBroker) as refused:
            find(choice, lambda words: None)

        assert [refusal.source for refusal in refused.value.refusals] == ["url"]
        assert choice.origin == "url, from the environment"

    def test_lets_the_command_line_overrule_an_exported_url(self):
        """Otherwise a forgotten export would make --rabbitmq-broker useless."""
        choice = Choice.settle({"broker": "node"}, {"RABBITMQ_URL": "amqp://127.0.0.1:1"})

        assert choice.sources == ("node",)

    @pytest.mark.parametrize(
        ("where", "settings"),
        [
            ("--rabbitmq-broker", ({"broker": SLIP}, {}, {})),
            ("RABBITMQ_BROKER", ({}, {"RABBITMQ_BROKER": SLIP}, {})),
            ("rabbitmq_broker", ({}, {}, {"broker": SLIP})),
        ],
        ids=["command-line", "environment", "ini"],
    )
    def test_refuses_an_unknown_source_without_repeating_it(self, where, settings):
        """A URL that was put into the wrong variable holds a password, and the message goes into a CI log."""
        with pytest.raises(InvalidChoice) as refused:
            Choice.settle(*settings)

        assert str(refused.value) == f"{where} is none of auto, url, container, node, package: correct it"

    def test_refuses_a_url_for_an_image_without_repeating_it(self):
        """It is tried as the name of an image otherwise, and stands in three lines of the log."""
        with pytest.raises(InvalidChoice) as refused:
            Choice.settle({}, {"RABBITMQ_IMAGE": SLIP})

        assert "the image is a URL" in str(refused.value)
        assert "secret" not in str(refused.value)


class TestNoBroker:
    def test_names_a_reason_and_a_remedy_for_each_source(self, monkeypatch, tmp_path):
        """Whoever has no broker wants the shortest way to one, not a traceback and not the first refusal only."""
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
        monkeypatch.setattr(installation, "KNOWN_PLACES", ())
        monkeypatch.setenv("PATH", str(tmp_path))

        with pytest.raises(NoBroker) as refused:
            find(Choice(), lambda words: None)

        assert str(refused.value).splitlines()[2:10] == [
            "  url        no URL was given.",
            "             → give --rabbitmq-url or set RABBITMQ_URL to use a running broker.",
            "  container  no Docker engine listens on this machine (no socket).",
            "             → install Docker and start it.",
            "  node       no rabbitmq-server is installed on this machine.",
            "             → install it, as with apt-get install rabbitmq-server.",
            "  package    this is no Debian or Ubuntu (apt-get is missing).",
            "             → use a container, or install RabbitMQ.",
        ]


class TestEndpoint:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            pytest.param("amqp://h", ("amqp", "h", 5672, "guest", "guest"), id="defaults"),
            pytest.param("amqps://u:p@h", ("amqps", "h", 5671, "u", "p"), id="tls"),
            pytest.param("amqp://u:p@h:7/v", ("amqp", "h", 7, "u", "p"), id="all-named"),
            pytest.param("amqp://a%40b:c%2Fd@h", ("amqp", "h", 5672, "a@b", "c/d"), id="quoted"),
            pytest.param("amqp://[::1]:7", ("amqp", "::1", 7, "guest", "guest"), id="ipv6"),
        ],
    )
    def test_reads_a_url(self, url, address):
        """The defaults are those of the URI specification, so a URL means here what it means to every client."""
        read = Endpoint.parse(url)

        assert (read.scheme, read.host, read.port, read.user, read.password) == address
        assert read.management_url == ""  # nobody has said where

    @pytest.mark.parametrize(
        "management_url",
        [
            "http://m:15672/#/",
            "http://m:15672/",
            "m:15672",
            "http://m:15672/api/",
            "http://m:15672/#/queues/%2F/q",
            "http://guy:secret@m:15672/",
            "guy:secret@m:15672",
        ],
    )
    def test_reads_a_management_url_as_a_browser_shows_it(self, management_url):
        """It is copied from the address line; what stands behind `#` never reaches a server, nor is a login printed."""
        assert Endpoint.parse("amqp://h", management_url).management_url == "http://m:15672"

    def test_writes_a_url_that_it_reads_back(self):
        """A password or a vhost with a slash in it would otherwise end the address too early."""
        endpoint = Endpoint("::1", 7, "a@b", "c/d:e", "http://m:15672", "amqps")

        assert endpoint.url("my/vhost") == "amqps://a%40b:c%2Fd%3Ae@[::1]:7/my%2Fvhost"
        assert Endpoint.parse(endpoint.url(), "http://m:15672/") == endpoint

    @pytest.mark.parametrize(
        ("url", "part"),
        [
            pytest.param("", "there is no scheme: it begins with amqp://", id="nothing"),
            pytest.param("localhost:5672", "there is no scheme: it begins with amqp://", id="no-scheme"),
            pytest.param("http://h", "the scheme is neither amqp nor amqps", id="http"),
            pytest.param("amqp://", "there is no host", id="no-host"),
            pytest.param("amqp://u:se/cret@h", "an @ stands behind a /, a ? or a #, which", id="unquoted-slash"),
            pytest.param("amqp://u:secret@h:99999", "the port is no number from 0 to 65535", id="no-such-port"),
            pytest.param("amqp://[::1", "the host in brackets is no IPv6 address", id="half-a-bracket"),
            pytest.param("amqp://h amqp://u:secret@h:x", "the port is no number from 0 to 65535", id="the-second"),
        ],
    )
    def test_refuses_what_is_no_amqp_url(self, url, part):
        """Which part is wrong, with the right form. No word of it is repeated: any may be the password's."""
        with pytest.raises(Unavailable) as refused:
            UrlBroker(url)

        assert refused.value.reason.startswith("a broker's URL reads amqp://user:password@host:port")
        assert f", and in this one {part}" in refused.value.reason
        assert refused.value.remedy == "correct --rabbitmq-url or RABBITMQ_URL"
        assert "secret" not in str(refused.value)

    def test_keeps_the_password_to_itself(self, broker):
        """A failing test prints the repr of all that it touches, and continuous integration keeps that for ever."""
        endpoint = broker.endpoint
        shown = [endpoint, Choice(url=endpoint.url()), SharedBroker(SharedBroker.letter(broker, "image"))]

        assert [thing for thing in shown if endpoint.password in f"{thing!r} {thing}"] == []
        assert endpoint.user in repr(endpoint)


class TestIdentity:
    @pytest.mark.parametrize(
        ("version", "release"),
        [("3.10.8", (3, 10, 8)), ("4.1.0-rc.1", (4, 1, 0)), ("4.3.6+12.gabc", (4, 3, 6)), ("unknown", ())],
        ids=["release", "candidate", "build", "unknown"],
    )
    def test_reads_a_release_as_numbers(self, version, release):
        """As text 3.9 would be newer than 3.10, and every spec about a version would be chosen wrongly."""
        assert Identity("RabbitMQ", version, "Erlang/OTP 27").release == release


class TestReservedPort:
    def test_is_given_to_one_only(self, ports):
        """Eight workers that start a broker each must not meet; a port that was merely seen to be free is anybody's."""
        assert len({port.number for port in ports}) == 200

    def test_is_refused_to_a_stranger_until_its_release(self, ports):
        """A client that reconnects could otherwise be given the broker's own port while the broker restarts."""
        with socket.socket() as stranger:
            with pytest.raises(OSError, match="in use"):
                stranger.bind((LOOPBACK, ports[0].number))

            ports[0].release()
            stranger.bind((LOOPBACK, ports[0].number))

    def test_lets_its_server_listen(self, ports):
        """Erlang and Docker set SO_REUSEADDR, which gets them past a holder that does not listen."""
        with socket.create_server((LOOPBACK, ports[0].number)):
            assert not is_free(ports[0].number)

        assert is_free(ports[0].number)


class TestUrlBroker:
    @pytest.mark.parametrize(("answer", "said"), ANSWERS.values(), ids=ANSWERS)
    def test_refuses_a_server_that_is_no_broker(self, listener, answer, said):
        """A port that accepts says nothing: a web server on 5672 would fail in the first test, far from the cause."""
        where = listener(answer)

        with pytest.raises(Unavailable) as refused:
            UrlBroker(f"amqp://{where}")

        assert refused.value.reason == f"no broker speaks AMQP 0-9-1 at {where} ({said.format(where=where)})"

    def test_says_when_nobody_listens(self, ports):
        """The most frequent case of all: the broker was not started, or the port is another."""
        with pytest.raises(
            Unavailable, match=r"Connection refused\). start it, or correct --rabbitmq-url or RABBITMQ_U"
        ):
            UrlBroker(f"amqp://{LOOPBACK}:{ports[0].number}")

    def test_says_when_its_certificate_is_not_trusted(self, monkeypatch):
        """It runs, and its address is right: what is missing is the authority."""
        monkeypatch.delenv("RABBITMQ_CA", raising=False)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trustme.CA().issue_cert(LOOPBACK).configure_cert(context)

        with serving(BaseRequestHandler, context) as port, pytest.raises(Unavailable) as refused:
            UrlBroker(f"amqps://{LOOPBACK}:{port}")

        assert "certificate verify failed" in refused.value.reason
        assert refused.value.remedy == "name the authority that signed its certificate in RABBITMQ_CA"

    def test_says_when_the_login_is_refused(self, broker):
        """Without asking first, every single test would fail with the same 403."""
        at = broker.endpoint

        with pytest.raises(Unavailable) as refused:
            UrlBroker(f"{at.scheme}://{at.user}:wrong@{at.host}:{at.port}", at.management_url)

        assert refused.value.reason == f"{at.management_url} refused the login of {at.user!r}"
        assert refused.value.remedy == "check user and password"

    def test_uses_the_first_address_that_answers(self, broker, ports):
        """A cluster is named by several addresses, with blanks between them; one node may be down."""
        at = broker.endpoint
        urls = f"amqp://{LOOPBACK}:{ports[0].number} {at.url()}"

        assert UrlBroker(urls, at.management_url).endpoint.port == at.port

    @pytest.mark.parametrize("tags", ["", "management"], ids=["no-tag", "management"])
    def test_says_which_tag_a_user_is_missing(self, broker, tags):
        """The password is right, and to be told to check it costs an hour."""
        name, password = random_login()
        broker.management.create_user(name, password, tags)
        at = replace(broker.endpoint, user=name, password=password)

        with pytest.raises(Unavailable) as refused:
            UrlBroker(at.url(), at.management_url)
        broker.management.delete_user(name)

        assert name in refused.value.reason
        assert "tag" in refused.value.reason
        assert f"rabbitmqctl set_user_tags {name} administrator" in refused.value.remedy

    @pytest.mark.parametrize("password", ["é", "pr€is"], ids=["latin", "beyond"])
    def test_logs_in_with_a_password_beyond_ascii(self, broker, password):
        """RabbitMQ reads Basic credentials in UTF-8; a library that writes Latin-1 looks like a wrong password."""
        name, _ = random_login()
        broker.management.create_user(name, password, "administrator")
        at = replace(broker.endpoint, user=name, password=password)

        used = UrlBroker(at.url(), at.management_url)
        user = used.management.whoami()
        broker.management.delete_user(name)

        assert user == name
