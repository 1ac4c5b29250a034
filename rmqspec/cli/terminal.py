"""What a person sees: names in colours that can be followed, plain text in a pipe, nothing wrapped."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rmqspec.orders.demo import Row
from rmqspec.orders.service import Say

__all__ = ["console", "notice", "progress", "scene", "summary", "voice"]

# rich obeys NO_COLOR, and leaves colours out where the output is no terminal.
console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 132  # of the table: nobody's window limits it
errors = Console(stderr=True, highlight=False, soft_wrap=True)

STYLES = {
    "producer": "bold cyan",
    "notification": "magenta",
    "analytics": "yellow",
    "logs": "bright_black",
    "inventory": "bold blue",
    "rpc-client": "blue",
}
WORKER_STYLES = ("green", "bright_green", "dark_cyan", "spring_green3", "chartreuse3")


def voice(name: str) -> Say:
    """A way of speaking: the name in its colour, then the words."""
    digits = "".join(filter(str.isdigit, name)) or "0"  # neighbours get different colours
    style = STYLES.get(name) or WORKER_STYLES[int(digits) % len(WORKER_STYLES)]

    def say(words: str) -> None:
        console.print(Text.assemble((f"{name:>13}", style), "  ", words))

    return say


def scene(words: str) -> None:
    """Announces what comes next."""
    console.print()
    console.print(Text(words, "bold"))


def notice(words: str) -> None:
    """Says something on standard error, beside the output."""
    errors.print(Text(words))


def progress(words: str) -> None:
    """Tells how far a longer step is, in place where a terminal can."""
    if errors.is_terminal:
        errors.print(Text(f"\r\x1b[2K{words}", "dim"), end="")
    elif words and ":" not in words:  # "downloading …: 54 %" would be a line for each percent
        notice(words)


def summary(rows: Sequence[Row]) -> None:
    """Prints the table at the end of the demo."""
    table = Table(title_justify="left", header_style="bold")
    for heading in ("concept", "exchange and queue", "what went through"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.concept, row.where, row.through)
    console.print(table, soft_wrap=False)
