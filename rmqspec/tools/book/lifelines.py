"""Draws a story as a sequence diagram: a lifeline for each connection, one for the broker, an arrow for each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from markupsafe import Markup

from rmqspec.tools.book.sequence import Step, Story
from rmqspec.tools.book.svg import cut, drawing, element, fit

__all__ = ["lifelines"]

MARGIN, GUTTER, HEAD = 4.0, 24.0, 32.0  # pixels: around, for the numbers, for the names
LANE, ROW = 108.0, 34.0  # pixels: between clients, for a step
REACH, LESS = 640.0, 52.0  # pixels: from the last client to the broker, and how much less for each client
CLIENTS = 5  # lifelines; whoever comes after them shares the last
SIZE = 11.0  # pixels of the text
ONE_LINE = 14  # characters of a name
OTHERS = "others"


def lifelines(name: str, story: Story, title: str) -> Markup:
    """The drawing.

    Args:
        name: Unique in its page.
        story: What is drawn.
        title: What it is about.
    """
    plan = _Plan(story)
    text = f"{len(story.steps)} steps between {', '.join(plan.lanes)} and the broker; the list below says the same."
    return drawing(name, plan.width, plan.height, title, text, plan.parts())


class _Plan:
    """Where everything stands."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self.lanes = named = _named(story)
        first = MARGIN + GUTTER + LANE / 2
        self._x = {lane: first + LANE * place for place, lane in enumerate(named)}
        self._broker = max(self._x.values(), default=first) + REACH - LESS * len(named)
        self.width = self._broker + LANE / 2 + MARGIN
        rows = len(story.steps) + bool(story.missing)
        self.height = MARGIN * 2 + HEAD + ROW * rows + ROW / 2

    def parts(self) -> Iterator[Markup]:
        """All elements, what lies below first."""
        for lane, x in self._x.items():
            yield from self._lifeline(lane, x, "client")
        yield from self._lifeline("broker", self._broker, "broker")
        y = MARGIN + HEAD + ROW
        for step in self._story.head:
            yield self._step(step, y)
            y += ROW
        if self._story.missing:
            yield self._gap(y)
            y += ROW
        for step in self._story.tail:
            yield self._step(step, y)
            y += ROW

    def _lifeline(self, name: str, x: float, kind: str) -> Iterator[Markup]:
        yield element("path", d=f"M{x:.0f} {MARGIN + HEAD:.0f}V{self.height - MARGIN:.0f}", class_="life")
        box = {"x": x - LANE / 2 + 4, "y": MARGIN, "width": LANE - 8, "height": HEAD, "rx": 6}
        yield element("rect", class_=f"who {kind}", **box)
        yield from _name(name, x)

    def _step(self, step: Step, y: float) -> Markup:
        x = self._x.get(step.lane, self._x.get(OTHERS, 0.0))
        number = element("text", step.number, x=MARGIN + GUTTER - 8, y=y + 4, class_="no")
        return Markup("").join((number, self._label(step, x, y), self._arrow(step.arrow, x, y)))

    def _label(self, step: Step, x: float, y: float) -> Markup:
        method = f"{step.method} ×{step.times}" if step.times > 1 else step.method  # noqa: RUF001 - how often
        who = "" if step.lane in self._x else f"{step.lane}: "
        words = fit(f"{who}{method} {step.words}", self._broker - x - 20, SIZE)
        method, rest = words[: len(who + method)], words[len(who + method) :]
        return element("text", element("tspan", method, class_="m") + rest, x=x + 10, y=y - 5, class_="says")

    def _arrow(self, arrow: str, x: float, y: float) -> Markup:
        path, end = f"M{x:.0f} {y:.0f}H{self._broker:.0f}", self._broker
        if arrow in "→⇄⇆":
            path += f"m-7 -4l7 4l-7 4M{end:.0f} {y:.0f}"
        if arrow in "←⇄⇆":
            path += f"M{x + 7:.0f} {y - 4:.0f}l-7 4l7 4"
        return element("path", d=path, class_="back" if arrow in "←⇆" else "go")

    def _gap(self, y: float) -> Markup:
        middle = (self._x[self.lanes[0]] + self._broker) / 2 if self.lanes else self._broker
        return element("text", f"… {self._story.missing} are not shown …", x=middle, y=y, class_="gap")


def _named(story: Story) -> tuple[str, ...]:
    """Who has a lifeline of its own: all, or those who say most."""
    if len(story.lanes) <= CLIENTS:
        return story.lanes
    most = {lane for lane, _ in Counter(step.lane for step in story.steps).most_common(CLIENTS - 1)}
    return (*(lane for lane in story.lanes if lane in most), OTHERS)


def _name(name: str, x: float) -> Iterator[Markup]:
    """On one line or on two."""
    first, _, second = name.partition(" ") if len(name) > ONE_LINE else (name, "", "")
    if not second:
        yield element("text", cut(first, ONE_LINE), x=x, y=MARGIN + 20, class_="name")
        return
    for place, words in enumerate((first, second)):
        yield element("text", cut(words, ONE_LINE + 2), x=x, y=MARGIN + 14 + 12 * place, class_="name two")
