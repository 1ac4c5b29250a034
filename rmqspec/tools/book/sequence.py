"""What a spec said to the broker and heard from it, as steps that a person can follow.

A recording has every method. A step is what belongs together: a request with its answer, a publish with its confirm,
the six methods that open a connection, twenty publishes of one kind. Nothing is invented: each step says which methods
it consists of.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rmqspec.tools.book.phrases import phrase, rest
from rmqspec.tools.book.tale import OPENING, Tale
from rmqspec.tools.book.words import lane_names
from rmqspec.tools.wire.recorder import Event

__all__ = ["Step", "Story", "story"]

FIRST, LAST = 28, 14  # steps that are shown of a long sequence
ALIKE = 3  # so many of one kind in a row are told one by one; of more than these, the first and how many
SETUP = 5  # declarations in a row that are told one by one; of more, how many of what
DECLARING: Mapping[str, str] = {
    "exchange.declare": "exchanges",
    "queue.declare": "queues",
    "queue.bind": "bindings",
    "exchange.bind": "bindings",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One arrow.

    Attributes:
        number: Counted from 1.
        lane: Who, beside the broker.
        arrow: ``→`` to the broker, ``←`` from it; with an answer ``⇄`` and ``⇆``.
        method: As in the protocol, or several of them.
        words: What matters of it, in a line.
        fields: What else was noted of it, as (name, value).
        body: An excerpt of the message, if there is one.
        size: Bytes of the whole body.
        times: How often in a row.
    """

    number: int
    lane: str
    arrow: str
    method: str
    words: str
    fields: tuple[tuple[str, str], ...] = ()
    body: str = ""
    size: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True)
class Story:
    """All steps of a spec, or the first and the last of many.

    Attributes:
        lanes: Who takes part, beside the broker, in order of appearance.
        head: The steps, or the first of them.
        missing: How many are not shown between head and tail, or were not recorded.
        tail: The last steps, if some are missing.
    """

    lanes: tuple[str, ...]
    head: tuple[Step, ...]
    missing: int = 0
    tail: tuple[Step, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those that are shown."""
        return self.head + self.tail

    @property
    def shape(self) -> tuple[tuple[str, str, str], ...]:
        """What the broker decided; two runs have it in common if the two brokers did the same, sooner or later."""
        return tuple(sorted({said for said in map(_said, self.steps) if said}))


# Of what the broker says: its yes, which may come earlier or later, and a goodbye that is no complaint.
UNEVEN = re.compile(r"basic\.ack|.*-ok")
TIDY = re.compile(r"^(channel \d+, )?200 ")
CHANGING = re.compile(r"“.*”|[0-9a-f]*\d[0-9a-f-]*|amq\.\S+|ctag\S+")  # bodies, numbers, names made for one run


def story(events: Sequence[Event], left_out: int, node: str) -> Story:
    """Makes steps of a recording.

    Args:
        events: Oldest first.
        left_out: How many were not kept in its middle.
        node: The spec's id in pytest, by which its own connections are called.
    """
    lanes = lane_names([event.connection for event in events], node)
    shown = tuple(dict.fromkeys(lanes[event.connection] for event in events))
    gap = len(events) // 2 if left_out else len(events)
    first, second = (list(_runs(_gather(Tale(part, lanes)))) for part in (events[:gap], events[gap:]))
    if not left_out and len(first) <= FIRST + LAST:
        return Story(shown, _numbered(first, 1))
    end = (second or first[FIRST:])[-LAST:]
    missing = len(first) + len(second) + left_out - len(first[:FIRST]) - len(end)
    return Story(shown, _numbered(first[:FIRST], 1), missing, _numbered(end, len(first) + len(second) - len(end) + 1))


def _numbered(steps: Iterable[Step], begin: int) -> tuple[Step, ...]:
    return tuple(replace(step, number=number) for number, step in enumerate(steps, begin))


def _said(step: Step) -> tuple[str, str, str] | None:
    method, words = step.method, step.words
    if step.arrow in "→⇄":
        words = words.partition(" ⇢ ")[2]
        if words.startswith("nack"):
            method = "basic.nack"
        elif method != "basic.get":
            return None
    words = words.partition(" ⇢ ")[0]
    if UNEVEN.fullmatch(method) or TIDY.match(words):
        return None
    return step.lane, method, "" if method == "basic.nack" else CHANGING.sub("", words)


def _gather(tale: Tale) -> Iterator[Step]:
    while event := tale.take():
        lane = tale.lanes[event.connection]
        if event.method in OPENING and event.method.startswith("connection."):
            methods = tale.take_opening(event)
            words = "and a channel" if "channel.open-ok" in methods else ""
            yield Step(0, lane, "⇄", "opens a connection", words, (("methods", ", ".join(methods)),))
        else:
            yield _step(lane, event, tale.take_answer(event))


def _step(lane: str, event: Event, answer: Event | None) -> Step:
    words, fields = phrase(event), rest(event)
    teller = answer if answer and answer.size else event
    if answer is None:
        arrow = "→" if event.sender == "client" else "←"
        return Step(0, lane, arrow, event.method, words, fields, event.body, event.size)
    reply = f"{_short(answer.method, event.method)} {phrase(replace(answer, channel=0))}".strip()  # the same channel
    both = (*fields, *((f"{answer.method} {name}", value) for name, value in rest(answer)))
    arrow = "⇄" if event.sender == "client" else "⇆"
    return Step(0, lane, arrow, event.method, f"{words} ⇢ {reply}".strip(), both, teller.body, teller.size)


def _short(answer: str, request: str) -> str:
    """``ok`` instead of ``queue.declare-ok``."""
    return answer.removeprefix(f"{request}-").removeprefix("basic.")


def _runs(steps: Iterable[Step]) -> Iterator[Step]:
    """Says many declarations in a row as one step, and many of one kind."""
    for _, group in groupby(steps, _kind):
        run = list(group)
        if run[0].method in DECLARING and len(run) > SETUP and not any("passive" in step.words for step in run):
            yield _setup(run)
        elif run[0].method not in DECLARING and len(run) > ALIKE:
            yield replace(run[0], times=len(run))
        else:
            yield from run


def _kind(step: Step) -> tuple[str, ...]:
    if step.method in DECLARING and step.arrow != "←":
        return step.lane, step.arrow
    return step.lane, step.arrow, step.method, re.sub(r"“.*?”|#\d+", "", step.words)


def _setup(run: Sequence[Step]) -> Step:
    counts = Counter(DECLARING[step.method] for step in run)
    words = ", ".join(f"{count} {name if count > 1 else name.removesuffix('s')}" for name, count in counts.items())
    each = tuple((step.method, step.words) for step in run)
    return Step(0, run[0].lane, run[0].arrow, "declares", words, each)
