"""The command that compares two recorded runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from rich.text import Text

from rmqspec.cli import terminal
from rmqspec.tools.book import NoRecord, read
from rmqspec.tools.compare import Comparison, Incomparable, compare
from rmqspec.tools.compare.text import as_json, as_markdown, as_text

__all__ = ["compare_command"]

UNEXPLAINED, INCOMPARABLE = 1, 3
FORMS: Mapping[str, Callable[[Comparison], str]] = {"text": as_text, "json": as_json, "markdown": as_markdown}


@click.command("compare")
@click.argument("old", metavar="OLD.jsonl", type=click.Path(path_type=Path))
@click.argument("new", metavar="NEW.jsonl", type=click.Path(path_type=Path))
@click.option("--json", "form", flag_value="json", help="One JSON object for programs.")
@click.option("--markdown", "form", flag_value="markdown", help="Markdown, for a ticket or a page.")
def compare_command(old: Path, new: Path, form: str | None) -> None:
    """Say what two runs of the suite have shown of two brokers.

    \b
      pytest tests/lessons tests/reference --record old.jsonl --rabbitmq-url amqp://…
      pytest tests/lessons tests/reference --record new.jsonl --rabbitmq-url amqp://…
      rmqspec compare old.jsonl new.jsonl

    UNEXPLAINED is what a new version broke: a spec says that it is so in this version, and it fails. CHANGED has a spec
    for each side. What holds on one side alone, and what was not run, stands below. Both runs need the same suite and
    the same selection, such as -m "not own_broker".

    Exit code 0: nothing is unexplained. 1: something is. 2: usage, or no record. 3: the runs cannot be compared.
    """  # noqa: D301  (click knows by the backspace what not to wrap)
    try:
        comparison = compare(read(old), read(new))
    except NoRecord as error:
        raise click.UsageError(str(error)) from error
    except Incomparable as error:
        terminal.notice(f"rmqspec: {error}")
        sys.exit(INCOMPARABLE)
    for line in FORMS[form or "text"](comparison).split("\n"):
        terminal.console.print(Text(terminal.shown(line)))
    sys.exit(UNEXPLAINED if comparison.unexplained else 0)
