"""What a person sees: names in colours that can be followed, plain text in a pipe, nothing wrapped."""

from __future__ import annotations

import errno
import os
import sys
import threading
import unicodedata
from collections.abc import Sequence
from io import TextIOWrapper

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from rmqspec.orders.demo import Row
from rmqspec.orders.service import Say

__all__ = [
    "console",
    "escape_unprintable",
    "notice",
    "passed_over",
    "plain",
    "progress",
    "scene",
    "shown",
    "summary",
    "voice",
]


class _Console(Console):
    """A console that says when nobody reads it; rich's own ends the thread, and with it the work of a service."""

    def on_broken_pipe(self) -> None:
        """Click ends a command at this error, without a word and with exit code 1; services go on."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads the output")


# rich obeys NO_COLOR, and leaves colours out where the output is no terminal.
console = _Console(highlight=False, soft_wrap=True)
if not console.is_terminal and "COLUMNS" not in os.environ:
    console.width = 132  # of the table: nobody's window limits it
errors = _Console(stderr=True, highlight=False, soft_wrap=True)

STYLES = {
    "producer": "bold cyan",
    "notification": "magenta",
    "analytics": "yellow",
    "logs": "bright_black",
    "inventory": "bold blue",
    "rpc-client": "blue",
}
WORKER_STYLES = ("green", "bright_green", "dark_cyan", "spring_green3", "chartreuse3")

# Unicode's categories of what is a command to a terminal, or not seen at all; the two joiners are spelling.
HIDDEN, JOINERS = {"Cc", "Cf", "Cs", "Zl", "Zp"}, "\u200c\u200d"
_one_at_a_time = threading.Lock()  # lines of several services


def escape_unprintable() -> None:
    """From now on a name that the terminal's encoding has no letters for is printed escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def shown(words: str) -> str:
    """Words of somebody else as a person may see them: what would move the cursor or turn the text round is escaped.

    An order's id may hold the sequence that clears a screen, or one that a terminal answers.
    """
    return "".join(letter.encode("unicode_escape").decode() if _hidden(letter) else letter for letter in words)


def _hidden(letter: str) -> bool:
    return unicodedata.category(letter) in HIDDEN and letter not in JOINERS


def plain(words: str) -> str:
    """Words of ours: without arrows where the terminal knows ASCII only."""
    return words.replace("→", "->").replace("…", "...") if console.options.ascii_only else words


def voice(name: str) -> Say:
    """A way of speaking: the name in its colour, then the words. It raises OSError where nothing can be written."""
    digits = "".join(filter(str.isdigit, name)) or "0"  # neighbours get different colours
    style = STYLES.get(name) or WORKER_STYLES[int(digits) % len(WORKER_STYLES)]

    def say(words: str) -> None:
        # Not printed at once: rich keeps what it could not write, and ends the program at a pipe that nobody reads.
        with console.capture() as line:
            console.print(Text.assemble((f"{shown(name):>12}", style), "  ", shown(plain(words))))
        with _one_at_a_time:
            console.file.write(line.get())
            console.file.flush()

    return say


def scene(words: str) -> None:
    """Announces what comes next."""
    console.print()
    console.print(Text(words, "bold"))


def notice(words: str) -> None:
    """Says something on standard error, beside the output."""
    errors.print(Text("\n".join(shown(line) for line in words.splitlines())))


def passed_over(sources: Sequence[str]) -> None:
    """Says why the broker does not come from where it would have come from first; that no URL was given is no news."""
    if told := [source for source in sources if not source.startswith("url ")]:
        notice(f"passed over: {'; '.join(told)}")


def progress(words: str) -> None:
    """Tells how far a longer step is, in place where a terminal can."""
    if errors.is_terminal:
        # As controls: rich takes a carriage return out of what is printed; the next line would begin where this ends.
        errors.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
        errors.print(Text(shown(words)[: errors.width - 1], "dim"), end="")
    elif words and ":" not in words:  # "downloading …: 54 %" would be a line for each percent
        notice(words)


def summary(rows: Sequence[Row]) -> None:
    """Prints the table at the end of the demo."""
    table = Table(title_justify="left", header_style="bold")
    for heading in ("concept", "exchange and queue", "what went through"):
        table.add_column(heading)
    for row in rows:
        table.add_row(*map(plain, (row.concept, row.where, row.through)))
    console.print(table, soft_wrap=False)
