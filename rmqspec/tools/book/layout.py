"""Draws a topology: messages go from left to right, exchanges are rounded, queues are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

from markupsafe import Markup

from rmqspec.tools.book.svg import drawing, element, fit
from rmqspec.tools.book.topology import Edge, Node, Topology

__all__ = ["topology_drawing"]

WIDE, HIGH, NOTE = 156.0, 40.0, 14.0  # pixels: of a node, and of each line of notes
ACROSS, DOWN, MARGIN = 120.0, 22.0, 4.0  # pixels: between columns, between rows, around
NOTES = 3  # lines of notes that a node shows
SIZE = 11.0  # pixels of small text
STYLES = {"binding": "bind", "dead letter": "dead", "alternate": "alt"}

Name = tuple[str, str]


def topology_drawing(name: str, topology: Topology, title: str) -> Markup:
    """The drawing.

    Args:
        name: Unique in its page.
        topology: What is drawn.
        title: What it is about.
    """
    plan = _Plan(topology)
    text = ". ".join(topology.sentences())
    marker = element("path", d="M0 0L8 4L0 8z", class_="tip")
    tip = element("marker", marker, id=f"{name}-m", viewBox="0 0 8 8", refX=8, refY=4, markerWidth=8, markerHeight=8,
                  orient="auto-start-reverse", markerUnits="userSpaceOnUse")  # fmt: skip
    parts = (element("defs", tip), *plan.edges(f"url(#{name}-m)"), *plan.nodes(), *plan.labels())
    return drawing(name, plan.width, plan.height, title, text, parts)


class _Plan:
    """Where everything stands."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._columns = _columns(topology)
        self._at: dict[Name, tuple[float, float]] = {}
        tallest = max((self._tall(column) for column in self._columns), default=0.0)
        for place, column in enumerate(self._columns):
            y = MARGIN + (tallest - self._tall(column)) / 2
            for name in column:
                self._at[name] = (MARGIN + place * (WIDE + ACROSS), y)
                y += _height(topology.nodes[name]) + DOWN
        returning = [edge for edge in topology.edges if self._returns(edge)]
        self.width = MARGIN * 2 + len(self._columns) * (WIDE + ACROSS) - ACROSS + (46 if returning else 0)
        self.height = MARGIN * 2 + tallest + (34 if returning else 0)

    def nodes(self) -> Iterator[Markup]:
        """A box for each, with its name, its type and its other arguments."""
        for name, node in self._topology.nodes.items():
            x, y = self._at[name]
            tall = _height(node)
            yield element("rect", x=x, y=y, width=WIDE, height=tall, rx=18 if node.kind == "exchange" else 3,
                          class_=f"node {node.kind}")  # fmt: skip
            middle = x + WIDE / 2
            yield element("text", fit(node.name, WIDE - 14, 12), x=middle, y=y + 17, class_="name")
            yield element("text", f"{node.type} {node.kind}", x=middle, y=y + 32, class_="kind")
            for line, note in enumerate(node.notes[:NOTES]):
                words = fit(note, WIDE - 14, SIZE - 1)
                yield element("text", words, x=middle, y=y + 46 + NOTE * line, class_="note")

    def edges(self, tip: str) -> Iterator[Markup]:
        """A line for each, with a point at its end."""
        for edge in self._topology.edges:
            yield element("path", d=self._path(edge)[0], class_=f"edge {STYLES[edge.style]}", marker_end=tip)

    def labels(self) -> Iterator[Markup]:
        """The keys, over everything else."""
        taken: list[tuple[float, float]] = []
        for edge in self._topology.edges:
            words = edge.label or ("" if edge.style == "binding" else edge.style)
            _, x, y = self._path(edge)
            while any(abs(x - left) < ACROSS * 0.8 and abs(y - top) < SIZE + 1 for left, top in taken):
                y += SIZE + 2
            if words:
                taken.append((x, y))
                yield element("text", fit(words, ACROSS - 12, SIZE), x=x, y=y - 3, class_="key")

    def _path(self, edge: Edge) -> tuple[str, float, float]:
        """The curve, and where its label stands."""
        (x1, y1), (x2, y2) = self._at[edge.source], self._at[edge.target]
        y1 += _height(self._topology.nodes[edge.source]) / 2
        y2 += _height(self._topology.nodes[edge.target]) / 2
        if not self._returns(edge):
            x1 += WIDE
            bend = (x2 - x1) / 2 if x2 - x1 < WIDE else ACROSS / 2
            curve = f"M{x1:.0f} {y1:.0f}C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
            # in the gap before the target, where no node stands
            share = 0.5 if x2 - x1 < WIDE else 1 - ACROSS / 2 / (x2 - x1)
            return curve, x1 + (x2 - x1) * share, y1 + (y2 - y1) * (0.5 if share == 0.5 else 0.9)
        if x1 == x2:  # in one column, around its right side
            out = x1 + WIDE + 44
            curve = f"M{x1 + WIDE:.0f} {y1:.0f}C{out:.0f} {y1:.0f} {out:.0f} {y2:.0f} {x2 + WIDE:.0f} {y2:.0f}"
            return curve, x1 + WIDE + 40, (y1 + y2) / 2 + 4
        low = self.height - 14
        curve = (
            f"M{x1 + WIDE / 2:.0f} {self._foot(edge.source):.0f}C{x1 + WIDE / 2:.0f} {low:.0f}"
            f" {x2 + WIDE / 2:.0f} {low:.0f} {x2 + WIDE / 2:.0f} {self._foot(edge.target):.0f}"
        )
        return curve, (x1 + x2 + WIDE) / 2, low - 6

    def _foot(self, name: Name) -> float:
        return self._at[name][1] + _height(self._topology.nodes[name])

    def _returns(self, edge: Edge) -> bool:
        return self._at[edge.target][0] <= self._at[edge.source][0]

    def _tall(self, column: list[Name]) -> float:
        return sum(_height(self._topology.nodes[name]) for name in column) + DOWN * (len(column) - 1)


def _height(node: Node) -> float:
    return HIGH + NOTE * min(NOTES, len(node.notes))


def _columns(topology: Topology) -> list[list[Name]]:
    """Each node one column behind the last of those that lead to it; a way that leads back counts for nothing."""
    depth = _depths(topology)
    columns: dict[int, list[Name]] = defaultdict(list)
    for name in topology.nodes:
        columns[depth[name]].append(name)
    ordered = [columns[place] for place in sorted(columns)]
    for before, column in (*pairwise(ordered), *pairwise(reversed(ordered)), *pairwise(ordered)):
        places = {name: place for place, name in enumerate(before)}
        middle = {name: _middle(name, topology, places) for name in column}
        column.sort(key=middle.__getitem__)
    return ordered


def _depths(topology: Topology) -> dict[Name, int]:
    after: Mapping[Name, list[Name]] = defaultdict(list)
    for edge in topology.edges:
        after[edge.source].append(edge.target)
    depth: dict[Name, int] = {}

    def visit(name: Name, level: int, path: tuple[Name, ...]) -> None:
        if name in path or depth.get(name, -1) >= level:
            return
        depth[name] = level
        for target in after[name]:
            visit(target, level + 1, (*path, name))

    targets = {edge.target for edge in topology.edges if edge.target != edge.source}
    for name in (*(node for node in topology.nodes if node not in targets), *topology.nodes):
        if name not in depth:
            alone = name[0] == "queue" and not after[name] and name not in targets and bool(targets)
            visit(name, int(alone), ())
    return depth


def _middle(name: Name, topology: Topology, places: Mapping[Name, int]) -> float:
    """How high its neighbours in the column beside it stand, on the average; without one, last."""
    ends = [edge.source if edge.target == name else edge.target for edge in topology.edges if name in edge.ends]
    beside = [places[end] for end in ends if end in places]
    return sum(beside) / len(beside) if beside else float(len(places))
