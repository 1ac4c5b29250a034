"""The command that says what an upgrade of RabbitMQ changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from rich.text import Text

from rmqspec.cli import terminal
from rmqspec.tools.upgrade import NoWay, Release, Unreadable
from rmqspec.tools.upgrade.definitions import Definitions
from rmqspec.tools.upgrade.report import Report, report
from rmqspec.tools.upgrade.running import Address, RunningBroker
from rmqspec.tools.upgrade.sources import Source
from rmqspec.tools.upgrade.text import as_json, as_markdown, as_text

__all__ = ["upgrade_command"]

HARMFUL, NO_WAY = 1, 3
FORMS: Mapping[str, Callable[[Report], str]] = {"text": as_text, "json": as_json, "markdown": as_markdown}


class _Version(click.ParamType[Release]):
    name = "version"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Release:
        try:
            return value if isinstance(value, Release) else Release.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("upgrade", short_help="Say what changes between two releases of RabbitMQ.")
@click.argument("old", type=_Version())
@click.argument("new", type=_Version())
@click.option(
    "--definitions", "file", metavar="FILE", type=click.Path(path_type=Path),
    help="An export of the broker's definitions: what a change concerns there is named. No broker is asked.",
)  # fmt: skip
@click.option(
    "--url", "running", metavar="URL",
    help="A running broker's management API, such as http://user@host:15672; only GET, the tag monitoring is enough. "
    "The password comes from RABBITMQ_PASSWORD, else it is asked for.",
)  # fmt: skip
@click.option("--json", "form", flag_value="json", help="One JSON object for programs.")
@click.option("--markdown", "form", flag_value="markdown", help="Markdown, for a ticket or a page.")
def upgrade_command(old: Release, new: Release, file: Path | None, running: str | None, form: str | None) -> None:
    """Say what changes between two releases of RabbitMQ, such as 3.13 and 4.3.

    Each difference says what one does, what happens before and after, and which spec proves it: ~ where none does. With
    --definitions or --url only what concerns what you use is listed, by name.

    \b
      rmqspec upgrade 3.13 4.3
      rmqspec upgrade 3.13 4.3 --definitions rabbit.json
      rmqspec upgrade 3.13.7 4.3.6 --url http://monitor@mq.example.com:15672 --markdown

    Exit code 0: nothing that breaks or loses messages was found in what was read; the last lines say what was not read.
    1: something breaks or loses messages. 2: usage, or a source that cannot be read. 3: no supported way.
    """  # noqa: D301  (click knows by the backspace what not to wrap)
    sources: list[Source] = [] if file is None else [Definitions(file)]
    if running is not None:
        sources.append(_running(running))
    try:
        answer = report(old, new, sources)
    except NoWay as reason:
        terminal.notice(f"rmqspec: {reason}")
        sys.exit(NO_WAY)
    except Unreadable as reason:
        raise click.UsageError(str(reason)) from reason
    for line in FORMS[form or "text"](answer).split("\n"):
        terminal.console.print(Text(terminal.shown(line)))
    sys.exit(HARMFUL if answer.harmful else 0)


def _running(url: str) -> RunningBroker:
    try:
        address = Address.parse(url)
    except ValueError as error:
        raise click.UsageError(f"--url: {error}") from error
    if address.readable_on_the_way:
        terminal.notice("The password travels over http, where others on the way can read it; https hides it.")
    password = os.environ.get("RABBITMQ_PASSWORD")
    if password is None:
        if not sys.stdin.isatty():
            raise click.UsageError("--url: no password; set RABBITMQ_PASSWORD")
        password = click.prompt(f"Password of {address.user}", hide_input=True, err=True)
    return RunningBroker(address, str(password))
