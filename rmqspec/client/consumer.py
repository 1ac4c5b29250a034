"""Consuming with manual acknowledgement: a message is gone only when its work is done.

Two kinds of threads share the work. The link's thread talks to the broker: it takes deliveries in, sends
acknowledgements out and answers heartbeats. Handlers run elsewhere, as long as they like; the first in the thread that
calls ``run``.

Source: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from pika import BasicProperties
from pika.frame import Method
from pika.spec import Basic

from rmqspec.client.acks import Acks
from rmqspec.client.connection import Loop
from rmqspec.client.delivery import Delivery, Handler, Outcome
from rmqspec.client.encoding import frames, method_frame
from rmqspec.client.errors import ChannelClosed, ClientError, ConsumerCancelled
from rmqspec.client.link import Link, LoopChannel
from rmqspec.client.message import Message
from rmqspec.client.outbox import Outbox
from rmqspec.client.settings import Settings
from rmqspec.client.topology import Topology

__all__ = ["Consumer", "Delivery", "Handler", "Outcome"]


class _Word(NamedTuple):
    """What a handler has for the broker: the outcome of a delivery, or a message that goes out before it."""

    generation: int  # of the channel that it is for
    tag: int = 0
    outcome: Outcome | None = None
    frames: Sequence[bytes | memoryview] = ()


class Consumer:
    """Feeds the messages of one queue to a handler.

    When the connection is lost it is opened again, the topology is declared again, and consuming goes on. What was
    unacknowledged is delivered again by the broker; an acknowledgement that comes too late for it is dropped.

    Args:
        source: The broker's URL, or settings.
        queue: Whose messages.
        handler: Its outcome is told to the broker after it has returned. If it raises, the delivery stays
            unacknowledged and ``run`` raises too; the broker gives the message to somebody else.
        prefetch: How many unacknowledged messages the broker may have out with this consumer. 1 is fair where work
            takes long; see https://www.rabbitmq.com/docs/consumer-prefetch.
        concurrency: How many handlers run at once, each in a thread. Acknowledgements then come in any order.
        ack_batch: Acknowledge so many at once while more are waiting. What is unacknowledged at a crash comes again.
        topology: Declared before consuming, at each connection.
        retry: What is done with a delivery whose outcome is ``RETRY``, as ``RetryLadder.climb`` does, before it is
            acknowledged. Without one such an outcome is an error.
        arguments: Of the subscription, as ``{"x-priority": 10}``; they are the ``x-…`` that the broker knows. See
            https://www.rabbitmq.com/docs/consumer-priority.
        name: The connection's and the consumer tag, shown in the management UI.

    Attributes:
        outcomes: How many deliveries ended in which way.
    """

    def __init__(
        self,
        source: str | Settings,
        queue: str,
        handler: Handler,
        *,
        prefetch: int = 1,
        concurrency: int = 1,
        ack_batch: int = 1,
        topology: Topology | None = None,
        retry: Callable[[Delivery], object] | None = None,
        arguments: Mapping[str, str | int] | None = None,
        name: str = "consumer",
    ) -> None:
        self._retry, self._arguments = retry, dict(arguments or {})
        self.queue, self.outcomes = queue, Counter[Outcome]()
        self._handler, self._prefetch, self._concurrency = handler, prefetch, concurrency
        self._ack_batch, self._topology, self._name = ack_batch, topology, name
        self._inbox: SimpleQueue[tuple[int, int, Delivery] | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._guard = threading.Lock()
        self._outbox = Outbox[_Word](lambda: self._link.wake())
        # From here on: touched by the link's thread alone.
        self._channel: LoopChannel | None = None
        self._generation, self._acks = 0, Acks()
        self._link = Link(Settings.of(source), name, self)

    def run(self) -> None:
        """Consumes until ``stop`` is called, and returns when what is in hand is settled.

        Raises:
            ConsumerCancelled: The queue was deleted.
            ChannelClosed: There is no such queue, or it is somebody else's.
            ClientError: The first connection cannot be had. Later losses are mended.
        """
        self._link.open()
        helpers = [threading.Thread(target=self._work, name=f"{self._name} {n}") for n in range(1, self._concurrency)]
        for helper in helpers:
            helper.start()
        self._work()
        for helper in helpers:
            helper.join()
        self._link.close()
        if self._error:
            raise self._error

    def stop(self) -> None:
        """Ends ``run`` after the deliveries in hand. Any thread and any signal handler may call it."""
        self._stopping.set()
        for _ in range(self._concurrency):
            self._inbox.put(None)

    def send(self, message: Message) -> None:
        """Publishes on the consumer's own channel, without a confirm, before the outcome of the delivery in hand.

        Raises:
            Unencodable: The protocol cannot carry the message.
        """
        self._outbox.put(_Word(self._generation, frames=frames(message, *self._shape)), wake=False)

    def _work(self) -> None:
        while (item := self._inbox.get()) is not None:
            generation, tag, delivery = item
            # A delivery of a lost channel is on its way to somebody already; one of a stopping consumer goes back.
            if self._stopping.is_set() or generation != self._generation:
                continue
            try:
                outcome = self._handler(delivery)
                if outcome is Outcome.RETRY:
                    self._put_off(delivery)
            except BaseException as error:
                self._fail(error)
                return
            self._settle(generation, tag, outcome)

    def _put_off(self, delivery: Delivery) -> None:
        if self._retry is None:
            raise ValueError(
                f"the handler of {self.queue!r} asks for a retry, and the consumer was given no policy for it"
            )
        self._retry(delivery)

    def _settle(self, generation: int, tag: int, outcome: Outcome) -> None:
        with self._guard:
            self.outcomes[outcome] += 1
        wake = len(self._outbox) + 1 >= self._ack_batch or self._inbox.empty()
        # Where there is no connection the channel is lost, and with it whatever could be settled.
        self._outbox.put(_Word(generation, tag, outcome), wake=wake)

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.stop()

    def on_channel(self, channel: LoopChannel, loop: Loop) -> None:
        """The link has a channel: declares and consumes, all in one go; a refusal closes the channel."""
        self._channel, self._generation = channel, self._generation + 1
        self._acks, self._loop, self._shape = Acks(), loop, (channel.channel_number, loop.body_limit)
        if self._topology:
            self._topology.send(channel)
        channel.basic_qos(prefetch_count=self._prefetch)
        channel.add_on_cancel_callback(self._on_cancel)
        channel.basic_consume(self.queue, self._on_delivery, consumer_tag=self._name, arguments=self._arguments)

    def on_lost(self, reason: ClientError, *, final: bool) -> None:
        """The link has lost its channel. A refusal would come again, so it ends the consumer.

        One that is stopped has settled all that it could: how its goodbye was answered is no error.
        """
        self._channel = None
        self._generation += 1
        if isinstance(reason, ChannelClosed) or (final and not self._stopping.is_set()):
            self._fail(reason)

    def on_blocked(self, reason: str) -> None:
        """An alarm holds up publishers, not consumers."""

    def _on_delivery(self, _: LoopChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        delivery = Delivery(
            self.queue, method.exchange or "", method.routing_key or "", bool(method.redelivered), properties, body
        )
        self._inbox.put((self._generation, method.delivery_tag or 0, delivery))

    def _on_cancel(self, _: Method[Basic.Cancel]) -> None:
        words = f"the broker ended the subscription to {self.queue!r}: was the queue deleted?"
        self._fail(ConsumerCancelled(words))

    def on_work(self) -> None:
        """Sends what handlers have for the broker; what is for a channel that is lost is dropped."""
        # All in one write: a reply and its ack, or the answers to many deliveries.
        outbox, channel = self._outbox.take(), self._channel
        if channel is None or not channel.is_open:
            return
        pieces: list[bytes | memoryview] = []
        acked, nacked, number = [], [], channel.channel_number
        for word in outbox:
            if word.generation != self._generation:
                continue
            if word.outcome is None:
                pieces += word.frames
            elif word.outcome in (Outcome.ACK, Outcome.RETRY):
                acked.append(word.tag)
            else:
                nacked.append(word.tag)
                nack = Basic.Nack(word.tag, requeue=word.outcome is Outcome.REQUEUE)
                pieces.append(method_frame(nack, number))
        pieces += [method_frame(Basic.Ack(*ack), number) for ack in self._acks.settle(acked, nacked)]
        if acked or nacked:
            self._link.note_progress()
        if pieces:
            self._loop.write(pieces)
