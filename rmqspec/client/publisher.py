"""Publishing that is known to have arrived, as fast as the broker confirms.

A confirm for each message before the next one is sent costs a round trip each. Here messages are sent as they come,
up to a window; each carries a future that ends when the broker has answered for it.

A refusal is not a lost connection. The broker closes a channel for a message that it does not take, and names no tag;
the messages behind it were not looked at. The one at fault ends with the broker's words (``refused_messages`` finds
it); the others are sent one at a time until each has its answer, so that another one at fault harms no neighbour.

Which thread calls what, whether it may block, and under which lock. No lock is held while a callback runs.

===========================  =======================  ===============================  ===================
method                       thread                   may block                        lock, held briefly
===========================  =======================  ===============================  ===================
``publish``                  any                      for room, up to ``patience``;    window, then outbox
                                                      in a callback it does not
``flush``                    any but the two below    up to its ``timeout``            window
``close``                    any but the two below    as ``flush``, and for the        window, outbox
                                                      link's goodbye
``in_flight``, ``blocked``,  any                      no                               none: they read
``connected``
``on_…``, ``_on_…``          the link's               no                               window, outbox
``_expire``                  the link's               no                               window
``_at_deadline``             the deadlines'           no                               outbox, then window
``_give_up``                 the link's; when it has  no                               outbox, window
                             ended, who closes
callbacks of futures         the one that ends them:  they must not: nothing is sent   none
                             the link's, deadlines'   or received meanwhile
===========================  =======================  ===============================  ===================

A message keeps its place in the window until the broker has answered for it, or its channel is lost and it is not sent
again, or it could not be sent. A deadline ends the future, and gives the place back only of what is still in the
outbox: what was written may fill the buffers of the connection.

``_interrupted`` is filled by whoever publishes, and emptied by the link's thread, which alone knows where a message is:
one that is neither in the outbox nor unanswered was never handed over, and ``on_work`` gives its place back.

Source: https://www.rabbitmq.com/docs/confirms#publisher-confirms
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from weakref import WeakSet

from pika import BasicProperties, spec
from pika.frame import Method

from rmqspec.client import process, unseen
from rmqspec.client.bounds import LONGEST, check_number
from rmqspec.client.connection import Loop
from rmqspec.client.deadlines import Deadlines
from rmqspec.client.errors import (
    PERMANENT_CODES,
    ChannelClosed,
    ClientError,
    Nacked,
    NotSent,
    OutcomeUnknown,
    PublishFailed,
    PublishRefused,
    Returned,
    Unanswered,
    Unencodable,
    WindowFull,
    WrongProcess,
    WrongThread,
)
from rmqspec.client.link import GOODBYE, Link, LoopChannel
from rmqspec.client.message import Confirmed, Message, persistent
from rmqspec.client.outbox import Outbox
from rmqspec.client.overdue import Overdue
from rmqspec.client.refused_messages import judge, refused
from rmqspec.client.returns import returned_one
from rmqspec.client.sent import Sent
from rmqspec.client.settings import Settings
from rmqspec.client.window import Window

__all__ = ["Publisher"]

WRITE_SIZE = 128 * 1024  # bytes that leave in one write: many small messages, or one large one
AT_EXIT = 5.0  # seconds that a program without close() waits at its end for confirms
INTERRUPTED = 1.0  # the same behind a Ctrl-C: the broker may confirm nothing for long, as in an alarm
CLOSED = "the publisher has been closed"

_log = logging.getLogger("rmqspec.client")


class Publisher:
    """Publishes on a connection of its own, with an I/O thread of its own. Any thread may use it, many at once.

    Callbacks of its futures run in that thread, or in the one of the deadlines. They may publish, if there is room;
    they must not wait for anything.

    A program that ends without ``close`` waits for its last confirms, five seconds at most, and logs how many did not
    come. Futures that fail and that nobody looks at are logged too. A ``with`` statement closes it; where a Ctrl-C ends
    that, it waits for a second.

    Args:
        source: The broker's URL, or settings.
        name: The connection's, shown in the management UI and in the log.
        window: How many messages may be unanswered.
        window_bytes: How many bytes of them.
        patience: Seconds that ``publish`` waits for room in the window before it says that there is none.
        resend: What becomes of the messages that were sent and not answered when the connection is lost. True sends
            them again after the reconnection: none is missing, some may be there twice. False ends their futures with
            ``OutcomeUnknown``.
        on_reconnect: Called with the seconds for which there was no channel, when there is one again.
        on_blocked: Called with the broker's reason when it blocks publishers, and with an empty one when it no longer
            does. Both run in the publisher's thread.

    Raises:
        InvalidSetting: A number is out of range.
        ClientError: The first connection cannot be opened. A connection that is lost later is opened again.

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
        on_reconnect: Callable[[float], object] | None = None,
        on_blocked: Callable[[str], object] | None = None,
    ) -> None:
        check_number("window", window, 1, float("inf"))
        check_number("window_bytes", window_bytes, 1, float("inf"))
        check_number("patience", patience, 0)
        self.confirmed: Counter[str] = Counter()
        self._name, self._patience, self._resend = name, patience, resend
        self._born, self._closing = process.here(), False
        self._window = Window(window, window_bytes)
        self._interrupted: deque[Sent] = deque()  # whose publish was ended by a signal's exception
        # From here on: touched by the link's thread alone.
        self._unanswered: dict[int, Sent] = {}
        self._channel: LoopChannel | None = None
        self._next_tag, self._first_tag, self._blocked = 1, 1, ""
        self._singly, self._single = False, 0  # after a refusal: one at a time, so many of those that wait
        self._confirmed_before: Counter[str] = Counter()
        settings = Settings.of(source)
        self._deadlines = Deadlines[Sent](f"{name} (deadlines)", self._at_deadline)
        self._overdue = Overdue(settings.answer_timeout, self._expire)
        self._link = Link(settings, name, self, on_reconnect=on_reconnect, on_blocked=on_blocked)
        self._outbox = Outbox[Sent](self._link.wake)
        self._check = self._check_waiting  # bound once, not for each message
        self._link.open()
        _open.add(self)
        process.at_exit(_end_all)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: BasicProperties | None = None,
        *,
        mandatory: bool = True,
        timeout: float | None = None,
    ) -> Future[Confirmed]:
        """Sends a message and returns at once with the promise of an answer.

        Args:
            exchange: Where it goes; the empty name is the default exchange, which knows each queue by its name.
            routing_key: What the exchange compares with its bindings.
            body: The payload.
            properties: By default those of persistent JSON. They are sent as they are, with all of their headers.
            mandatory: Whether it is an error if no queue is bound for it; otherwise such a message is dropped. Of
                messages that differ in their header ``BCC`` alone, each needs a ``message_id`` for that.
            timeout: Seconds after which the future ends in any case, also while there is no connection; None leaves
                that to the settings' ``answer_timeout``, which counts from sending.

        Returns:
            A future of ``Confirmed``; it raises ``Returned``, ``Nacked``, ``PublishRefused``, ``OutcomeUnknown``, or
            ``NotSent``.

        Raises:
            WindowFull: No room came free in time.
            Unencodable: The protocol cannot carry the message.
            InvalidSetting: The timeout is no number of seconds above 0.
            WrongProcess: The publisher was opened in another process.
            ClientError: The publisher has been closed, or cannot connect any more.
        """
        if self._born is not process.here():
            self._link.check_process()
        deadline = None if timeout is None else _deadline(timeout)
        message = Message(exchange, routing_key, body, properties or persistent(), mandatory)
        sent = Sent(message, self._shape, self._check)
        try:
            if self._closing or not self._window.enter(len(body), 0.0, sent):
                self._wait_for_room(sent, timeout)
            self._outbox.put(sent)
        except ClientError:
            if sent.placed:
                self._window.leave(1, len(body))
            raise
        except BaseException:  # a signal's, as KeyboardInterrupt: where that was, the link's thread finds out
            self._interrupted.append(sent)
            self._link.wake()
            raise
        if deadline is not None:
            self._deadlines.add(deadline, sent)
        return sent

    def _wait_for_room(self, sent: Sent, timeout: float | None) -> None:
        message, patience = sent.message, self._patience if timeout is None else min(self._patience, timeout)
        size = len(message.body)
        if self._link.in_thread or self._deadlines.in_thread:  # in a callback, which would wait for its own thread
            patience, entered = 0.0, self._window.enter_again(size, sent)
        else:
            entered = not self._closing and self._window.enter(size, patience, sent)
            if self._closing:
                raise ClientError(CLOSED)
        if not entered:
            raise WindowFull(f"no room in the window within {patience:g} s, as {self._hindrance()}", message)

    def _hindrance(self) -> str:
        if self._blocked:
            return f"the broker blocks publishers ({self._blocked})"
        return "the broker does not keep up" if self._link.connected else "there is no connection to the broker"

    @property
    def in_flight(self) -> int:
        """How many messages were published and have no answer yet; those that wait for a connection count as well."""
        return self._window.count

    @property
    def blocked(self) -> str:
        """Why the broker blocks publishers, as ``low on memory``; empty where it does not."""
        return self._blocked

    @property
    def connected(self) -> bool:
        """Whether there is a connection with an open channel now."""
        return self._link.connected

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until every message has its answer; False if some have none after so many seconds.

        Raises:
            InvalidSetting: The timeout is no number.
            WrongThread: It was called in a callback.
            WrongProcess: The publisher was opened in another process.
        """
        self._check_waiting("flush()")
        _check_patience(timeout)
        return self._window.empty(None if timeout is None else min(timeout, LONGEST))

    def close(self, timeout: float = 10.0, *, goodbye: float = GOODBYE) -> None:
        """Flushes and hangs up. What has no answer within so many seconds ends as ``OutcomeUnknown``.

        What could not even be sent ends as ``NotSent``. In a fork of the process that has opened it, nothing happens.

        Args:
            timeout: Seconds to wait for answers.
            goodbye: Seconds at most that the broker has to answer the goodbye.

        Raises:
            InvalidSetting: The timeout is no number.
            WrongThread: It was called in a callback.
        """
        try:
            self._link.check_process()
        except WrongProcess:
            return
        self._check_waiting("close()")
        _check_patience(timeout)
        if not self._outbox.ended:
            self._closing = True  # from now on callbacks alone may publish, else others could keep it from its end
            self.flush(timeout)
        _open.discard(self)
        self._outbox.end(ClientError(CLOSED))
        self._link.close(goodbye=goodbye)
        self._give_up()
        self._deadlines.close()

    def _check_waiting(self, what: str) -> None:
        """Raises where waiting would be for ever: in a fork, and in a callback, which runs in one of these threads."""
        self._link.check_process()
        self._link.check_waiting(what)
        if self._deadlines.in_thread:
            raise WrongThread(f"{what} in a callback of an expired message would hold up all other deadlines")

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.close(INTERRUPTED)
        else:
            self.close()

    # What the link calls, in its thread.

    def on_channel(self, channel: LoopChannel, loop: Loop) -> None:
        """The link has a channel, on which the broker counts from one."""
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_answer)
        self._next_tag = self._first_tag = 1
        self._channel, self._loop, self._blocked = channel, loop, ""
        self._shape = (channel.channel_number, loop.body_limit)
        self._confirmed_before = self.confirmed.copy()

    def on_lost(self, reason: ClientError, *, final: bool) -> None:
        """The link has lost its channel: what was sent is sent again, or ends as unknown, or was refused."""
        self._channel = None
        self._overdue.forget()
        unanswered, self._unanswered = list(self._unanswered.values()), {}
        lost = [sent for sent in unanswered if not self._has_ended(sent)]
        if refused(reason):
            self._after_refusal(lost, reason, final)
        else:
            self._after_loss(lost, reason, final)
        if final:
            self._outbox.end(reason)
            self._give_up()

    def on_blocked(self, reason: str) -> None:
        """An alarm: nothing is sent until it is over, and the window slows the callers down."""
        self._blocked = reason
        self._overdue.restart()

    def on_work(self) -> None:
        """Sends what waits, where there is a channel and no alarm."""
        if self._interrupted:
            self._free_places()
        if self._channel is None or self._blocked or not self._channel.is_open:
            return
        if self._singly:
            self._send_one()
        if not self._singly:
            self._send_all()
        if self._unanswered:
            self._overdue.watch(self._loop, lambda: self._next_tag)

    # Sending.

    def _send_all(self) -> None:
        pieces: list[bytes | memoryview] = []
        size = 0
        for sent in self._outbox.take():
            if sent.shape is not self._shape and not self._fits(sent):
                continue
            sent.tag = tag = self._next_tag
            self._unanswered[tag] = sent
            self._next_tag = tag + 1
            pieces += sent.frames
            size += len(sent.message.body)
            if size >= WRITE_SIZE:
                self._loop.write(pieces)
                pieces, size = [], 0
        if pieces:
            self._loop.write(pieces)

    def _send_one(self) -> None:
        """After a refusal: the next one leaves when the last has its answer, until all that was refused has one."""
        while not self._unanswered:
            sent = self._outbox.take_first() if self._single else None
            if sent is None:
                self._singly, self._single = False, 0
                return
            self._single -= 1
            if self._fits(sent):
                sent.tag = self._next_tag
                self._unanswered[sent.tag] = sent
                self._next_tag += 1
                self._loop.write(sent.frames)

    def _fits(self, sent: Sent) -> bool:
        """Makes one fit the channel, and ends one that does not: its headers were made for larger frames."""
        try:
            sent.reshape(self._shape)
        except Unencodable as error:
            self._finish(sent, error)
            return False
        return True

    def _free_places(self) -> None:
        """Gives back the places of those that were interrupted before they were handed over; nobody else would."""
        while self._interrupted:
            sent = self._interrupted.popleft()
            if sent.placed and not (sent.done() or sent in self._outbox or sent in self._unanswered.values()):
                self._window.leave(1, len(sent.message.body))

    # Answers.

    def _on_return(self, _: LoopChannel, method: spec.Basic.Return, properties: BasicProperties, body: bytes) -> None:
        sent = returned_one(self._unanswered.values(), method, properties, body)
        if sent is not None:
            sent.returned = method

    def _on_answer(self, frame: Method[spec.Basic.Ack | spec.Basic.Nack]) -> None:
        answer = frame.method
        tag = answer.delivery_tag
        tags = range(self._first_tag, tag + 1) if answer.multiple else range(tag, tag + 1)
        settled = [sent for t in tags if (sent := self._unanswered.pop(t, None)) is not None]
        if answer.multiple:
            self._first_tag = tag + 1
        self._link.note_progress()
        settle = self._answer if isinstance(answer, spec.Basic.Ack) else self._nack
        count, size = len(settled), sum([len(sent.message.body) for sent in settled])
        self._window.returning(count, size)  # first: a callback may take the place of its own message
        for sent in settled:
            settle(sent)
        self._window.leave(count, size, returned=True)
        if self._singly:
            self.on_work()

    def _answer(self, sent: Sent) -> None:
        if sent.returned is None:
            self.confirmed[sent.message.exchange] += 1
            sent.set_result(Confirmed(sent.message))
        else:
            sent.set_exception(_returned(sent, sent.returned))

    def _nack(self, sent: Sent) -> None:
        sent.set_exception(Nacked("a queue rejected it, as a full one does", sent.message))

    def _finish(self, sent: Sent, error: PublishFailed | None) -> None:
        """Ends one that has an error, or none if a deadline has ended it, and gives its place back."""
        size = len(sent.message.body)
        self._window.returning(1, size)
        if error is not None:
            sent.set_exception(error)
        self._window.leave(1, size, returned=True)

    # Losses.

    def _has_ended(self, sent: Sent) -> bool:
        """Whether no answer to this one is owed any more: it was returned, or its deadline is over."""
        if sent.returned is not None:
            self._finish(sent, _returned(sent, sent.returned))
        elif sent.done():
            self._finish(sent, None)
        else:
            return False
        return True

    def _after_loss(self, lost: Sequence[Sent], reason: ClientError, final: bool) -> None:
        if not lost:
            return
        if self._resend and not final:
            _log.warning("%s: %d unanswered messages are sent again", self._name, len(lost))
            self._send_again(lost, singly=self._singly)
        else:
            self._end_unknown(lost, reason, meant=False)

    def _after_refusal(self, lost: Sequence[Sent], reason: ClientError, final: bool) -> None:
        """Ends the message that was refused, and sends the others again as far as that may be done."""
        if not lost:
            return
        before, meant, behind = judge(lost, reason, lambda name: self.confirmed[name] > self._confirmed_before[name])
        if len(meant) == 1 and self._is_sure(reason):
            self._end_refused(meant[0], reason)
            meant = []
        if self._resend and not final:
            again = [*before, *meant, *behind]
        else:
            self._end_unknown(before, reason, meant=False)
            self._end_unknown(meant, reason, meant=True)
            again = list(behind)
            for sent in again:
                sent.tag = 0  # it was written, and thrown away
        if again:
            _log.warning("%s: after a refusal %d messages are sent one at a time", self._name, len(again))
            self._send_again(again, singly=True)

    def _is_sure(self, reason: ClientError) -> bool:
        """Whether the refusal of a single message is meant for it, and not for the connection that it was on."""
        if isinstance(reason, ChannelClosed) or self._singly:
            return True
        return not self._resend and reason.reply_code in PERMANENT_CODES

    def _end_refused(self, sent: Sent, reason: ClientError) -> None:
        self._link.note_progress()  # one that is bad is no reason to open the next channel later
        words = f"the broker refused it ({reason.reply_text})"
        _log.warning("%s: %s: %s", self._name, words, sent.message)
        self._finish(sent, PublishRefused(words, sent.message, reason.reply_code, reason.reply_text))

    def _end_unknown(self, lost: Sequence[Sent], reason: ClientError, *, meant: bool) -> None:
        if lost:
            _log.warning("%s: of %d unanswered messages the outcome is unknown", self._name, len(lost))
        for sent in lost:
            self._finish(sent, _unknown(sent, reason, meant=meant))

    def _send_again(self, again: Sequence[Sent], *, singly: bool) -> None:
        if singly:
            self._singly, self._single = True, self._single + len(again)
        self._outbox.put_back(again)

    def _expire(self, limit: int) -> bool:
        """Ends what has waited too long, also where lost messages are sent again: this one may be on its way."""
        while not self._blocked and self._unanswered and (tag := next(iter(self._unanswered))) < limit:
            sent = self._unanswered.pop(tag)
            error = OutcomeUnknown("the broker does not answer; unknown whether it has", sent.message)
            error.__cause__ = Unanswered(f"the broker has not confirmed a message within {self._overdue.timeout:g} s")
            self._finish(sent, error)
        if self._singly:
            self.on_work()
        return bool(self._unanswered)

    def _at_deadline(self, sent: Sent) -> None:
        here = self._outbox.remove(sent)  # then nobody else sends it or gives its place back
        if here and not sent.tag:
            error: PublishFailed = NotSent(f"not sent before its deadline, as {self._hindrance()}", sent.message)
        else:
            error = OutcomeUnknown("not confirmed before its deadline; unknown whether the broker has", sent.message)
        if here:
            self._finish(sent, error)
        else:
            sent.set_exception(error)

    def _give_up(self) -> None:
        while self._unanswered:
            sent = self._unanswered.pop(next(iter(self._unanswered)))
            self._finish(sent, _ended(sent))
        for sent in self._outbox.take():
            self._finish(sent, _ended(sent))

    def _end(self, until: float) -> None:
        """The program ends, and nobody has called ``close``. Threads that go on publishing must not keep it."""
        self._closing = True
        if self._window.empty(max(0.0, until - time.monotonic())):
            self.close(0.0)
        else:
            words = "%s: the program ends without close(), and %d messages have no answer, as %s"
            _log.warning(words, self._name, self.in_flight, self._hindrance())


def _returned(sent: Sent, method: spec.Basic.Return) -> Returned:
    code, text = int(method.reply_code or 0), str(method.reply_text)
    return Returned("no queue is bound for it; declare the topology first", sent.message, code, text)


def _unknown(sent: Sent, reason: ClientError, *, meant: bool) -> OutcomeUnknown:
    """Of a message that was lost with its channel; with the broker's code where it may be meant for this one."""
    if meant:
        words = f"{reason}; unknown whether that means this one, and whether it has"
        return OutcomeUnknown(words, sent.message, reason.reply_code, reason.reply_text)
    return OutcomeUnknown(f"{reason}; unknown whether it has", sent.message)


def _ended(sent: Sent) -> PublishFailed:
    if sent.tag:
        return OutcomeUnknown("the publisher ended before the broker had answered for", sent.message)
    return NotSent("the publisher ended before it could be sent", sent.message)


def _check_patience(timeout: float | None) -> None:
    if timeout is not None:
        check_number("timeout", timeout, -float("inf"), float("inf"))  # but for NaN, with which a wait never ends


def _deadline(timeout: float) -> float:
    check_number("timeout", timeout, 0.000_001)
    return time.monotonic() + timeout


_open: WeakSet[Publisher] = WeakSet()


def _end_all() -> None:
    until = time.monotonic() + AT_EXIT
    for publisher in list(_open):
        publisher._end(until)
    unseen.report(kept=True)


process.after_fork(_open.clear)
