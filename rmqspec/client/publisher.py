"""Publishing that is known to have arrived, as fast as the broker confirms.

A confirm for each message before the next one is sent costs a round trip each. Here messages are sent as they come,
up to a window; each carries a future that ends when the broker has answered for it.

Source: https://www.rabbitmq.com/docs/confirms#publisher-confirms
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from types import TracebackType

from pika import BasicProperties, spec
from pika.frame import Method

from rmqspec.client.connection import Loop
from rmqspec.client.errors import ChannelClosed, ClientError, Nacked, OutcomeUnknown, Returned, Unanswered, WindowFull
from rmqspec.client.link import Link, LoopChannel
from rmqspec.client.message import Confirmed, Message, persistent
from rmqspec.client.outbox import Outbox
from rmqspec.client.overdue import Overdue
from rmqspec.client.sent import Sent
from rmqspec.client.settings import Settings
from rmqspec.client.window import Window

__all__ = ["Publisher"]

WRITE_SIZE = 128 * 1024  # bytes that leave in one write: many small messages, or one large one


class Publisher:
    """Publishes on a connection of its own, with an I/O thread of its own. Any thread may use it, many at once.

    Args:
        source: The broker's URL, or settings.
        name: The connection's, shown in the management UI.
        window: How many messages may be unanswered.
        window_bytes: How many bytes of them.
        patience: Seconds that ``publish`` waits for room in the window before it says that there is none.
        resend: What becomes of the messages that were sent and not answered when the connection is lost. True sends
            them again after the reconnection: none is missing, some may be there twice. False ends their futures with
            ``OutcomeUnknown``.

    Raises:
        ClientError: The first connection cannot be had. Later losses are mended.

    Attributes:
        confirmed: How many messages each exchange has taken from here.
    """

    def __init__(
        self,
        source: str | Settings,
        name: str = "publisher",
        *,
        window: int = 1_000,
        window_bytes: int = 64 * 1024 * 1024,
        patience: float = 30.0,
        resend: bool = False,
    ) -> None:
        self.confirmed: Counter[str] = Counter()
        self._patience, self._resend = patience, resend
        self._window = Window(window, window_bytes)
        self._outbox = Outbox[Sent](lambda: self._link.wake())
        # From here on: touched by the link's thread alone.
        self._unanswered: dict[int, Sent] = {}
        self._channel: LoopChannel | None = None
        self._next_tag, self._first_tag, self._blocked = 1, 1, ""
        settings = Settings.of(source)
        self._overdue = Overdue(settings.answer_timeout, self._expire)
        self._link = Link(settings, name, self)
        self._link.open()

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | None = None,
        *,
        mandatory: bool = True,
    ) -> Future[Confirmed]:
        """Sends a message and returns at once with the promise of an answer.

        Args:
            exchange: Where it goes; the empty name is the default exchange, which knows each queue by its name.
            routing_key: What the exchange compares with its bindings.
            body: The payload.
            properties: By default those of persistent JSON.
            mandatory: Whether it is an error if no queue is bound for it; otherwise such a message is dropped.

        Returns:
            A future of ``Confirmed``; it raises ``Returned``, ``Nacked``, ``OutcomeUnknown``, or ``ChannelClosed``
            where there is no such exchange.

        Raises:
            WindowFull: No room came free in time.
            Unencodable: The protocol cannot carry the message.
            ClientError: The publisher has been closed, or cannot connect any more.
        """
        self._link.check_process()
        message = Message(exchange, routing_key, body, properties or persistent(), mandatory)
        sent = Sent(message, self._shape)
        if not self._window.enter(len(body), 0.0):
            self._wait_for_room(message)
        try:
            self._outbox.put(sent)
        except ClientError:
            self._window.leave(1, len(body))
            raise
        return sent

    def _wait_for_room(self, message: Message) -> None:
        # The link's own thread, as in a future's callback, would wait for itself.
        patience = 0.0 if self._link.in_thread else self._patience
        if not self._window.enter(len(message.body), patience):
            why = f"the broker blocks publishers ({self._blocked})" if self._blocked else "the broker does not keep up"
            raise WindowFull(f"no room in the window within {patience:g} s, as {why}", message)

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until every message has its answer; False if some have none after so many seconds."""
        return self._window.empty(timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Flushes and hangs up. What has no answer within so many seconds ends as ``OutcomeUnknown``."""
        if not self._outbox.ended:
            self.flush(timeout)
        self._outbox.end(ClientError("the publisher has been closed"))
        self._link.close()
        self._give_up()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def on_channel(self, channel: LoopChannel, loop: Loop) -> None:
        """The link has a channel: what waits is sent."""
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_answer)
        self._next_tag = self._first_tag = 1
        self._channel, self._loop, self._blocked = channel, loop, ""
        self._shape = (channel.channel_number, loop.body_limit)

    def on_lost(self, reason: ClientError, *, final: bool) -> None:
        """The link has lost its channel: what was sent is sent again, or ends as unknown."""
        self._channel = None
        self._overdue.forget()
        lost, self._unanswered = list(self._unanswered.values()), {}
        again = []
        for sent in lost:
            if isinstance(reason, ChannelClosed) and f"exchange '{sent.message.exchange}'" in reason.reply_text:
                self._finish(sent, reason)
            elif self._resend and not final:
                sent.returned = None  # the ack that was to follow its return is lost
                again.append(sent)
            else:
                self._finish(sent, OutcomeUnknown(f"{reason}; unknown whether it has", sent.message))
        self._outbox.put_back(again)
        if final:
            self._outbox.end(reason)
            self._give_up()

    def on_blocked(self, reason: str) -> None:
        """An alarm: nothing is sent until it is over, and the window slows the callers down."""
        self._blocked = reason
        self._overdue.restart()

    def on_work(self) -> None:
        """Sends what waits, where there is a channel and no alarm."""
        if self._channel is None or self._blocked:
            return
        pieces: list[bytes | memoryview] = []
        size = 0
        for sent in self._outbox.take():
            sent.reshape(self._shape)
            self._unanswered[self._next_tag] = sent
            self._next_tag += 1
            pieces += sent.frames
            size += len(sent.message.body)
            if size >= WRITE_SIZE:
                self._loop.write(pieces)
                pieces, size = [], 0
        if pieces:
            self._loop.write(pieces)
        if self._unanswered:
            self._overdue.watch(self._loop, lambda: self._next_tag)

    def _on_return(self, _: LoopChannel, method: spec.Basic.Return, properties: BasicProperties, body: bytes) -> None:
        # A return names no tag. Returns come in the order of publishing, each before its ack, so it is the oldest
        # unanswered message with this content.
        for sent in self._unanswered.values():
            message = sent.message
            same = (message.exchange, message.routing_key, message.body) == (method.exchange, method.routing_key, body)
            if same and sent.returned is None and message.properties.message_id == properties.message_id:
                sent.returned = method
                return

    def _on_answer(self, frame: Method[spec.Basic.Ack | spec.Basic.Nack]) -> None:
        answer = frame.method
        tag = answer.delivery_tag
        tags = range(self._first_tag, tag + 1) if answer.multiple else range(tag, tag + 1)
        settled = [sent for t in tags if (sent := self._unanswered.pop(t, None)) is not None]
        if answer.multiple:
            self._first_tag = tag + 1
        self._link.note_progress()
        settle = self._answer if isinstance(answer, spec.Basic.Ack) else self._refuse
        for sent in settled:
            settle(sent)
        self._window.leave(len(settled), sum([len(sent.message.body) for sent in settled]))

    def _answer(self, sent: Sent) -> None:
        message, returned = sent.message, sent.returned
        if returned is None:
            self.confirmed[message.exchange] += 1
            sent.set_result(Confirmed(message))
        else:
            code, text = int(returned.reply_code or 0), str(returned.reply_text)
            sent.set_exception(Returned("no queue is bound for it; declare the topology first", message, code, text))

    def _refuse(self, sent: Sent) -> None:
        sent.set_exception(Nacked("a queue refused it, as a full one does", sent.message))

    def _finish(self, sent: Sent, error: ClientError) -> None:
        sent.set_exception(error)
        self._window.leave(1, len(sent.message.body))

    def _expire(self, limit: int) -> bool:
        """Ends what has waited too long, also where lost messages are sent again: this one may be on its way."""
        while not self._blocked and self._unanswered and (tag := next(iter(self._unanswered))) < limit:
            sent = self._unanswered.pop(tag)
            error = OutcomeUnknown("the broker does not answer; unknown whether it has", sent.message)
            error.__cause__ = Unanswered(f"the broker has not confirmed a message within {self._overdue.timeout:g} s")
            self._finish(sent, error)
        return bool(self._unanswered)

    def _give_up(self) -> None:
        left = [*self._unanswered.values(), *self._outbox.take()]
        self._unanswered = {}
        for sent in left:
            self._finish(sent, OutcomeUnknown("the publisher ended before the broker had answered for", sent.message))
