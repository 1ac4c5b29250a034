"""What a private node needs of the applications that are installed: the rest only makes it slow.

Code: rmqspec/tools/broker/applications.py, rmqspec/tools/broker/node.py
"""

import pytest

from rmqspec.tools.broker import Configuration
from rmqspec.tools.broker.applications import needed_applications
from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.broker.installation import Installation
from rmqspec.tools.broker.node import Node

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
def home(request, tmp_path):
    """A server with its plugins, and an Erlang."""
    home = tmp_path / getattr(request, "param", "home")
    install(home / "server/plugins", APPLICATIONS)
    install(home / "erlang/lib", ERLANG)
    for name, key in (("rabbit", "log.file"), ("rabbitmq_mqtt", "mqtt.exchange")):
        schema = home / f"server/plugins/{name}-1.2.3/priv/schema/{name}.schema"
        schema.parent.mkdir(parents=True)
        schema.write_text(f'{{mapping, "{key}", "{name}.{key}", []}}.')
    for program in ("server/sbin/rabbitmq-server", "erlang/bin/erl"):
        (home / program).parent.mkdir()
        (home / program).touch(mode=0o700)
    return home


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

    def test_have_what_an_application_includes(self, needs, home):
        """Erlang starts it as a part of the other, and its modules are needed all the same."""
        file = home / "server/plugins/rabbit_common-1.2.3/ebin/rabbit_common.app"
        file.write_text("{application, rabbit_common, [{applications, []}, {included_applications, [mnesia]}]}.")

        assert "mnesia" in needs(PLAIN)

    @pytest.mark.parametrize("home", ["with space", "with*star", "with$dollar"], indirect=True)
    def test_are_not_given_where_a_shell_would_change_their_paths(self, needs):
        """The server's script takes its arguments apart."""
        assert needs(PLAIN) == []

    @pytest.mark.parametrize("odd", ["two_versions", "no_server", "unknown_plugin", "unknown_key"])
    def test_are_not_guessed(self, needs, home, odd):
        """A node that sees everything is slow; one that lacks something does not start."""
        place = home / "server/plugins"
        if odd == "two_versions":
            (place / "ranch-2.0.0").mkdir()
        elif odd == "no_server":
            (place / "rabbit-1.2.3").rename(place / "rabbit.ez")

        plugins = ("rabbitmq_top",) if odd == "unknown_plugin" else ()
        lines = ("delayed.limit = 7",) if odd == "unknown_key" else ()
        assert needs(Configuration(plugins=plugins, lines=lines)) == []


class TestNode:
    @pytest.mark.parametrize("place", ["plain", "with:colon"])
    def test_is_told_of_a_directory_that_can_stand_in_a_list_of_directories(self, tmp_path, place):
        """`RABBITMQ_PLUGINS_DIR` is such a list: the server would look for its plugins in two halves of a name."""
        endpoint = Endpoint("127.0.0.1", 1, "guy", "yug", "http://127.0.0.1:2")
        node = Node(Installation(tmp_path), tmp_path / place, endpoint, 3, 4, applications=(tmp_path / "rabbit-1",))

        environment = node._environment()

        told = environment.get("RABBITMQ_PLUGINS_DIR"), "-pa" in environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
        assert told == ((str(tmp_path / "plain" / "plugins"), True) if place == "plain" else (None, False))


class TestNodeBroker:
    def test_sees_no_plugin_that_it_does_not_need(self, disposable_broker):
        """Each is a directory more that is searched for each of a thousand modules."""
        if disposable_broker.source not in {"node", "package"}:
            pytest.skip("not run: this broker is no private node")
        seen = {place.name.partition("-")[0] for place in (disposable_broker.node.directory / "plugins").iterdir()}

        assert {"rabbit", "rabbit_common"} <= seen
        assert seen & {"rabbitmq_management", "rabbitmq_mqtt", "rabbitmq_stomp", "rabbitmq_federation"} == set()
