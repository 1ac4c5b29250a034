"""The commands for a broker that stays: one starts it, the other stops it."""

from __future__ import annotations

import click

from rmqspec.cli import terminal
from rmqspec.cli.settings import broker_option, image_option
from rmqspec.tools.broker import Choice, rabbitup

__all__ = ["rabbit_down", "rabbit_up"]


@click.command("rabbitup")
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


@click.command("rabbitdown")
def rabbit_down() -> None:
    """Stop what `rabbitup` started, with its data, and nothing else."""
    standing = rabbitup.down()
    terminal.console.print(f"The broker is down ({standing.kind})." if standing else "Nothing was up.")
