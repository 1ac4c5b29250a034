"""Tables of what each queue type does with an argument or a policy key, and the cases that they make.

A row names the argument, an example of its value, and for each queue type what becomes of it. Where that has changed,
the cell has both sides: `ignored | 4.3 406` is ignored before 4.3, and refused with 406 since.
"""

import re
from itertools import pairwise
from typing import NamedTuple

import pytest


class Cell(NamedTuple):
    """One argument on one type of queue, in some versions.

    Attributes:
        name: Of the argument or key.
        value: The example.
        queue_type: "classic", "quorum" or "stream".
        outcome: As the table has it.
        since: The first release of which it is so; None for all before.
        before: The first release of which it is no longer so; None for none.
    """

    name: str
    value: object
    queue_type: str
    outcome: str
    since: str | None
    before: str | None


def cases(table, outcome, behaviours=None):
    """The cells with this outcome, as parameters `name, value, queue_type` with ids such as "x-expires on a stream".

    Args:
        table: The text; columns are apart by two spaces or more.
        outcome: Of the cells that are wanted.
        behaviours: Ids of the catalogue for some of the cases, by the ids of the cases without their versions.
    """
    return [_case(cell, behaviours or {}) for cell in _cells(table) if cell.outcome == outcome]


def rows(table):
    """The name and the value of each row."""
    return [(name, _value(value)) for name, value, *_ in _lines(table)[1:]]


def table_for(table, release):
    """What becomes of each argument on each queue type in a release: `(name, queue_type, outcome)`."""
    here = _version(release)
    for cell in _cells(table):
        if (not cell.since or here >= _version(cell.since)) and (not cell.before or here < _version(cell.before)):
            yield cell.name, cell.queue_type, cell.outcome


def _version(text):
    return tuple(map(int, text.split(".")))


def _lines(table):
    return [re.split(r"  +", line.strip()) for line in table.strip().splitlines()]


def _cells(table):
    heading, *lines = _lines(table)
    for name, value, *columns in lines:
        for queue_type, column in zip(heading[2:], columns, strict=True):
            first, *changes = column.split(" | ")
            sides = [(None, first), *[change.split() for change in changes], (None, None)]
            for (since, outcome), (before, _) in pairwise(sides):
                yield Cell(name, _value(value), queue_type, outcome, since, before)


def _value(text):
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _case(cell, behaviours):
    place = f"{cell.name} on a {cell.queue_type}" + ("" if cell.queue_type == "stream" else " queue")
    versions = [f"since {cell.since}"] if cell.since else []
    versions += [f"before {cell.before}"] if cell.before else []
    marks = [pytest.mark.behaviour(behaviours[place])] if place in behaviours else []
    if versions:
        marks.append(pytest.mark.rabbitmq(since=cell.since, before=cell.before))
    return pytest.param(cell.name, cell.value, cell.queue_type, id=" ".join([place, *versions]), marks=marks)
