"""The commands on orders that failed."""

from __future__ import annotations

import json
import math
import sys
from datetime import datetime
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from rmqspec.cli import terminal
from rmqspec.cli.options import SectionedGroup, Whole
from rmqspec.cli.settings import Where, connection_options
from rmqspec.client.errors import Unrepublishable
from rmqspec.orders import dead_letters
from rmqspec.orders.messages import counted

__all__ = ["dead_letters_group"]

HEADINGS = ("#", "order", "reason", "attempts", "died", "bytes")
WIDE = 80  # columns that the table needs to be read


@click.group("dead-letters", cls=SectionedGroup)
def dead_letters_group() -> None:
    """Look at orders that failed, send them again, or delete them.

    They are in the queue orders.failed, each with the reason: what our worker wrote where a message is no order or was
    tried too often, or what the broker wrote where an order was rejected, expired, or dropped from a full queue.
    """


@dead_letters_group.command("list")
@click.option("--limit", type=Whole(min=1), default=100, show_default=True, help="At most so many.")
@connection_options()
def list_them(limit: int, where: Where) -> None:
    """List them, oldest first, and leave them where they are."""
    letters = dead_letters.look(where.settings(), limit)
    rows = [_cells(letter) for letter in letters]
    if rows and terminal.console.width >= WIDE:
        terminal.console.print(_table(rows), soft_wrap=False)
    else:
        for row in rows:
            terminal.console.print(Text("\n    ".join(_lines(row))))
    terminal.notice(counted(len(letters), "dead letter"))


@dead_letters_group.command("show", short_help="Show one of them: headers, history and body.")
@click.argument("number", type=Whole(min=1))
@connection_options()
def show(number: int, where: Where) -> None:
    """Show the one in place NUMBER of the list: headers, history and body."""
    letters = dead_letters.look(where.settings(), number)
    if len(letters) < number:
        there = f"{'is' if len(letters) == 1 else 'are'} {counted(len(letters), 'dead letter')}"
        raise click.ClickException(f"there {there}, so none has number {number}")
    letter = letters[-1]
    told = {
        "order": letter.order_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "message_id": letter.message_id,
        "headers": letter.delivery.headers,
        "body": letter.body[:4096].decode(errors="replace"),
    }
    # In a terminal that knows ASCII only, what is escaped is still JSON.
    ascii_only = terminal.console.options.ascii_only
    terminal.console.print(Text(json.dumps(_plain(told), indent=2, ensure_ascii=ascii_only)))


@dead_letters_group.command("replay", short_help="Send them again as new orders.")
@click.argument("numbers", nargs=-1, type=Whole(min=1))
@click.option("--limit", type=Whole(min=1), help="At most so many. [default: those that are there now]")
@connection_options()
def replay(numbers: tuple[int, ...], limit: int | None, where: Where) -> None:
    """Send them again as new orders: those in the places NUMBERS of the list, or all.

    Each is confirmed before its dead letter is acknowledged, so that a crash in between loses nothing.
    """
    left: list[int] = []

    def leave(letter: dead_letters.DeadLetter, error: Unrepublishable) -> None:
        left.append(letter.number)
        terminal.notice(f"rmqspec: number {letter.number} stays where it is: {error}")

    sent = dead_letters.replay(where.settings(), limit, set(numbers) or None, leave)
    # The places are counted from 1 without gaps: what was not found are the highest.
    there = sent + len(left)
    missing = sorted(set(numbers))[there:]
    for number in missing:
        terminal.notice(f"rmqspec: there is no dead letter number {number}, or none within the limit")
    terminal.console.print(f"{sent} sent again")
    sys.exit(1 if left or missing else 0)


@dead_letters_group.command("purge")
@click.confirmation_option(prompt="Delete all dead letters for good?")
@connection_options()
def purge(where: Where) -> None:
    """Delete all of them for good."""
    terminal.console.print(f"{dead_letters.purge(where.settings())} deleted")


def _cells(letter: dead_letters.DeadLetter) -> list[str]:
    """What the list shows of one, as plain text."""
    reason = f"{letter.reason}: {letter.detail}" if letter.detail else letter.reason
    attempts, died = str(letter.attempts or ""), letter.died.isoformat(" ") if letter.died else ""
    return [terminal.shown(cell) for cell in (str(letter.number), letter.order_id, reason, attempts, died)] + [
        str(len(letter.body))
    ]


def _table(rows: list[list[str]]) -> Table:
    table = Table(header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading)
    for row in rows:
        table.add_row(*map(Text, row))  # a Text: nothing in it is taken for markup
    return table


def _lines(row: list[str]) -> list[str]:
    """One under the other, where a table would be a heap of syllables."""
    number, order_id, reason, attempts, died, size = row
    tried = f"{attempts} attempts" if attempts else ""
    return [f"{number:>2}  {order_id}", *filter(None, (reason, tried, died and f"died {died}", f"{size} bytes"))]


def _plain(value: Any) -> Any:
    """What a header holds, as JSON can say it, with nothing in it that a terminal would obey."""
    if isinstance(value, dict):
        return {str(_plain(name)): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, bytes):
        return _plain(value.decode(errors="backslashreplace"))
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return terminal.shown(str(value))
