"""How to reach a broker: what the environment may say, and several addresses that stand in for each other.

Code: rmqspec/client/settings.py, rmqspec/client/link.py
"""

import subprocess
import threading
from contextlib import closing
from urllib.parse import quote

import pytest
import trustme

from rmqspec.client import Consumer, Outcome, Publisher, Settings, connect
from rmqspec.client.errors import InvalidSetting, InvalidUrl, LoginRefused, Unreachable
from rmqspec.tools.wire import Proxy


@pytest.fixture
def papers(tmp_path):
    """A certificate with its key, the key alone, and the key under a password; two authorities."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other-ca.pem")
    issued = authority.issue_cert("client.example")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    lock = ["openssl", "pkey", "-aes256", "-passout", "pass:sesame", "-out", "locked.pem", "-in", "key.pem"]
    subprocess.run(lock, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


class TestSettings:
    """`Settings`."""

    @pytest.mark.parametrize(
        ("variable", "value", "name", "meant"),
        [
            ("RABBITMQ_URL", "amqp://a amqp://b", "urls", ("amqp://a", "amqp://b")),
            ("RABBITMQ_HEARTBEAT", "5", "heartbeat", 5),
            ("RABBITMQ_TIMEOUT", "2.5", "timeout", 2.5),
            ("RABBITMQ_ANSWER_TIMEOUT", "3", "answer_timeout", 3.0),
            ("RABBITMQ_BLOCKED_TIMEOUT", "7", "blocked_timeout", 7.0),
            ("RABBITMQ_MAX_BACKOFF", "0.5", "max_backoff", 0.5),
            ("RABBITMQ_CA", "ca.pem", "ca", "ca.pem"),
            ("RABBITMQ_CERTIFICATE", "me.pem", "certificate", "me.pem"),
            ("RABBITMQ_SERVER_NAME", "rabbit", "server_name", "rabbit"),
        ],
    )
    def test_come_from_the_environment(self, variable, value, name, meant):
        """A deployment hands settings over in this way; an empty variable is one that nobody has set."""
        given, empty = Settings.from_environment({variable: value}), Settings.from_environment({variable: ""})

        assert getattr(given, name) == meant
        assert empty == Settings()

    @pytest.mark.parametrize(
        ("variable", "value", "words"),
        [
            ("RABBITMQ_HEARTBEAT", "often", "RABBITMQ_HEARTBEAT is 'often': a number of seconds is wanted"),
            ("RABBITMQ_HEARTBEAT", "-1", "heartbeat is -1: seconds from 0 to 65535 are wanted"),
            ("RABBITMQ_HEARTBEAT", "65536", "heartbeat is 65536: seconds from 0 to 65535 are wanted"),
            ("RABBITMQ_TIMEOUT", "0", "timeout is 0.0: seconds from 0.001 to 1000000 are wanted"),
            ("RABBITMQ_TIMEOUT", "nan", "timeout is nan: seconds from 0.001 to 1000000 are wanted"),
            ("RABBITMQ_ANSWER_TIMEOUT", "0", "answer_timeout is 0.0: seconds from 0.001 to 1000000 are wanted"),
            ("RABBITMQ_BLOCKED_TIMEOUT", "inf", "blocked_timeout is inf: seconds from 0.001 to 1000000 are wanted"),
            ("RABBITMQ_MAX_BACKOFF", "0", "max_backoff is 0.0: seconds from 0.001 to 1000000 are wanted"),
            ("RABBITMQ_KEY", "k.pem", "the key k.pem has no certificate: name that too (RABBITMQ_CERTIFICATE)"),
        ],
    )
    def test_refuse_what_nothing_can_be_done_with(self, variable, value, words):
        """Later the same number is an exception of pika's, in the middle of a reconnection."""
        with pytest.raises(InvalidSetting) as error:
            Settings.from_environment({variable: value})

        assert str(error.value) == words

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"heartbeat": 60.5}, "heartbeat is 60.5: a whole number of seconds is wanted"),
            ({"heartbeat": "5"}, "heartbeat is '5': a whole number of seconds is wanted"),
            ({"timeout": "5"}, "timeout is '5': seconds from 0.001 to 1000000 are wanted"),
            ({"max_backoff": None}, "max_backoff is None: seconds from 0.001 to 1000000 are wanted"),
            ({"urls": ()}, "urls is no tuple of URLs, or an empty one: Settings.of(…) makes settings of a text"),
            (
                {"urls": "amqp://a"},
                "urls is no tuple of URLs, or an empty one: Settings.of(…) makes settings of a text",
            ),
        ],
    )
    def test_refuse_what_is_of_another_type(self, wrong, words):
        """It would be a TypeError of pika's, or a division by zero, at the first connection."""
        with pytest.raises(InvalidSetting) as error:
            Settings(**wrong)

        assert str(error.value) == words

    @pytest.mark.parametrize("edge", [{"heartbeat": 0}, {"heartbeat": 65535}, {"timeout": 1e6, "blocked_timeout": 1e6}])
    def test_connect_at_the_edges_of_their_ranges(self, url, edge):
        """A range that allows what pika or the protocol cannot carry would promise too much."""
        with closing(connect(Settings(urls=(url,), **edge), "edge")) as connection:
            assert connection.channel().is_open

    @pytest.mark.parametrize(
        "files",
        [("none.pem", None, None), ("key.pem", None, None), (None, "key.pem", None), (None, "certificate.pem", None),
         (None, "certificate.pem", "locked.pem")],
        ids=["missing", "no_authority", "no_certificate", "no_key", "locked_key"],
    )  # fmt: skip
    def test_say_which_files_cannot_be_read(self, papers, files, capfd):
        """A key under a password would make OpenSSL ask for it at a terminal, where no service ever answers."""
        ca, certificate, key = (name and str(papers / name) for name in files)

        with pytest.raises(InvalidSetting, match="a certificate or key cannot be read") as error:
            connect(Settings(urls=("amqps://127.0.0.1",), ca=ca, certificate=certificate, key=key), "spec")

        assert str(error.value).endswith(f"check {', '.join(filter(None, (ca, certificate, key)))}")
        assert "pass phrase" not in capfd.readouterr().err

    @pytest.mark.parametrize("key", ["both.pem", "key.pem"])
    def test_read_a_key_wherever_it_stands(self, papers, key):
        """In a file with its certificate, or in one of its own."""
        certificate, key = ("both.pem", None) if key == "both.pem" else ("certificate.pem", "key.pem")
        ours = Settings(urls=("amqps://host",), certificate=str(papers / certificate), key=key and str(papers / key))

        assert ours.parameters(0, "spec").ssl_options.server_hostname == "host"

    @pytest.mark.parametrize(
        "wrong",
        ["amqp:h", "amqp://u:pa/ss@h", "amqp://[::1", "amqp://h:99999", "http://h", "amqp://u:1/ss@h", "amqp://u:1?s=1@h",
         "amqp://u:p@corp:1?ss=1&x=2@h", "amqp://u:pa#ss@h", "amqp://u@h"],
    )  # fmt: skip
    def test_tell_how_a_url_is_written_and_nothing_of_it(self, wrong):
        """What is after a slash in a password is taken for a path, and the error would quote the rest as a port."""
        with pytest.raises(InvalidUrl, match=r"^a broker's URL reads .* a / is written %2F, .* a blank %20$") as error:
            connect(wrong, "spec")

        assert (error.value.__cause__, error.value.__context__) == (None, None)


class TestUrl:
    """What the URL says."""

    @pytest.fixture
    def parameters(self):
        """What pika is given for a URL with these parameters, and these settings."""

        def read(query, scheme="amqp", **settings):
            return Settings(urls=(f"{scheme}://u:p@host/%2F?{query}",), **settings).parameters(0, "spec")

        return read

    @pytest.mark.parametrize(
        ("query", "name", "meant"),
        [
            ("heartbeat=5", "heartbeat", 5), ("heartbeat=0", "heartbeat", 0), ("", "heartbeat", 60),
            ("blocked_connection_timeout=3", "blocked_connection_timeout", 3.0),
            ("", "blocked_connection_timeout", None),
            ("socket_timeout=3", "socket_timeout", 3.0), ("", "socket_timeout", 10.0),
            ("stack_timeout=4&socket_timeout=3", "stack_timeout", 4.0), ("socket_timeout=3", "stack_timeout", 3.0),
            ("stack_timeout=4", "socket_timeout", 10.0), ("", "stack_timeout", 10.0),
            ("connection_attempts=5", "connection_attempts", 5), ("retry_delay=0", "retry_delay", 0.0),
            ("channel_max=7", "channel_max", 7), ("frame_max=8192", "frame_max", 8192),
            ("locale=de_DE", "locale", "de_DE"),
            ("tcp_options={'TCP_KEEPIDLE':60}", "tcp_options", {"TCP_KEEPIDLE": 60}),
            ("client_properties=%7B%27app%27:1%7D", "client_properties", {"app": 1, "connection_name": "spec"}),
            ("client_properties={'connection_name':'shop'}", "client_properties", {"connection_name": "shop spec"}),
        ],
    )  # fmt: skip
    def test_counts_where_no_setting_is_given(self, parameters, query, name, meant):
        """A heartbeat of five seconds that is one of sixty shows on the day when a network fails."""
        assert getattr(parameters(query), name) == meant

    @pytest.mark.parametrize(
        ("setting", "name"),
        [("heartbeat", "heartbeat"), ("timeout", "socket_timeout"), ("timeout", "stack_timeout"),
         ("blocked_timeout", "blocked_connection_timeout")],
    )  # fmt: skip
    def test_gives_way_to_a_setting(self, parameters, setting, name):
        """An option is for this run, the URL for all."""
        query = "heartbeat=5&socket_timeout=5&stack_timeout=5&blocked_connection_timeout=5"

        assert getattr(parameters(query, **{setting: 7}), name) == 7

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("auth_mechanism=plain", "'auth_mechanism' in the broker's URL is no parameter that is known: those are "
             "blocked_connection_timeout, channel_max, client_properties, connection_attempts, frame_max, heartbeat, "
             "locale, retry_delay, socket_timeout, ssl_options, stack_timeout, tcp_options"),
            ("heartbeat=often", "heartbeat in the broker's URL cannot be used: a number from 0 to 65535 is wanted"),
            ("heartbeat=65536", "heartbeat in the broker's URL cannot be used: a number from 0 to 65535 is wanted"),
            ("heartbeat", "heartbeat in the broker's URL cannot be used: a number from 0 to 65535 is wanted"),
            ("heartbeat=5&heartbeat=6", "the broker's URL has heartbeat 2 times: once is wanted"),
            ("retry_delay=nan", "retry_delay in the broker's URL cannot be used: a number from 0 to 1000000 is wanted"),
            ("frame_max=4095", "frame_max in the broker's URL cannot be used: a number from 4096 to 131072 is wanted"),
            *[(f"tcp_options={options}", "tcp_options in the broker's URL cannot be used: a dict as Python writes it, "
             "with whole numbers that the system takes under some of TCP_USER_TIMEOUT, TCP_KEEPIDLE, TCP_KEEPINTVL, "
             "TCP_KEEPCNT, is wanted")
             for options in ("[1]", "{'TCP_KEEPIDLE':'x'}", "{'TCP_KEEPIDLE':-1}", "{'nosuch':1}", "{5:1}")],
            (f"locale={'x' * 256}", "locale in the broker's URL cannot be used: a language such as en_US is wanted"),
            ("client_properties={", "client_properties in the broker's URL cannot be used: a dict as Python writes it "
             "is wanted"),
            ("client_properties={1:{2}}", "client_properties in the broker's URL cannot be used: a dict as Python "
             "writes it is wanted"),
            ("ssl_options={'cafile':'a'}", "the broker's URL has ssl_options, and no TLS: let it begin with amqps://"),
        ],
    )  # fmt: skip
    def test_names_a_parameter_that_it_cannot_use(self, parameters, query, words):
        """It was blamed on the password's quoting, which was right."""
        with pytest.raises(InvalidUrl) as error:
            parameters(query)

        assert str(error.value) == words

    @pytest.mark.parametrize("path", ["//", "//?heartbeat=5", "/a/b", "//a"])
    def test_says_how_a_slash_in_a_vhost_is_written(self, path):
        """Celery writes the vhost / so; pika takes what is before the second slash, and the broker has no vhost ''."""
        with pytest.raises(InvalidUrl) as error:
            connect(f"amqp://u:p@127.0.0.1:1{path}", "spec")

        assert str(error.value) == (
            "the vhost in the broker's URL has a / in it: there it is written %2F, so that of the vhost / ends in /%2F"
        )

    @pytest.mark.parametrize("url", ["amqp://h/\udcff", "amqp://u\udcff:p@h/", "amqp://h/?locale=\udcff", "\udcff"])
    def test_says_that_it_is_not_utf_8(self, url):
        """Of an environment in another encoding Python makes halves of pairs, which ended in a traceback."""
        with pytest.raises(InvalidUrl, match="has bytes in it that are not UTF-8"):
            connect(url, "spec")

    @pytest.mark.parametrize(
        ("path", "vhost"),
        [("", "/"), ("/", "/"), ("/%2F", "/"), ("/shop", "shop"), ("/shop/", "shop"), ("/a%2Fb", "a/b")],
    )
    def test_reads_a_vhost_as_before(self, path, vhost):
        """A hint for those who need it changes nothing for the others."""
        assert Settings(urls=(f"amqp://u:p@host{path}?heartbeat=5",)).parameters(0, "spec").virtual_host == vhost

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("shop#1", "a # stands in the broker's URL: within user, password and vhost it is written %23"),
            ("ü" * 128, "the vhost in the broker's URL has more than 255 bytes, which no vhost has"),
        ],
        ids=["hash", "long"],
    )
    def test_refuses_what_would_be_another_vhost(self, path, words):
        """What stands behind a # was left out without a word, and shop#1 was shop."""
        with pytest.raises(InvalidUrl) as error:
            connect(f"amqp://u:p@127.0.0.1:1/{path}", "spec")

        assert str(error.value) == words


class TestTlsInTheUrl:
    """Certificates that the URL names, as pika's `ssl_options`."""

    @pytest.fixture
    def tls(self):
        """What pika is given for these options, and these settings."""

        def read(options, **settings):
            url = f"amqps://u:p@host/?ssl_options={quote(repr(options))}"
            return Settings(urls=(url,), **settings).parameters(0, "spec").ssl_options

        return read

    @pytest.mark.parametrize("name", ["ca_certs", "cafile"])
    def test_names_the_authority(self, papers, tls, name):
        """Otherwise the broker is checked against the system's authorities, and refused."""
        found = tls({name: str(papers / "ca.pem"), "server_hostname": "rabbit"})

        assert [ca["serialNumber"] for ca in found.context.get_ca_certs()] == [serial(papers / "ca.pem")]
        assert (found.server_hostname, found.context.check_hostname) == ("rabbit", True)

    def test_gives_way_to_files_that_are_set(self, papers, tls):
        """An operator who names another authority trusts the first no longer."""
        found = tls({"cafile": str(papers / "ca.pem")}, ca=str(papers / "other-ca.pem"), server_name="rabbit")

        assert [ca["serialNumber"] for ca in found.context.get_ca_certs()] == [serial(papers / "other-ca.pem")]
        assert found.server_hostname == "rabbit"

    def test_opens_a_key_with_its_password(self, papers, tls):
        """A key in a shared place is mostly locked."""
        locked = {"certfile": str(papers / "certificate.pem"), "keyfile": str(papers / "locked.pem")}

        assert tls(locked | {"password": "sesame"}).context
        with pytest.raises(InvalidSetting, match="a certificate or key cannot be read") as error:
            tls(locked | {"password": "simsalabim"})
        assert "simsalabim" not in str(error.value)

    @pytest.mark.parametrize("options", [{"cert_reqs": "none"}, {"cafile": 5}, None, ["cafile"]], ids=repr)
    def test_names_options_that_it_cannot_use(self, tls, options):
        """A check that somebody thinks is on, or off, is neither."""
        with pytest.raises(
            InvalidUrl, match=r"^ssl_options .* with texts under some of ca_certs, .*hostname, is wanted$"
        ):
            tls(options)

    def test_says_that_a_cipher_is_unknown(self, tls):
        """OpenSSL says that there is none to select, and not who asked for which."""
        with pytest.raises(InvalidSetting, match=r"^the ciphers in the URL's ssl_options are none that OpenSSL knows$"):
            tls({"ciphers": "ROT13"})


def serial(path):
    """A certificate's number, as a context shows it."""
    text = ["openssl", "x509", "-noout", "-serial", "-in", str(path)]
    return subprocess.run(text, check=True, capture_output=True, text=True).stdout.strip().removeprefix("serial=")


class TestAddresses:
    """Several addresses of one cluster."""

    @pytest.fixture
    def ways(self, broker):
        """Two ways to the broker of this run, which can be shut one by one."""
        at = broker.endpoint
        with Proxy(at.host, at.port) as first, Proxy(at.host, at.port) as second:
            yield first, second

    @pytest.fixture
    def both(self, ways, url):
        return " ".join(way.url(url) for way in ways)

    @pytest.mark.parametrize("down", [Proxy.accept_no_connections, Proxy.close], ids=["hangs_up", "dead"])
    def test_are_tried_until_one_answers(self, ways, both, down):
        """A client that knows one node of three is down with that one."""
        first, second = ways
        down(first)

        with closing(connect(both, "spec")) as connection:
            assert connection.channel().is_open
            assert second.connections == 1

    def test_are_tried_while_one_is_silent(self, ways, both):
        """A node that accepts and says nothing, as one behind a firewall does, is passed over after the timeout."""
        first, second = ways
        first.half_open()

        with closing(connect(Settings(urls=Settings.of(both).urls, timeout=0.5), "spec")):
            assert second.connections == 1

    @pytest.mark.parametrize("down", [Proxy.accept_no_connections, Proxy.close], ids=["hangs_up", "dead"])
    def test_are_tried_at_once_for_a_publisher(self, ways, both, channel, down):
        """A program is started anew on the day when the first node is down: then of all days it has to start."""
        channel.queue_declare("q", durable=True)
        down(ways[0])

        with Publisher(both) as publisher:
            assert publisher.publish("", "q", b"by the second").result(10)

    def test_are_named_when_none_answers(self, ways, both):
        """The last one stands for all; the first would be known from the last attempt but two."""
        for way in ways:
            way.close()

        with pytest.raises(Unreachable, match=f"no broker answers at 127.0.0.1:{ways[1].port}: start one"):
            connect(both, "spec")

    def test_do_not_hide_a_wrong_password(self, ways, both, broker, url):
        """Nodes of a cluster know the same users: the next one would say the same, and one day lock the user out."""
        first, second = ways
        first.accept_no_connections()
        wrong = both.replace(broker.endpoint.password, "sesame")

        with pytest.raises(LoginRefused, match=f"at 127.0.0.1:{second.port} refused the login"):
            connect(f"{wrong} {url}", "spec")

    def test_are_all_read_before_the_first_is_used(self, url):
        """Otherwise the second is found to be misspelt on the day when it is needed."""
        with pytest.raises(InvalidUrl):
            connect(f"{url} amqp//second", "spec")

    def test_take_turns_for_a_publisher(self, ways, both, channel, drain, eventually):
        """Its broker is gone, and the next message is published all the same, by the other."""
        first, second = ways
        channel.queue_declare("q", durable=True)

        with Publisher(both) as publisher:
            publisher.publish("", "q", b"by the first").result(10)
            first.accept_no_connections()
            first.cut()
            eventually(lambda: second.connections, 1)
            publisher.publish("", "q", b"by the second").result(10)

        assert drain("q") == [b"by the first", b"by the second"]

    def test_take_turns_for_a_consumer(self, ways, both, channel, eventually):
        """It subscribes again at the other, and goes on where it was."""
        first, second = ways
        channel.queue_declare("q", durable=True)
        bodies = []
        consumer = Consumer(both, "q", lambda delivery: bodies.append(delivery.body) or Outcome.ACK)
        thread = threading.Thread(target=consumer.run)
        thread.start()
        eventually(lambda: channel.queue_declare("q", passive=True).method.consumer_count, 1)

        first.accept_no_connections()
        first.cut()
        eventually(lambda: second.connections, 1)
        channel.basic_publish("", "q", b"by the second")

        eventually(lambda: bodies, [b"by the second"])
        consumer.stop()
        thread.join(10)
        assert not thread.is_alive()
