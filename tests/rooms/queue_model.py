"""A queue as its promises describe it: plain data, and for each thing that one can do to it what it is afterwards.

It knows no broker and never waits. Each method leaves the old queue as it was and returns the new one.

Source: https://www.rabbitmq.com/docs/confirms#automatic-requeueing, https://www.rabbitmq.com/docs/maxlength
"""

from dataclasses import dataclass, replace
from enum import Enum

Messages = "tuple[Message, ...]"


class Place(Enum):
    """Where a message stands that was given back."""

    ITS_OWN = "where it stood before"
    FRONT = "behind what was given back before, and before all that nobody has had yet"
    TAIL = "behind all"


@dataclass(frozen=True, slots=True)
class Message:
    """A message in a queue, or in the channel's hands."""

    number: int  # its place in the order of publishing
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with a length limit and a dead-letter queue, and the one channel that takes from it.

    Attributes:
        place: Where a message stands that the channel gives back by itself.
        limit: So many messages may be ready; the head makes room.
        published: How many have been.
        returned: What was given back to the front; it is taken first.
        waiting: All else that is ready, the next one first.
        taken: What the channel holds, by delivery tag.
        tag: The last delivery tag of the channel.
        dead: What was dead-lettered, with the reason, the oldest letter first.
    """

    place: Place
    limit: int
    published: int = 0
    returned: Messages = ()
    waiting: Messages = ()
    taken: tuple[tuple[int, Message], ...] = ()
    tag: int = 0
    dead: tuple[tuple[int, str], ...] = ()

    @property
    def closes_as_promised(self) -> bool:
        """Whether what a quorum queue does at the end of the channel is told by its promises alone.

        Two things are not: which messages go when those that come back are too many; and their order where some tags
        are longer than others. For 3.10 each get is a consumer, named by its tag, and "10" ends before "9".
        """
        digits = {len(str(tag)) for tag, _ in self.taken}
        return len(digits) < 2 and len(self.ready) + len(self.taken) <= self.limit

    @property
    def ready(self) -> Messages:
        """What can be taken, the next one first."""
        return (*self.returned, *self.waiting)

    def publish(self) -> "Queue":
        """One more at the tail."""
        message = Message(self.published + 1)
        return replace(self, published=message.number, waiting=(*self.waiting, message))._fit()

    def get(self) -> "Queue":
        """The head goes over to the channel under its next tag; there must be one."""
        tag = self.tag + 1
        return replace(self._without(1), taken=(*self.taken, (tag, self.ready[0])), tag=tag)

    def ack(self, tag: int, *, multiple: bool = False) -> "Queue":
        """Done, and gone. Multiple is all up to the tag, and of tag zero it is all."""
        return self._settle(tag, multiple)[0]

    def discard(self, tag: int, *, multiple: bool = False) -> "Queue":
        """Rejected without requeue: to the dead letters."""
        queue, messages = self._settle(tag, multiple)
        return queue._bury(messages, "rejected")

    def requeue(self, tag: int, *, multiple: bool = False) -> "Queue":
        """Given back."""
        queue, messages = self._settle(tag, multiple)
        return queue._put_back(messages, self.place)._fit()

    def close(self) -> "Queue":
        """The channel ends, and all that it holds is given back. The next channel counts from one."""
        queue, messages = self._settle(0, True)
        front = Place.FRONT if self.place is Place.TAIL else self.place
        return replace(queue._put_back(messages, front), tag=0)._fit()

    def purge(self) -> "Queue":
        """Nothing is ready any more; what is in the channel's hands stays there."""
        return replace(self, returned=(), waiting=())

    def _settle(self, tag: int, multiple: bool) -> "tuple[Queue, Messages]":
        meant = {t for t, _ in self.taken if t == tag or (multiple and (t < tag or tag == 0))}
        kept = tuple((t, message) for t, message in self.taken if t not in meant)
        return replace(self, taken=kept), tuple(message for t, message in self.taken if t in meant)

    def _put_back(self, messages: Messages, place: Place) -> "Queue":
        back = tuple(replace(message, redelivered=True) for message in messages)
        if place is Place.FRONT:
            return replace(self, returned=(*self.returned, *back))
        waiting = (*self.waiting, *back)
        if place is Place.ITS_OWN:
            waiting = tuple(sorted(waiting, key=lambda message: message.number))
        return replace(self, waiting=waiting)

    def _fit(self) -> "Queue":
        excess = max(0, len(self.ready) - self.limit)
        return self._without(excess)._bury(self.ready[:excess], "maxlen")

    def _without(self, count: int) -> "Queue":
        rest = max(0, count - len(self.returned))
        return replace(self, returned=self.returned[count:], waiting=self.waiting[rest:])

    def _bury(self, messages: Messages, reason: str) -> "Queue":
        return replace(self, dead=(*self.dead, *((message.number, reason) for message in messages)))
