"""A connection that is kept: opened, served by a thread of its own, and opened again when it is lost.

pika's connections belong to one thread. Here that thread is ours: it does all reading and writing, answers heartbeats
however long a handler takes, and reconnects with growing, random pauses, so that a thousand clients of a broker that
comes back do not all knock at once. Everybody else leaves work in an ``Outbox`` and calls ``wake``.

Which thread calls what, whether it may block, and under which lock:

====================================  ===========  ===================================  =========================
method                                thread       may block                            lock
====================================  ===========  ===================================  =========================
``wake``                              any          no                                   ``_guard``, briefly
``open``                              any but its  until the first channel or refusal   none
``close``                             any but its  up to ``goodbye`` + 1 s              ``_guard``, briefly
``check_process``, ``check_waiting``  any          no                                   none
``state``, ``blocked``, ``left``      any reads    no                                   none: the link's writes
``note_progress``                     the link's   no                                   none
``Tenant.on_…``, hooks                the link's   no: all of the tenant's traffic      none is held while they
                                                   stands still meanwhile               run
``_step`` and all that is private     the link's   in ``ioloop.start`` and ``_pause``,  ``_guard`` in ``_use``
                                                   both of which ``wake`` interrupts    alone
====================================  ===========  ===================================  =========================

What holds at any moment:

1. The link's thread alone changes ``state``, and only as ``TRANSITIONS`` says.
2. ``_loop`` changes in ``_use`` alone, under ``_guard``; after each change ``Tenant.on_work`` is called. What was
   handed to a loop that ended before it looked is therefore looked at again: nothing counts as handed over but
   what ``on_work`` has taken.
3. ``_woken`` is true only while a call of ``on_work`` is still to begin. It is reset before that call, never after.
4. ``Tenant.on_lost`` is called once for each ``on_channel``, and once more, as final, if the link ends by an error.

Source: https://www.rabbitmq.com/docs/connections#lifecycle
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from pika.channel import Channel as LoopChannel
from pika.exceptions import ChannelClosedByClient

from rmqspec.client import process
from rmqspec.client.connection import Loop, open_loop, refusal, translation
from rmqspec.client.errors import ClientError, ConnectionLost, Unreachable, WrongProcess, WrongThread
from rmqspec.client.link_states import TRANSITIONS, Event, State
from rmqspec.client.lives import Lives
from rmqspec.client.quiet import quiet_pika
from rmqspec.client.settings import Settings

__all__ = ["GOODBYE", "UNREAD_GOODBYE", "Link", "LoopChannel", "State", "Tenant"]

CONNECTION_FORCED = 320  # an operator closes the connection, or the broker shuts down
GOODBYE = 1.5  # seconds at most that the end of a connection may take
UNREAD_GOODBYE = 0.2  # the same to a broker that reads nothing: it blocks this connection, or does not answer another

_log = logging.getLogger("rmqspec.client")


class Tenant(Protocol):
    """Whoever lives on a link. All of this is called in the link's thread, and must not block."""

    def on_channel(self, channel: LoopChannel, loop: Loop) -> None:
        """A channel is open on this connection: the first one, or a new one after a loss. ``on_work`` follows."""

    def on_lost(self, reason: ClientError, *, final: bool) -> None:
        """The channel is gone, alone or with its connection; another follows unless this is final."""

    def on_blocked(self, reason: str) -> None:
        """The broker takes nothing in, for this reason (an alarm), or with an empty one does again."""

    def on_work(self) -> None:
        """Looks at what was handed over: sends it, or leaves it there, or says that it cannot be sent.

        Called after each ``wake``, after ``on_channel``, and whenever a loop begins or has ended: so also without a
        channel, and with nothing to do.
        """


class Link:
    """Keeps one connection with one channel for a tenant.

    Args:
        settings: Where to connect, and how.
        name: Shown in the management UI, and in the log.
        tenant: Told what happens.
        on_reconnect: Called with the seconds for which there was no channel, when there is one again.
        on_blocked: Called with the broker's reason when it blocks publishers, and with an empty one when it no longer
            does. Both hooks run in the link's thread; an error of theirs is logged.

    Attributes:
        state: Where it is.
        blocked: Why the broker blocks publishers on this connection; empty where it does not.
        left: Whether the broker has not answered the goodbye in time.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        tenant: Tenant,
        *,
        on_reconnect: Callable[[float], object] | None = None,
        on_blocked: Callable[[str], object] | None = None,
    ) -> None:
        self._settings, self._name, self._tenant = settings, name, tenant
        self._on_reconnect, self._on_blocked_hook = on_reconnect, on_blocked
        self._process, self._born = os.getpid(), process.here()
        self.state, self.blocked, self.left = State.NEW, "", False
        self._goodbye = GOODBYE
        self._guard = threading.Lock()  # between whoever wakes and the change of the loop
        self._loop: Loop | None = None
        self._woken, self._bell = False, threading.Event()
        self._closing, self._settled = threading.Event(), threading.Event()
        self._failure: ClientError | None = None
        self._attempt, self._parameters = -1, settings.parameters(0, name)
        # From here on: touched by the link's thread alone.
        self._refused: ClientError | None = None
        self._reason: ClientError | None = None
        self._channel: LoopChannel | None = None
        self._lost_at: float | None = None
        self._lives, self._said = Lives(settings.max_backoff), set[str]()  # what was logged of this outage
        self._thread = threading.Thread(target=self._run, name=f"{name} (link)", daemon=True)

    def open(self) -> None:
        """Starts the thread and waits for the first channel.

        Raises:
            ClientError: It cannot be had; the text says why. Losses are mended later, the first refusal is not.
        """
        self.start()
        self._settled.wait()
        if self._failure:
            self._thread.join()
            raise self._failure

    def start(self) -> None:
        """As ``open``, without waiting: ``on_channel`` tells of a channel, a final ``on_lost`` that none can be had."""
        self._thread.start()

    def wake(self) -> None:
        """Has ``Tenant.on_work`` called soon, in the link's thread, whatever becomes of the loop meanwhile.

        Raises:
            WrongProcess: The link lives in the process that this one was forked from.
        """
        if self._woken:
            return
        self.check_process()
        with self._guard:
            self._ring()

    def _ring(self) -> None:
        if self._woken:  # by another, while this one waited for the lock
            return
        self._woken = True
        if self._loop is None:
            self._bell.set()
        else:
            self._loop.ioloop.add_callback_threadsafe(self._work)

    def close(self, *, wait: bool = True, goodbye: float = GOODBYE) -> None:
        """Says goodbye to the broker and ends the thread. A goodbye that is not answered is not waited for long.

        As long as for any answer, and no longer than ``goodbye``. In a forked process there is nothing to end.

        Args:
            wait: False to return at once, while the thread still says goodbye.
            goodbye: Seconds at most that the broker has to answer it.

        Raises:
            WrongThread: It was called in the link's own thread.
        """
        if self._born is not process.here():
            return
        if wait:
            self.check_waiting("close()")
        self._goodbye = goodbye
        self._closing.set()
        self.wake()
        if wait and self._thread.ident is not None:  # it was started
            self._thread.join(goodbye + 1.0)

    @property
    def connected(self) -> bool:
        """Whether there is a channel now."""
        return self.state is State.UP

    @property
    def in_thread(self) -> bool:
        """Whether the caller is the link's own thread, which must not wait for itself."""
        return threading.get_ident() == self._thread.ident

    def check_waiting(self, what: str) -> None:
        """Called by whatever waits for the link's thread.

        Raises:
            WrongThread: The caller is that thread, as in a future's callback; it would wait for itself, for ever.
        """
        if self.in_thread:
            raise WrongThread(
                f"{what} in a callback would wait for the very thread that runs the callback: "
                "let another thread do it, as one of a ThreadPoolExecutor"
            )

    def check_process(self) -> None:
        """Called before anything is handed over, and before any lock is taken.

        Raises:
            WrongProcess: This process was forked from the one that the link lives in.
        """
        if self._born is not process.here():
            raise WrongProcess(
                f"{self._name!r} was opened in process {self._process}, before this one was forked from it: its "
                "connection and its thread are there; open one of its own in each process"
            )

    def note_progress(self) -> None:
        """The tenant got what it connected for: a confirm, a reply, a delivery that was handled.

        Connections and channels that end before that are opened again after growing pauses.
        """
        self._lives.was_useful()

    def reopen_channel(self, reason: ClientError) -> None:
        """Has the channel closed and another opened, after a pause if the last ones brought nothing either."""
        loop, channel = self._loop, self._channel
        if loop is not None and channel is not None and channel.is_open:
            self._channel_lost(loop, reason)
            channel.close()

    # The link's thread.

    def _run(self) -> None:
        try:
            with quiet_pika(debugging=_log.isEnabledFor(logging.DEBUG)):
                self._live()
        finally:
            self._settled.set()

    def _live(self) -> None:
        try:
            self._connect_first()
            while not self._closing.is_set():
                self._judge_life()
                self._pause(self._lives.pause)
                self._connect_again()
        except BaseException as error:  # also a defect, or a SystemExit in a callback: whoever waits is told
            if not self._closing.is_set():
                self._failure = _as_ours(error)
                _log.error("%s: ends: %s", self._name, self._failure)
                self._tenant.on_lost(self._failure, final=True)
        finally:
            self._step(Event.END)

    def _connect_first(self) -> None:
        """Asks each address once: nobody is kept waiting for the first connection by one that may never come."""
        for last in [False] * (len(self._settings.urls) - 1) + [True]:
            try:
                self._serve()
            except Unreachable:
                if last:
                    raise
            if self._settled.is_set() or self._closing.is_set():
                return
        if self._reason:
            raise self._reason

    def _connect_again(self) -> None:
        try:
            self._serve()
        except ClientError as error:
            if not isinstance(error, Unreachable) and self._settings.refusal_is_final:
                raise
            self._lives.attempt_failed()
            level = logging.INFO if str(error) in self._said else logging.WARNING  # an outage is not to fill a disk
            self._said.add(str(error))
            _log.log(level, "%s: cannot connect again, and goes on trying: %s", self._name, error)

    def _serve(self) -> None:
        """Connects to the next address, and returns when that connection has ended."""
        if self._closing.is_set():  # in the pause before this attempt
            return
        self._attempt += 1
        self._parameters = self._settings.parameters(self._attempt, self._name)
        self._refused = self._reason = None
        self._let_in = False
        self._lives.attempt_begins()
        loop = open_loop(self._parameters, self._name, self._opened, self._on_refused, self._on_closed)
        self._step(Event.CONNECT)
        try:
            self._use(loop)
            self._serve_loop(loop)
        finally:
            if self.state is State.UP:  # pika has not told, as when a callback has ended its loop
                self._lost(ConnectionLost("the connection's thread left it"))
            if self.blocked:
                self._set_blocked("")
            self._step(Event.LOOP_ENDED)
            try:
                self._use(None)
            finally:
                loop.ioloop.close()
        if self._refused:
            raise self._refused

    def _serve_loop(self, loop: Loop) -> None:
        try:
            loop.ioloop.start()
        except BaseException as error:
            if self.state is State.CONNECTING and isinstance(error, Exception):
                # A peer that is gone again before pika has looked at the socket is a ValueError to pika.
                self._refused = refusal(self._parameters, error)
                return
            self._hang_up()  # a defect of ours: the broker is to hear a goodbye all the same
            with contextlib.suppress(Exception):
                loop.ioloop.start()
            raise

    def _use(self, loop: Loop | None) -> None:
        """The only place where the loop changes. What was handed to the last one is looked at again."""
        with self._guard:
            self._loop = loop
        self._work()

    def _work(self) -> None:
        self._woken = False
        closing = self._closing.is_set()  # before: what was handed over until then leaves before the goodbye
        self._tenant.on_work()
        if closing and self._loop is not None:
            self._hang_up()

    def _pause(self, seconds: float) -> None:
        """Waits before the next attempt; whoever wakes is looked after meanwhile."""
        until = time.monotonic() + seconds
        while not self._closing.is_set() and (left := until - time.monotonic()) > 0:
            if self._bell.wait(left):
                self._bell.clear()
                self._work()

    def _judge_life(self) -> None:
        """After a connection that died: whether the next would die too.

        Raises:
            ConnectionLost: So many died right after they were opened.
        """
        reason, self._reason = self._reason, None
        if self._closing.is_set() or reason is None:
            return
        span = self._lives.connection_ends(forced=reason.reply_code == CONNECTION_FORCED)
        if span is not None:
            raise ConnectionLost(
                f"{self._lives.short} connections in {span:.0f} s ended right after they were opened: look into the "
                f"broker's log, and at the first messages of the queue; the last: {reason}",
                reason.reply_code,
                reason.reply_text,
            )

    def _step(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state][event]

    def _opened(self, loop: Loop) -> None:
        self._step(Event.CONNECTED)
        self._let_in = True
        if self._closing.is_set():  # meanwhile
            self._hang_up()
            return
        loop.add_on_connection_blocked_callback(lambda _, frame: self._on_blocked(str(frame.method.reason)))
        loop.add_on_connection_unblocked_callback(lambda _, __: self._on_blocked(""))
        self._open_channel(loop)

    def _open_channel(self, loop: Loop) -> None:
        if loop is not self._loop or not loop.is_open or self._closing.is_set():  # during a pause
            return
        patience = self._settings.answer_timeout
        timer = loop.ioloop.call_later(patience, lambda: self._give_up(loop)) if patience else None

        def opened(channel: LoopChannel) -> None:
            if timer is not None:
                loop.ioloop.remove_timeout(timer)
            self._on_channel(channel, loop)

        loop.channel(on_open_callback=opened)

    def _give_up(self, loop: Loop) -> None:
        if loop.is_open:
            at = f"{self._parameters.host}:{self._parameters.port}"
            self._refused = Unreachable(
                f"the broker at {at} let the connection in and opened no channel within "
                f"{self._settings.answer_timeout:g} s: try again, and look into its log"
            )
            loop.cut()

    def _on_channel(self, channel: LoopChannel, loop: Loop) -> None:
        self._channel = channel
        channel.add_on_close_callback(lambda _, error: self._on_channel_closed(channel, loop, error))
        self._step(Event.CHANNEL_OPENED)
        if self.state is not State.UP:
            return
        self._lives.channel_opens()
        try:
            self._tenant.on_channel(channel, loop)
            self._work()
        except Exception as error:  # pika would take it for a lost connection, and it would come again with the next
            self._refused = _as_ours(error)
            self._hang_up()
        else:
            self._settled.set()
            self._say_back()

    def _say_back(self) -> None:
        if self._lost_at is not None:
            away, self._lost_at, self._said = time.monotonic() - self._lost_at, None, set()
            _log.warning("%s: back after %.1f s", self._name, away)
            self._call_hook(self._on_reconnect, away)

    def _on_channel_closed(self, channel: LoopChannel, loop: Loop, error: BaseException) -> None:
        if channel is self._channel and not isinstance(error, ChannelClosedByClient):
            self._channel_lost(loop, translation("talking to the broker", error))

    def _channel_lost(self, loop: Loop, reason: ClientError) -> None:
        """The channel is gone: tells the tenant, and opens another if the connection stands."""
        self._lost(reason)
        if loop.is_open and not self._closing.is_set():  # the channel alone was closed
            pause = self._lives.channel_ends()
            loop.ioloop.call_later(pause, lambda: self._open_channel(loop))

    def _lost(self, reason: ClientError) -> None:
        self._step(Event.CHANNEL_LOST)
        self._channel, self._reason = None, reason
        if not self._closing.is_set():
            self._lost_at = self._lost_at or time.monotonic()
            _log.warning("%s: lost the broker: %s", self._name, reason)
        self._tenant.on_lost(reason, final=self._closing.is_set())

    def _on_refused(self, error: BaseException) -> None:
        self._refused = refusal(self._parameters, error)
        self._stop()

    def _on_closed(self, error: BaseException) -> None:
        self._reason = self._reason or translation("talking to the broker", error)
        self._stop()

    def _on_blocked(self, reason: str) -> None:
        if reason:
            _log.warning("%s: the broker blocks publishers (%s)", self._name, reason)
        else:
            _log.warning("%s: the broker no longer blocks publishers", self._name)
        self._set_blocked(reason)

    def _set_blocked(self, reason: str) -> None:
        self.blocked = reason
        self._tenant.on_blocked(reason)
        self._work()
        self._call_hook(self._on_blocked_hook, reason)

    def _call_hook(self, hook: Callable[..., object] | None, *arguments: object) -> None:
        if hook is not None:
            try:
                hook(*arguments)
            except BaseException:  # also a SystemExit: it would end the thread, and not the program
                _log.exception("%s: a hook failed", self._name)

    def _stop(self) -> None:
        assert self._loop is not None
        self._loop.ioloop.stop()

    def _hang_up(self) -> None:
        """Says goodbye, once; a broker that does not answer it in time is left without an answer."""
        loop = self._loop
        if loop is None:
            return
        if self.state is not State.CLOSING:
            self._step(Event.CLOSE)
            patience = UNREAD_GOODBYE if self.blocked else self._goodbye
            limit = min(patience, self._settings.answer_timeout or patience)
            loop.ioloop.call_later(limit, lambda: self._leave(loop))
        if self._let_in and loop.is_open:  # pika does not bear to be closed while it is connecting
            loop.close()

    def _leave(self, loop: Loop) -> None:
        """Ends without the broker; where pika cannot even do that, the loop ends under it."""
        self.left = True
        loop.ioloop.call_later(0.1, loop.ioloop.stop)
        loop.cut()


def _as_ours(error: BaseException) -> ClientError:
    if isinstance(error, ClientError):
        return error
    ours = ClientError(f"the connection's thread ended by a defect ({error!r}): please report it")
    ours.__cause__ = error
    return ours
