"""The link's side of a consumer: subscribes, takes deliveries in, and tells the broker what became of them.

Which thread calls what, whether it may block, and under which lock:

==================================  ===========  ===============  ========================
method                              thread       may block        lock
==================================  ===========  ===============  ========================
``start``                           any          no               none
``settle``, ``send``                handlers'    no               the outbox's, briefly
``quieten``                         any          no               the link's, briefly
``close``                           any but the  as ``Link.close``  none
                                    link's
``on_…``                            the link's   no               none
==================================  ===========  ===============  ========================

What holds at any moment:

1. A ``Taken`` belongs to the ``Session`` of the channel it came on. What is said of it on another is dropped: the
   broker has given that message to somebody else, and the tag is another's now.
2. ``session`` changes as a whole, in the link's thread alone; everybody else reads it once.

Source: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pika import BasicProperties
from pika.frame import Method
from pika.spec import Basic

from rmqspec.client.acks import Acks
from rmqspec.client.connection import Loop
from rmqspec.client.delivery import Delivery, Outcome
from rmqspec.client.encoding import frames, method_frame
from rmqspec.client.errors import ChannelClosed, ClientError, ConsumerCancelled
from rmqspec.client.link import GOODBYE, UNREAD_GOODBYE, Link, LoopChannel
from rmqspec.client.message import Message
from rmqspec.client.outbox import Outbox
from rmqspec.client.settings import Settings
from rmqspec.client.topology import Topology

__all__ = ["Subscription", "Taken", "Wanted"]

NOT_FOUND, RESOURCE_LOCKED = 404, 405
SILENCE = 1.0  # seconds without an answer, after which none is expected to the goodbye either

_log = logging.getLogger("rmqspec.client")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to subscribe to, and how; ``Consumer`` says what each means."""

    queue: str
    prefetch: int
    topology: Topology | None
    arguments: Mapping[str, Any]
    name: str
    requeue_pause: float
    wait_for_queue: bool


@dataclass(slots=True, eq=False)
class Session:
    """One channel, as long as it lives."""

    channel: LoopChannel
    loop: Loop
    number: int
    acks: Acks = field(default_factory=Acks)
    subscribed: bool = False
    cancelling_since: float | None = None  # until the broker has answered
    in_hand: int = 0  # deliveries that came and are not settled


class Taken(NamedTuple):
    """A delivery, and the channel that its outcome must be told on."""

    session: Session
    tag: int
    delivery: Delivery


class _Word(NamedTuple):
    """What a handler has for the broker: the outcome of a delivery, or a message that goes out before it."""

    session: Session
    tag: int = 0
    outcome: Outcome | None = None
    frames: Sequence[bytes | memoryview] = ()


class Subscription:
    """One run of a consumer.

    Args:
        settings: Where to connect.
        wanted: What to subscribe to.
        take: Called with each delivery.
        fail: Called with what ends the subscription for good.
        on_reconnect: The link's hook.
        on_blocked: The link's hook.

    Attributes:
        session: The channel of now; a ``Taken`` of another is no longer this subscription's.
        lost: What the last channel ended with, None while the first lives.
    """

    def __init__(
        self,
        settings: Settings,
        wanted: Wanted,
        take: Callable[[Taken], None],
        fail: Callable[[ClientError], None],
        on_reconnect: Callable[[float], object] | None,
        on_blocked: Callable[[str], object] | None,
    ) -> None:
        self._wanted, self._take, self._fail = wanted, take, fail
        self._quiet = self._subscribed = False
        self.session: Session | None = None
        self.lost: ClientError | None = None
        self.link = Link(settings, wanted.name, self, on_reconnect=on_reconnect, on_blocked=on_blocked)
        self._outbox = Outbox[_Word](self.link.wake)

    def start(self) -> None:
        """Connects and subscribes; ``fail`` is called if that cannot be done."""
        self.link.start()

    @property
    def in_hand(self) -> int:
        """How many deliveries came and are not settled."""
        session = self.session
        return session.in_hand if session else 0

    @property
    def waiting(self) -> int:
        """How many outcomes wait to be sent."""
        return len(self._outbox)

    def settle(self, taken: Taken, outcome: Outcome, *, wake: bool = True) -> None:
        """Has the broker told what becomes of a delivery; nothing if its channel is gone.

        Args:
            taken: The delivery.
            outcome: What becomes of it.
            wake: False if it can wait for others.

        Raises:
            ClientError: The subscription is closed.
        """
        self._outbox.put(_Word(taken.session, taken.tag, outcome), wake=wake)

    def send(self, message: Message) -> None:
        """Publishes on the subscription's channel, without a confirm, with the next outcome.

        Raises:
            Unencodable: The protocol cannot carry the message.
            ClientError: The subscription is closed.
        """
        self.link.check_process()
        session = self.session
        if session is not None:
            encoded = frames(message, session.number, session.loop.body_limit)
            self._outbox.put(_Word(session, frames=encoded), wake=False)

    def quieten(self) -> None:
        """Takes no more deliveries; what was taken can still be settled."""
        self._quiet = True
        self.link.wake()

    def close(self, *, wait: bool = True) -> None:
        """Sends what there is to be sent, and hangs up."""
        session = self.session
        since = session.cancelling_since if session is not None else None
        silent = since is not None and time.monotonic() - since >= SILENCE
        self.link.close(wait=wait, goodbye=UNREAD_GOODBYE if silent else GOODBYE)
        self._outbox.end(ClientError(f"the consumer of {self._wanted.queue!r} has ended"))

    def on_channel(self, channel: LoopChannel, loop: Loop) -> None:
        """The link has a channel: declares and consumes, all in one go; a refusal closes the channel."""
        self.session = session = Session(channel, loop, channel.channel_number)
        wanted = self._wanted
        if self._quiet:
            return
        if wanted.topology:
            wanted.topology.send(channel)
        channel.basic_qos(prefetch_count=wanted.prefetch)
        channel.add_on_cancel_callback(self._on_cancel)

        queue, take = wanted.queue, self._take

        def on_delivery(_: LoopChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            session.in_hand += 1
            exchange, key, redelivered = method.exchange or "", method.routing_key or "", bool(method.redelivered)
            delivery = Delivery(queue, exchange, key, redelivered, properties, body)
            take(Taken(session, method.delivery_tag or 0, delivery))

        session.subscribed = True
        channel.basic_consume(
            wanted.queue,
            on_delivery,
            consumer_tag=wanted.name,
            arguments=dict(wanted.arguments) or None,
            callback=self._on_subscribed,
        )

    def on_lost(self, reason: ClientError, *, final: bool) -> None:
        """The link has lost its channel. A refusal would come again, so it ends the subscription.

        But an exclusive queue that it has had is locked for as long as the broker believes in the lost connection.
        """
        self.session, self.lost = None, reason
        waits = (self._wanted.wait_for_queue and reason.reply_code == NOT_FOUND) or (
            self._subscribed and reason.reply_code == RESOURCE_LOCKED
        )
        if final or (isinstance(reason, ChannelClosed) and not waits):
            self._fail(reason)

    def on_blocked(self, reason: str) -> None:
        """An alarm holds up publishers, not consumers."""

    def on_work(self) -> None:
        """Tells the broker what handlers have for it, all in one write; what is for a lost channel is dropped."""
        words, session = self._outbox.take(), self.session
        if session is None or not session.channel.is_open:
            return
        if self._quiet and session.subscribed:
            session.subscribed, session.cancelling_since = False, time.monotonic()
            session.channel.basic_cancel(self._wanted.name, lambda _: self._on_cancelled(session))
        pieces: list[bytes | memoryview] = []
        acked, nacked = [], []
        for word in words:
            if word.session is not session:
                continue
            if word.outcome is None:
                pieces += word.frames
            elif word.outcome in (Outcome.ACK, Outcome.RETRY):
                acked.append(word.tag)
            elif word.outcome is Outcome.REQUEUE_LATER:
                self._requeue_later(session, word.tag)
            else:
                nacked.append(word.tag)
                nack = Basic.Nack(word.tag, requeue=word.outcome is Outcome.REQUEUE)
                pieces.append(method_frame(nack, session.number))
        pieces += [method_frame(Basic.Ack(*ack), session.number) for ack in session.acks.settle(acked, nacked)]
        session.in_hand -= len(acked) + len(nacked)
        if acked or nacked:
            self.link.note_progress()
        if pieces:
            session.loop.write(pieces)

    def _on_subscribed(self, _: Method[Basic.ConsumeOk]) -> None:
        self._subscribed = True

    @staticmethod
    def _on_cancelled(session: Session) -> None:
        session.cancelling_since = None

    def _requeue_later(self, session: Session, tag: int) -> None:
        # Should the channel be lost meanwhile, the broker requeues it by itself.
        word = _Word(session, tag, Outcome.REQUEUE)
        session.loop.ioloop.call_later(self._wanted.requeue_pause, lambda: self._requeue(word))

    def _requeue(self, word: _Word) -> None:
        if word.session is self.session and not self._outbox.ended:
            self._outbox.put(word)

    def _on_cancel(self, _: Method[Basic.Cancel]) -> None:
        words = f"the broker ended the subscription to {self._wanted.queue!r}: was the queue deleted?"
        error = ConsumerCancelled(words)
        if self._wanted.wait_for_queue:
            self.link.reopen_channel(error)
        else:
            _log.warning("%s: %s", self._wanted.name, error)
            self._fail(error)
