"""Where it is seen what somebody uses, and what the report says of a source that was not read.

**A source is added here.** It is:

1. a class with ``name``, ``shows`` and ``read`` (:class:`Source`); :class:`~rmqspec.tools.upgrade.used.Used` gets a
   part for whatever it reads that the others do not,
2. its row in ``SOURCES``, whose ``shows`` is the field of ``recognised`` in ``differences.toml`` that it answers,
3. its option in ``rmqspec/cli/upgrade.py``,
4. a recogniser for each row of ``differences.toml`` that it can see.

The row of ``trace``, what a client and the broker say to each other, is there already; nothing reads it yet, so its
rows are listed for a person to look for. A recording is read as soon as there is a class for it, and its ``how``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from rmqspec.tools.upgrade.used import Used

__all__ = ["SOURCES", "Kind", "Shows", "Source"]

Shows = Literal["definitions", "management", "trace"]


class Source(Protocol):
    """Where it is read what somebody uses."""

    @property
    def name(self) -> str:
        """As it is called in the report; it holds no password."""

    @property
    def shows(self) -> Shows:
        """Which row of ``SOURCES`` it is of."""

    def read(self) -> Used:
        """Reads all that this source can.

        Raises:
            Unreadable: It cannot be read at all.
        """


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of source.

    Attributes:
        shows: The field of ``recognised`` that says what it shows.
        what: What it shows, in the words of the report.
        how: How it is read; None where this command cannot.
        lacking: What to do where it was read and did not have everything.
        limit: What even a whole one does not show.
    """

    shows: Shows
    what: str
    how: str | None = None
    lacking: str = ""
    limit: str = ""


SOURCES = (
    Kind(
        "definitions",
        what="what an export of the definitions shows",
        how="Read it with --definitions FILE, which rabbitmqctl export_definitions FILE writes.",
        lacking="This export does not hold it; that of a whole broker does: rabbitmqctl export_definitions FILE.",
        limit="An export holds what was there when it was made: no exclusive queues, not what clients declare later.",
    ),
    Kind(
        "management",
        what="what a running broker shows: clients, plugins, feature flags",
        how="Read it with --url http://user@host:15672.",
        lacking="This broker did not show it to this user: ask as a user with the tag administrator.",
        limit="A running broker shows the clients that were connected when it was asked.",
    ),
    Kind(
        "trace",
        what="what clients send. Neither an export nor a broker shows it: look in your clients for",
    ),
)
