"""The options of a connection: every command that connects has them, and they beat the environment.

Code: rmqspec/cli/settings.py
"""

import os

import click
import pytest
from click.testing import CliRunner

from rmqspec.cli.main import cli
from rmqspec.cli.settings import OPTIONS, connection_options


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """Nothing of the environment of whoever runs this."""
    for variable in [name for name in os.environ if name.startswith("RABBITMQ_")]:
        monkeypatch.delenv(variable)


def settings_of(*arguments, **environment):
    """What a command with these options would connect with, or what it says instead."""
    seen = []
    command = click.command()(connection_options()(lambda where: seen.append(where.settings())))
    result = CliRunner().invoke(command, arguments, env=environment)
    return seen[0] if seen else result


def commands(group=cli, words=()):
    """Every command, as (words, names of its options)."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), {parameter.name for parameter in command.params}


class TestConnectionOptions:
    """`--rabbitmq-url`, `--ca` and the others."""

    def test_are_had_by_every_command_that_connects(self):
        """One that lacks them cannot be used where the others can."""
        lacking = {words: {"url", *OPTIONS} - options for words, options in commands() if "url" in options}

        assert len(lacking) > 10
        assert [words for words, lacks in lacking.items() if lacks] == []

    @pytest.mark.parametrize(
        ("option", "value", "name", "meant"),
        [
            ("--rabbitmq-url", "amqps://typed", "urls", ("amqps://typed",)),
            ("--heartbeat", "5", "heartbeat", 5),
            ("--timeout", "2.5", "timeout", 2.5),
            ("--ca", __file__, "ca", __file__),
            ("--certificate", __file__, "certificate", __file__),
            ("--key", __file__, "key", __file__),
            ("--server-name", "typed", "server_name", "typed"),
        ],
    )
    def test_beat_the_environment(self, option, value, name, meant):
        """Even where the variable holds what could not be used at all."""
        given = {"RABBITMQ_URL": "amqps://a amqps://b", "RABBITMQ_HEARTBEAT": "9", "RABBITMQ_CERTIFICATE": "me.pem"}
        variable = "RABBITMQ_URL" if name == "urls" else f"RABBITMQ_{name.upper()}"

        assert getattr(settings_of(option, value, **given | {variable: "nonsense"}), name) == meant

    def test_leave_the_rest_to_the_environment(self):
        """Certificates are the same all day, and the heartbeat is what one tries out."""
        settings = settings_of("--heartbeat", "5", RABBITMQ_URL="amqps://a amqps://b", RABBITMQ_CA="ca.pem")

        assert (settings.heartbeat, settings.ca, settings.urls) == (5, "ca.pem", ("amqps://a", "amqps://b"))

    def test_of_tls_are_refused_without_tls(self):
        """Whoever names an authority wants to be private; a URL that begins with amqp:// would ignore it in silence."""
        result = settings_of("--ca", __file__, "--server-name", "x", RABBITMQ_URL="amqps://a amqp://b")

        assert result.exit_code == 2
        assert "--ca, --server-name: without TLS nobody would look at that" in result.output

    @pytest.mark.parametrize("option", ["--ca", "--certificate", "--key"])
    def test_name_files_that_exist(self, option):
        """A file that is misspelt is said by its name, before anything is sent anywhere."""
        result = settings_of(option, "/nowhere.pem", RABBITMQ_URL="amqps://a")

        assert (result.exit_code, "/nowhere.pem" in result.output) == (2, True)
