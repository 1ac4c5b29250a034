"""Which methods of a recording belong together: a request and its answer, all that opens a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from rmqspec.tools.wire.recorder import Event

__all__ = ["OPENING", "Tale"]

OPENING = {
    *(f"connection.{name}" for name in ("start", "start-ok", "tune", "tune-ok", "open", "open-ok")),
    *("channel.open", "channel.open-ok"),
}
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "basic.get": ("basic.get-ok", "basic.get-empty"),
    "basic.publish": ("basic.ack", "basic.nack"),
}


class Tale:
    """Events that are taken one after the other; an answer is taken with its request, whatever others say meanwhile."""

    def __init__(self, events: Sequence[Event], lanes: Mapping[str, str]) -> None:
        self.lanes = lanes
        self._left = dict(enumerate(events))

    def take(self) -> Event | None:
        """The next event."""
        return self._left.pop(next(iter(self._left))) if self._left else None

    def take_opening(self, first: Event) -> list[str]:
        """The methods that open this connection and its first channel."""
        methods = [first.method]
        for at, event in list(self._left.items()):
            if event.connection == first.connection:
                if event.method not in OPENING or "channel.open-ok" in methods:
                    break
                methods.append(self._left.pop(at).method)
        return methods

    def take_answer(self, request: Event) -> Event | None:
        """What came next on the channel, if it is the answer; a confirm may come much later, so it has to be near."""
        answers = ANSWERS.get(request.method, (f"{request.method}-ok",))
        where = request.connection, request.channel
        for at, event in islice(self._left.items(), 1 if request.method == "basic.publish" else None):
            if (event.connection, event.channel) == where:
                fits = event.method in answers and event.sender != request.sender
                return self._left.pop(at) if fits else None
        return None
