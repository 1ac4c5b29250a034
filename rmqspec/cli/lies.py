"""The command that suggests a proof for a spec: a lie that it notices."""

from __future__ import annotations

import os
import subprocess
import sys
from operator import attrgetter

import click
from rich.table import Table

from rmqspec.cli import terminal
from rmqspec.cli.settings import broker_option, image_option
from rmqspec.tools.wire.lies import LIES

__all__ = ["lies_command"]


@click.command("lies")
@click.argument("paths", nargs=-1, metavar="[PATH|NODE_ID]...")
@click.option("--list", "only_list", is_flag=True, help="Show the lies, and tell none.")
@click.option("--lie", "name", metavar="NAME", help="Tell this lie only, and show how the specs fail.")
@broker_option
@image_option
def lies_command(paths: tuple[str, ...], only_list: bool, name: str | None, source: str, image: str) -> None:
    """Suggest the lies that a spec notices, fastest first.

    A lie is a promise that a broker breaks: a proxy in front of a real broker drops, changes or invents what client and
    broker say to each other. Each spec names one that makes it fail, as in @pytest.mark.lie("prefetch-ignored");
    `pytest --lies` proves it.
    """
    if only_list:
        terminal.console.print(_listed())
        return
    if not paths:
        raise click.UsageError("name a file of specs or a node id, or --list")
    mode = ["--lie", name] if name else ["--suggest-lies"]
    command = [sys.executable, "-m", "pytest", "-q", "--rabbitmq-broker", source, "--rabbitmq-image", image]
    sys.exit(subprocess.run([*command, *mode, *paths], env=os.environ, check=False).returncode)  # noqa: S603


def _listed() -> Table:
    table = Table("lie", "what a broker does that tells it", title=f"{len(LIES)} lies")
    for lie in sorted(LIES.values(), key=attrgetter("name")):
        table.add_row(lie.name, lie.sentence)
    return table
