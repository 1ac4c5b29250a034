"""Exchanges, queues and bindings, as the methods of a spec declared them.

What the broker refused is left out. What was deleted later is not: it was there when the messages passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rmqspec.tools.wire.recorder import Event

__all__ = ["DEFAULT", "Edge", "Node", "Topology", "biggest", "topology"]

T = TypeVar("T")

MOST = 12  # exchanges and queues that a drawing holds
DEFAULT = "(default exchange)"
AMQ: Mapping[str, str] = {  # exchanges that every vhost has
    DEFAULT: "direct",
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.rabbitmq.trace": "topic",
}
DRAWN_AS_EDGES = ("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-queue-type", "alternate-exchange")
KEYS = 3  # routing keys that one edge tells


@dataclass(frozen=True, slots=True)
class Node:
    """An exchange or a queue.

    Attributes:
        kind: ``exchange`` or ``queue``.
        type: direct, fanout, …; classic, quorum, stream.
        notes: Its other arguments, as in ``x-max-length 2``.
    """

    kind: str
    name: str
    type: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """A way that messages take.

    Attributes:
        source: Kind and name of a node.
        target: The same.
        style: ``binding``, ``dead letter`` or ``alternate``.
        keys: By which routing keys or arguments.
    """

    source: tuple[str, str]
    target: tuple[str, str]
    style: str
    keys: tuple[str, ...] = ()

    @property
    def ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Both nodes."""
        return self.source, self.target

    @property
    def label(self) -> str:
        """The keys in a line."""
        more = f", +{len(self.keys) - KEYS}" if len(self.keys) > KEYS else ""
        return ", ".join(self.keys[:KEYS]) + more


@dataclass(frozen=True, slots=True)
class Topology:
    """A drawing's contents: exchanges first, each in the order in which it was declared."""

    nodes: Mapping[tuple[str, str], Node]
    edges: tuple[Edge, ...]
    left_out: int = 0

    @property
    def size(self) -> int:
        """By which the most telling one of a chapter is chosen; one that has to be cut counts as small."""
        return len(self.edges) * 2 + len(self.nodes) if not self.left_out else 1

    def sentences(self) -> Iterator[str]:
        """The same in words."""
        for edge in self.edges:
            by = f" by {edge.label}" if edge.label else ""
            yield f"{edge.style}: {edge.source[0]} {edge.source[1]} to {edge.target[0]} {edge.target[1]}{by}"


def biggest(several: Iterable[tuple[T, Topology]]) -> tuple[T, Topology] | None:
    """The one that shows most and can be read, with the name that it was given; None if there is nothing to see."""
    worth = [(name, one) for name, one in several if len(one.edges)]
    return max(worth, key=lambda pair: pair[1].size, default=None)


def topology(events: Sequence[Event]) -> Topology:
    """What these events declared."""
    sketch = _Sketch()
    for at, event in enumerate(events):
        draw = getattr(sketch, f"on_{event.method.replace('.', '_')}", None)
        if draw and event.sender == "client":
            answer = _answer(event, events[at + 1 :])
            if answer is None or not answer.method.endswith(".close"):
                draw(event.fields, answer.fields if answer else {})
    return sketch.finish()


def _answer(request: Event, later: Sequence[Event]) -> Event | None:
    """What the broker said next on this channel, or the close of the connection."""
    for event in later:
        here = event.channel == request.channel or event.method == "connection.close"
        if here and event.sender == "broker" and event.connection == request.connection:
            return event
    return None


class _Sketch:
    """Grows with each event."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[str, str], Node] = {}
        self.keys: dict[tuple[tuple[str, str], tuple[str, str], str], list[str]] = {}

    def on_exchange_declare(self, fields: Mapping[str, Any], _: Mapping[str, Any]) -> None:
        if fields.get("passive"):
            return
        name, arguments = _text(fields, "exchange"), fields.get("arguments") or {}
        self.nodes["exchange", name] = Node("exchange", name, _text(fields, "type"), _notes(arguments))
        if alternate := arguments.get("alternate-exchange"):
            self._edge(("exchange", name), self._exchange(alternate), "alternate")

    def on_queue_declare(self, fields: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        if fields.get("passive"):
            return
        name, arguments = _text(fields, "queue") or _text(answer, "queue"), fields.get("arguments") or {}
        flags = tuple(flag for flag in ("exclusive", "auto_delete") if fields.get(flag))
        kind = str(arguments.get("x-queue-type", "classic"))
        self.nodes["queue", name] = Node("queue", name, kind, (*_notes(arguments), *flags))
        if (dead := arguments.get("x-dead-letter-exchange")) is not None:
            key = arguments.get("x-dead-letter-routing-key", "")
            self._edge(("queue", name), self._exchange(dead), "dead letter", key)
            if not dead and key:
                self._edge(self._exchange(""), ("queue", key), "binding", key)

    def on_queue_bind(self, fields: Mapping[str, Any], _: Mapping[str, Any]) -> None:
        self._edge(
            self._exchange(_text(fields, "exchange")), ("queue", _text(fields, "queue")), "binding", _key(fields)
        )

    def on_exchange_bind(self, fields: Mapping[str, Any], _: Mapping[str, Any]) -> None:
        source, target = self._exchange(_text(fields, "source")), self._exchange(_text(fields, "destination"))
        self._edge(source, target, "binding", _key(fields))

    def on_basic_publish(self, fields: Mapping[str, Any], _: Mapping[str, Any]) -> None:
        queue = ("queue", _text(fields, "routing_key"))
        if not _text(fields, "exchange") and queue in self.nodes:
            self._edge(self._exchange(""), queue, "binding", queue[1])

    def finish(self) -> Topology:
        """Without edges whose ends were never declared, and not more than can be read."""
        known = sorted(self.nodes.values(), key=lambda node: node.kind)
        edges = [
            Edge(source, target, style, tuple(keys))
            for (source, target, style), keys in self.keys.items()
            if source in self.nodes and target in self.nodes
        ]
        ends = {end for edge in edges for end in edge.ends}
        known.sort(key=lambda node: (node.kind, node.name) not in ends)  # what is connected first
        shown = {(node.kind, node.name): node for node in known[:MOST]}
        kept = tuple(edge for edge in edges if edge.source in shown and edge.target in shown)
        return Topology(shown, kept, len(known) - len(shown))

    def _exchange(self, name: str) -> tuple[str, str]:
        """Its key; one that every vhost has is there without a declaration."""
        name = name or DEFAULT
        if name in AMQ:
            self.nodes.setdefault(("exchange", name), Node("exchange", name, AMQ[name]))
        return "exchange", name

    def _edge(self, source: tuple[str, str], target: tuple[str, str], style: str, key: str = "") -> None:
        keys = self.keys.setdefault((source, target, style), [])
        if key and key not in keys:
            keys.append(key)


def _key(fields: Mapping[str, Any]) -> str:
    arguments = _notes(fields.get("arguments") or {})
    return " ".join(filter(None, (_text(fields, "routing_key"), *arguments)))


def _text(fields: Mapping[str, Any], name: str) -> str:
    return str(fields.get(name) or "")


def _notes(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name} {value}" for name, value in arguments.items() if name not in DRAWN_AS_EDGES)
