"""What a private node needs of the applications that are installed: the rest only makes it slow.

Code: rmqspec/tools/broker/applications.py, rmqspec/tools/broker/node.py
"""

import pytest

from rmqspec.tools.broker import Configuration
from rmqspec.tools.broker.applications import needed_applications
from rmqspec.tools.broker.installation import Installation

APPLICATIONS = {
    "rabbit": "kernel, rabbit_common", "rabbit_common": "kernel,\n  stdlib", "rabbitmq_management": "'rabbit',cowboy",
    "rabbitmq_mqtt": "rabbit, ranch", "ranch": "ssl", "cowboy": "ranch",
}  # fmt: skip
ERLANG = {"kernel": "", "stdlib": "kernel", "ssl": "kernel, crypto", "crypto": "kernel", "mnesia": "kernel"}
PLAIN = Configuration(management=False)
SERVER = ["rabbit", "kernel", "rabbit_common", "stdlib"]


def install(parent, applications):
    for name, depends_on in applications.items():
        (parent / f"{name}-1.2.3" / "ebin").mkdir(parents=True)
        words = f"{{application, {name}, [{{applications , [{depends_on}]}}, {{env, [{{limits, [8]}}]}}]}}."
        (parent / f"{name}-1.2.3" / "ebin" / f"{name}.app").write_text(words)


@pytest.fixture
def home(tmp_path):
    """A server with its plugins, and an Erlang."""
    install(tmp_path / "server/plugins", APPLICATIONS)
    install(tmp_path / "erlang/lib", ERLANG)
    schema = tmp_path / "server/plugins/rabbitmq_mqtt-1.2.3/priv/schema/mqtt.schema"
    schema.parent.mkdir(parents=True)
    schema.write_text('{mapping, "mqtt.exchange", "rabbitmq_mqtt.exchange", []}.')
    for program in ("server/sbin/rabbitmq-server", "erlang/bin/erl"):
        (tmp_path / program).parent.mkdir()
        (tmp_path / program).touch(mode=0o700)
    return tmp_path


@pytest.fixture
def needs(home):
    """The names of what a node of a configuration needs."""
    installation = Installation(home / "server/sbin/rabbitmq-server", (home / "erlang/bin",))
    return lambda configuration: [
        place.name.removesuffix("-1.2.3") for place in needed_applications(installation, configuration)
    ]


class TestNeededApplications:
    def test_are_the_server_and_what_it_depends_on(self, needs):
        """Of sixty plugins a spec's broker needs none."""
        assert needs(PLAIN) == SERVER

    def test_have_each_enabled_plugin_with_what_it_depends_on(self, needs):
        """The management plugin brings a web server, and that TLS."""
        assert set(needs(Configuration())) == {*SERVER, "rabbitmq_management", "cowboy", "ranch", "ssl", "crypto"}
        assert "rabbitmq_mqtt" in needs(Configuration(plugins=("rabbitmq_mqtt",)))

    def test_have_a_plugin_that_is_configured_and_not_enabled(self, needs):
        """RabbitMQ takes the keys of every plugin that it sees, and does not start for one that it does not know."""
        assert "rabbitmq_mqtt" in needs(Configuration(lines=("mqtt.exchange = amq.topic",), management=False))
        assert needs(Configuration(lines=("channel_max = 7", "log.file = false"), management=False)) == SERVER

    @pytest.mark.parametrize("odd", ["two_versions", "no_server", "unknown_plugin"])
    def test_are_not_guessed(self, needs, home, odd):
        """A node that sees everything is slow; one that lacks something does not start."""
        plugins = home / "server/plugins"
        if odd == "two_versions":
            (plugins / "ranch-2.0.0").mkdir()
        elif odd == "no_server":
            (plugins / "rabbit-1.2.3").rename(plugins / "rabbit.ez")

        assert needs(Configuration(plugins=("rabbitmq_top",) if odd == "unknown_plugin" else ())) == []


class TestNodeBroker:
    def test_sees_no_plugin_that_it_does_not_need(self, disposable_broker):
        """Each is a directory more that is searched for each of a thousand modules."""
        if disposable_broker.source not in {"node", "package"}:
            pytest.skip("not run: this broker is no private node")
        seen = {place.name.partition("-")[0] for place in (disposable_broker.node.directory / "plugins").iterdir()}

        assert {"rabbit", "rabbit_common"} <= seen
        assert seen & {"rabbitmq_management", "rabbitmq_mqtt", "rabbitmq_stomp", "rabbitmq_federation"} == set()
