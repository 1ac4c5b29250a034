"""The command line."""

from __future__ import annotations

import sys

import click

from rmqspec import __version__, terminal
from rmqspec.broker import BrokerError, Choice, rabbitup
from rmqspec.cli_book import book_command
from rmqspec.cli_dead_letters import dead_letters_group
from rmqspec.cli_demo import demo_group
from rmqspec.cli_lies import lies_command
from rmqspec.cli_nemesis import nemesis
from rmqspec.cli_settings import broker_option, image_option
from rmqspec.client.errors import ClientError

__all__ = ["cli", "main"]


def main() -> None:
    """Runs the command line; what goes wrong is one sentence, and exit code 1."""
    try:
        cli()
    except (BrokerError, ClientError) as error:
        terminal.notice(f"rmqspec: {error}")
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rmqspec")
def cli() -> None:
    """The executable specification of RabbitMQ, and the order system that its lessons prove.

    Begin with `rmqspec demo`: it finds or starts a broker by itself and shows every pattern at work.
    To play with the parts, start a broker that stays with `rmqspec rabbitup`, then each part in a terminal of its own.
    """


cli.add_command(demo_group)
cli.add_command(dead_letters_group)
cli.add_command(nemesis)
cli.add_command(book_command)
cli.add_command(lies_command)


@cli.command("rabbitup")
@click.option("--port", type=int, default=5672, show_default=True, help="For AMQP, on 127.0.0.1.")
@click.option("--management-port", type=int, default=15672, show_default=True, help="For the UI, on 127.0.0.1.")
@broker_option
@image_option
def rabbit_up(port: int, management_port: int, source: str, image: str) -> None:
    """Start a broker that stays, with the management UI; user guy, password yug.

    In a container where Docker runs, else as a node of the rabbitmq-server of this machine, else of the
    distribution's packages, unpacked into your cache. If it is up already, nothing changes.
    """
    standing, fresh = rabbitup.up(Choice(broker=source, image=image), port, management_port, terminal.progress)
    terminal.progress("")
    at = standing.endpoint
    terminal.console.print(f"{standing.identity()} {'is up' if fresh else 'was up already'} ({standing.kind}).")
    terminal.console.print(f"  AMQP        {at.url()}")
    terminal.console.print(f"  management  {at.management_url}   user {at.user}, password {at.password}")
    terminal.console.print("  stop it     rmqspec rabbitdown")


@cli.command("rabbitdown")
def rabbit_down() -> None:
    """Stop what `rabbitup` started, with its data, and nothing else."""
    standing = rabbitup.down()
    terminal.console.print(f"The broker is down ({standing.kind})." if standing else "Nothing was up.")
