"""The test of clients and services under faults, as a command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
from rich.table import Table

from rmqspec.cli import terminal
from rmqspec.cli.options import FileToWrite, seconds
from rmqspec.cli.settings import broker_option, image_option
from rmqspec.tools.broker import Choice, NotOurs, find
from rmqspec.tools.nemesis import FAULTS, PARTICIPANTS, PROMISES, Account, Plan, Result, run

__all__ = ["nemesis"]

MOST = 100  # of one kind: each has a thread and connections
LOGGERS = ("rmqspec.client", "rmqspec.orders")
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
    "unsafe": "at a kill maybe on the way through a dead-letter exchange, and not arrived: nothing was promised",
}
WITHOUT_CONFIRMS = MEANINGS | {  # with --no-confirms the broker is not asked
    "confirmed": "were written to the connection; the broker was not asked",
    "lost": "written, and never arrived: must be 0",
    "recovered": "arrived, though writing them had failed",
    "unknown": "not written and not arrived: nothing was promised",
}


def _faults(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(value.split(",")) if value else ()
    if not names:
        raise click.BadParameter(f"a run without faults proves nothing: name some of {', '.join(FAULTS)}")
    if wrong := [name for name in names if name not in FAULTS]:
        raise click.BadParameter(f"there is no fault {wrong[0]!r}; there are {', '.join(FAULTS)}")
    return names


def _participants(_: click.Context, __: click.Parameter, value: str) -> Mapping[str, int]:
    """Reads ``producer,consumer=8``."""
    counts = {}
    for part in filter(None, value.split(",")):
        name, _mark, count = part.partition("=")
        if name not in PARTICIPANTS:
            raise click.BadParameter(f"there is no participant {name!r}; there are {', '.join(PARTICIPANTS)}")
        if count and not (count.isdecimal() and 1 <= int(count) <= MOST):
            raise click.BadParameter(f"{count!r} is no number of participants from 1 to {MOST}: write {name}=2")
        counts[name] = int(count) if count else PARTICIPANTS[name].count
    if not counts:
        raise click.BadParameter(f"a run without participants proves nothing: name some of {', '.join(PARTICIPANTS)}")
    return counts


@click.command("nemesis", short_help="Publish, consume, call and work while all goes wrong.")
@click.option("--seconds", type=seconds(1), default=60.0, show_default=True, help="How long faults go on, in seconds.")
@click.option("--queue-type", type=click.Choice(["classic", "quorum"]), default="classic", show_default=True)
@click.option(
    "--participants",
    callback=_participants,
    default=",".join(f"{name}={kind.count}" for name, kind in PARTICIPANTS.items()),
    show_default=True,
    metavar="NAMES",
    help="Who takes part.",
)
@click.option(
    "--work", type=seconds(), default=20.0, show_default=True, help="Longest time of a handler, in milliseconds."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which fault comes when.")
@click.option(
    "--faults",
    callback=_faults,
    default=",".join(FAULTS),
    show_default=True,
    metavar="NAMES",
    help="Which faults may happen.",
)
@click.option(
    "--bound",
    type=seconds(1),
    default=15.0,
    show_default=True,
    help="Seconds after a fault within which everybody must move again.",
)
@click.option(
    "--no-confirms", is_flag=True, help="Do not ask for confirms, and count what is written; losses must then be found."
)
@click.option("--auto-ack", is_flag=True, help="Consume with automatic acknowledgement; losses must then be found.")
@click.option(
    "--log", type=FileToWrite(), metavar="FILE", help="Where to write what the clients log; without it that is dropped."
)
@broker_option
@image_option
def nemesis(log: Path | None, source: str, image: str, no_confirms: bool, auto_ack: bool, **options: object) -> None:
    """Publish, consume, call and work while everything goes wrong: nothing may be lost, and nobody may stall.

    Starts a broker of its own, kills it, restarts it, cuts it off and blocks it at random moments. After each fault
    everybody must move again within a bound, each call must end at its deadline, each publish must have an outcome, and
    at the end everything that was confirmed must have arrived. The last line is the verdict; exit code 1 if something
    did not hold.
    """
    if source == "url":
        raise NotOurs("nemesis kills its broker, so it takes none by its URL: leave --rabbitmq-broker url out")
    plan = Plan(confirms=not no_confirms, auto_ack=auto_ack, **options)  # type: ignore[arg-type]
    environment = {name: value for name, value in os.environ.items() if name != "RABBITMQ_URL"}
    broker = find(Choice.settle({"broker": source, "image": image}, environment), terminal.progress)
    terminal.progress("")
    terminal.passed_over(broker.passed_over)
    try:
        terminal.scene(f"Orders through {plan.queue_type} queues of {broker.identity}, {broker.description}")
        with _logging_to(log):
            result = run(broker, plan, lambda at, words: terminal.console.print(f"{at:8.1f} s  {words}", markup=False))
    finally:
        broker.close()
    terminal.scene(f"The account after {result.seconds:.0f} s and {result.blows.total()} faults")
    _print_account(result.account, WITHOUT_CONFIRMS if no_confirms else MEANINGS)
    confirmed = "written" if no_confirms else "confirmed"
    _print_findings(result, confirmed)
    terminal.console.print()
    verdict = result.verdict.replace("confirmed", confirmed)
    terminal.console.print(f"nemesis {verdict}", markup=False, style=None if result.holds else "bold red")
    sys.exit(0 if result.holds else 1)


@contextmanager
def _logging_to(file: Path | None) -> Iterator[None]:
    """Hundreds of lost connections are what is wanted here: on the screen they would hide what is not."""
    handler = logging.FileHandler(file, "w") if file else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
        handler.close()


def _print_account(account: Account, meanings: Mapping[str, str]) -> None:
    table = Table(header_style="bold")
    table.add_column("orders")
    table.add_column("", justify="right")
    table.add_column("meaning")
    for name, meaning in meanings.items():
        count = getattr(account, name)
        wrong = count and "must be 0" in meaning
        called = "written" if meanings is WITHOUT_CONFIRMS and name == "confirmed" else name
        table.add_row(called, f"{count:,}", meaning, style="bold red" if wrong else None)
    terminal.console.print(table, soft_wrap=False)


def _print_findings(result: Result, confirmed: str) -> None:
    for name, promise in PROMISES.items():
        found = [finding for finding in result.findings if finding.invariant == name]
        promise = promise.replace("confirmed", confirmed)
        terminal.console.print(f"{name:>10} {len(found):3}  {promise}", markup=False)
        for finding in found:
            words = f": {finding.breach.words}" if finding.breach.words else ""
            said = f"{finding}{words}".replace("confirmed", confirmed)
            terminal.console.print(f"{'':16}{said}", markup=False, style="red")
