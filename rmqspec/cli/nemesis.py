"""The nothing-lost test as a command."""

from __future__ import annotations

import os
import sys

import click
from rich.table import Table

from rmqspec.cli import terminal
from rmqspec.cli.settings import broker_option, image_option
from rmqspec.tools.broker import Choice, NotOurs, find
from rmqspec.tools.nemesis import FAULTS, Account, Plan, run

__all__ = ["nemesis"]

MEANINGS = {
    "attempted": "orders that a producer has tried to publish",
    "confirmed": "the broker said that it has them",
    "received": "arrived, each counted once",
    "lost": "confirmed, and never arrived: must be 0",
    "unexpected": "arrived, and never attempted: must be 0",
    "duplicated": "arrivals of what had arrived before",
    "recovered": "arrived, though the producer had no confirm",
    "unknown": "not confirmed and not arrived: nothing was promised",
    "refused": "not taken by the broker, or not sent as the window was full",
}


def _names(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(value.split(",")) if value else ()
    if wrong := [name for name in names if name not in FAULTS]:
        raise click.BadParameter(f"there is no fault {wrong[0]!r}; there are {', '.join(FAULTS)}")
    return names


@click.command("nemesis")
@click.option("--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Of publishing.")
@click.option("--queue-type", type=click.Choice(["classic", "quorum"]), default="classic", show_default=True)
@click.option("--producers", type=click.IntRange(min=1), default=2, show_default=True, help="How many publish.")
@click.option("--consumers", type=click.IntRange(min=1), default=2, show_default=True, help="How many consume.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which fault comes when.")
@click.option(
    "--faults", callback=_names, default=",".join(FAULTS), show_default=True, metavar="NAMES", help="Which may come."
)
@click.option(
    "--no-confirms", is_flag=True, help="Count as confirmed what is written: shows that the check finds losses."
)
@click.option("--auto-ack", is_flag=True, help="Acknowledge what is sent to a consumer: the same.")
@broker_option
@image_option
def nemesis(source: str, image: str, no_confirms: bool, auto_ack: bool, **options: object) -> None:
    """Publish and consume while everything goes wrong, and account for every order.

    Starts a broker of its own, kills it, restarts it, cuts it off and blocks it at random moments. At the end
    everything that was confirmed must have arrived; exit code 1 if it has not.
    """
    if source == "url":
        raise NotOurs("nemesis kills its broker, so it takes none by its URL: leave --rabbitmq-broker url out")
    plan = Plan(confirms=not no_confirms, auto_ack=auto_ack, **options)  # type: ignore[arg-type]
    environment = {name: value for name, value in os.environ.items() if name != "RABBITMQ_URL"}
    broker = find(Choice.settle({"broker": source, "image": image}, environment), terminal.progress)
    terminal.progress("")
    try:
        terminal.scene(f"Orders through a {plan.queue_type} queue of {broker.identity}, {broker.description}")
        result = run(broker, plan, lambda at, words: terminal.console.print(f"{at:8.1f} s  {words}"))
    finally:
        broker.close()
    terminal.scene(f"The account after {result.seconds:.0f} s and {result.blows.total()} faults")
    _print(result.account)
    sys.exit(0 if result.account.holds else 1)


def _print(account: Account) -> None:
    table = Table(header_style="bold")
    table.add_column("orders")
    table.add_column("", justify="right")
    table.add_column("meaning")
    for name, meaning in MEANINGS.items():
        count = getattr(account, name)
        wrong = count and "must be 0" in meaning
        table.add_row(name, f"{count:,}", meaning, style="bold red" if wrong else None)
    terminal.console.print(table, soft_wrap=False)
