"""The commands for a broker that stays: one starts it, the other stops it."""

from __future__ import annotations

import click
from click.core import ParameterSource

from rmqspec.cli import terminal
from rmqspec.cli.options import PORT
from rmqspec.cli.settings import broker_option, image_option
from rmqspec.tools.broker import Choice, rabbitup

__all__ = ["rabbit_down", "rabbit_up"]


@click.command("rabbitup", short_help="Start a broker that stays, with the management UI.")
@click.option("--port", type=PORT, default=5672, show_default=True, help="For AMQP, on 127.0.0.1.")
@click.option("--management-port", type=PORT, default=15672, show_default=True, help="For the UI, on 127.0.0.1.")
@broker_option
@image_option
@click.pass_context
def rabbit_up(context: click.Context, /, port: int, management_port: int, source: str, image: str) -> None:
    """Start a broker that stays, with the management UI; user guy, password yug.

    In a container where Docker runs, else as a node of the rabbitmq-server of this machine, else of the
    distribution's packages, unpacked into your cache. If it is up already, nothing changes.
    """
    if port == management_port:
        raise click.UsageError(f"--port and --management-port are both {port}: name two")
    standing, fresh = rabbitup.up(Choice(broker=source, image=image), port, management_port, terminal.progress)
    terminal.progress("")
    terminal.passed_over(standing.passed_over)
    at = standing.endpoint
    terminal.console.print(f"{standing.identity()} {'is up' if fresh else 'was up already'} ({standing.kind}).")
    terminal.console.print(f"  AMQP        {at.url()}")
    terminal.console.print(f"  management  {at.management_url}   user {at.user}, password {at.password}")
    terminal.console.print("  stop it     rmqspec rabbitdown")
    up_at = {"port": at.port, "management_port": int(at.management_url.rpartition(":")[2])}
    for name, wanted in (("port", port), ("management_port", management_port)):
        if wanted != up_at[name] and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')} {wanted}"
            raise click.ClickException(f"it is up at {up_at[name]}: for {option} run rmqspec rabbitdown first")


@click.command("rabbitdown", short_help="Stop what `rabbitup` started, with its data.")
def rabbit_down() -> None:
    """Stop what `rabbitup` started, with its data, and nothing else."""
    standing = rabbitup.down()
    if standing is None:
        terminal.console.print("Nothing was up.")
    elif standing.kind == rabbitup.UNKNOWN:
        terminal.console.print("The note of what was up was not whole; whatever rabbitup had started is down.")
    else:
        terminal.console.print(f"The broker is down ({standing.kind}).")
