"""The command that looks a behaviour up."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.text import Text

from rmqspec.cli import terminal
from rmqspec.tools.catalogue import Catalogue, NoSuite, collect, unheld
from rmqspec.tools.catalogue.collected import suite_root
from rmqspec.tools.catalogue.text import as_json, as_text
from rmqspec.tools.upgrade import differences

__all__ = ["catalogue_command"]

NOTHING = 1


@click.command("catalogue", short_help="Look up what RabbitMQ does, and which specs show it.")
@click.argument("asked", nargs=-1, metavar="[ID|WORD]...")
@click.option(
    "--suite", metavar="DIRECTORY", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A checkout of rmqspec; else the one where you are, or the one that this command comes from.",
)  # fmt: skip
@click.option("--json", "for_programs", is_flag=True, help="One JSON object for programs.")
def catalogue_command(asked: tuple[str, ...], suite: Path | None, for_programs: bool) -> None:
    """Look up what RabbitMQ does: each behaviour with its sentence, reason, versions and specs.

    Without arguments: the whole catalogue by file and class, followed by what has no spec yet.

    \b
      rmqspec catalogue DLX-01         everything about one behaviour
      rmqspec catalogue DLX XDEATH     everything about two concepts, by the first part of their ids
      rmqspec catalogue B23            a row of `rmqspec upgrade`, and its specs
      rmqspec catalogue x-death count  what has both words in sentence, reason, file or class

    No broker is asked: pytest collects the suite, which a checkout has and a wheel has not.

    Exit code 0: something was found. 1: nothing. 2: usage, or there is no suite to read.
    """  # noqa: D301  (click knows by the backspace what not to wrap)
    try:
        specs = collect(suite_root(suite))
    except NoSuite as error:
        raise click.UsageError(str(error)) from error
    found = Catalogue(specs, unheld(), differences()).look_up(asked)
    for name in found.unknown:
        terminal.notice(f"rmqspec: there is no behaviour {name}; `rmqspec catalogue WORD` looks for words")
    if not found:
        if not found.unknown:
            terminal.notice(f"rmqspec: nothing in the catalogue has {' and '.join(map(repr, asked))}")
        sys.exit(NOTHING)
    for line in (as_json(found) if for_programs else as_text(found)).split("\n"):
        terminal.console.print(Text(terminal.shown(line)))
