"""A disposable broker with a configuration of its own: what it is given, it uses.

A spec about TLS or limits needs a broker that was started with lines and files of its own, on this machine's server as
well as in a container, and keys that nobody else can read.

Spec: https://www.rabbitmq.com/docs/configure
Code: rmqspec/tools/broker/configuration.py
"""

import contextlib

import pytest
import trustme

from rmqspec.client import Settings, connect
from rmqspec.client.errors import TlsRefused
from rmqspec.tools.broker import Configuration, Unavailable
from rmqspec.tools.broker.container import ContainerBroker
from rmqspec.tools.broker.installation import installed_here
from rmqspec.tools.broker.node import NodeBroker

pytestmark = pytest.mark.timeout(240)  # brokers boot inside

LINES = (
    "ssl_options.cacertfile = {files}/ca.pem",
    "ssl_options.certfile = {files}/server.pem",
    "ssl_options.keyfile = {files}/server.key",
    "channel_max = 7",
    "mqtt.exchange = amq.topic",  # the key of a plugin that is not enabled: the server knows it all the same
)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def configuration(authority):
    server = authority.issue_cert("localhost")
    certificates = {
        "ca.pem": authority.cert_pem.bytes(),
        "server.pem": server.cert_chain_pems[0].bytes(),
        "server.key": server.private_key_pem.bytes(),
    }
    return Configuration(lines=LINES, advanced="[{rabbit, [{tick_of_a_test, 1234}]}].", files=certificates, tls=True)


@pytest.fixture(scope="module")
def node(configuration):
    try:
        installation = installed_here()
    except Unavailable as reason:
        pytest.skip(f"not run: {reason}")
    with contextlib.closing(NodeBroker(installation, configuration=configuration)) as broker:
        yield broker


@pytest.fixture(scope="module")
def container(configuration, image):
    with contextlib.closing(ContainerBroker(image, configuration)) as broker:
        yield broker


@pytest.mark.parametrize("source", ["node", "container"])
class TestConfiguration:
    """What a broker is started with."""

    @pytest.fixture
    def configured(self, source, request):
        return request.getfixturevalue(source)

    def test_reaches_the_broker(self, configured):
        """A line that is ignored would make every spec about it pass for the wrong reason."""
        with contextlib.closing(connect(configured.endpoint.url(), "configured")) as connection:
            assert connection._impl.params.channel_max == 7
        assert configured.control("eval", "application:get_env(rabbit, tick_of_a_test).") == "{ok,1234}"

    def test_opens_a_port_for_tls(self, configured, authority, tmp_path):
        """The certificate is the one that was given: nobody trusts it who was not told of its authority."""
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        url = configured.endpoint.tls_url()
        settings = Settings(urls=(url,), ca=str(tmp_path / "ca.pem"), server_name="localhost")

        with contextlib.closing(connect(settings, "trusting")) as connection:
            assert connection.is_open
        with pytest.raises(TlsRefused, match="is not trusted"):
            connect(url, "careful")


class TestSecrets:
    """What others see of it."""

    def test_stay_out_of_its_words(self, configuration):
        """What is printed ends in a log."""
        assert ("channel_max = 7" in repr(configuration), "PRIVATE KEY" in repr(configuration)) == (True, False)

    def test_are_for_its_user_alone(self, node):
        """A private key that others can read is none."""
        key = node.node.directory / "files" / "server.key"

        assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
