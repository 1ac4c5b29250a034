"""A connection that is kept: opened, served by a thread of its own, and opened again when it is lost.

pika's connections belong to one thread. Here that thread is ours: it does all reading and writing, answers heartbeats
however long a handler takes, and reconnects with growing, random pauses, so that a thousand clients of a broker that
comes back do not all knock at once. Everybody else hands work over with ``soon``.

Source: https://www.rabbitmq.com/docs/connections#lifecycle
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Protocol

from pika.channel import Channel as LoopChannel
from pika.exceptions import ChannelClosedByClient, ConnectionWrongStateError
from tenacity import Retrying, retry_if_exception_type, sleep_using_event, stop_when_event_set, wait_random_exponential

from rmqspec.client.connection import Loop, open_loop, refusal, translation
from rmqspec.client.errors import ClientError, Unreachable
from rmqspec.client.settings import Settings

__all__ = ["Link", "LoopChannel", "Tenant"]

GOODBYE = 10.0  # seconds at most that the end of a connection may take
FIRST_BACKOFF = 0.05  # seconds at most before the second attempt to connect again; twice as long before the third


class Tenant(Protocol):
    """Whoever lives on a link. All of this is called in the link's thread."""

    def on_channel(self, channel: LoopChannel, loop: Loop) -> None:
        """A channel is open on this connection: the first one, or a new one after a loss."""

    def on_lost(self, reason: ClientError, *, final: bool) -> None:
        """The channel is gone, alone or with its connection; another follows unless this is final."""

    def on_blocked(self, reason: str) -> None:
        """The broker takes nothing in, for this reason (an alarm), or with an empty one does again."""


class Link:
    """Keeps one connection with one channel for a tenant.

    Args:
        settings: Where to connect, and how.
        name: Shown in the management UI.
        tenant: Told what happens.
    """

    def __init__(self, settings: Settings, name: str, tenant: Tenant) -> None:
        self._settings, self._name, self._tenant = settings, name, tenant
        self._guard = threading.Lock()  # between whoever hands work over and the end of the loop
        self._loop: Loop | None = None
        self._closing, self._settled = threading.Event(), threading.Event()
        self._failure: ClientError | None = None
        self._attempt, self._parameters = -1, settings.parameters(0, name)
        self._thread = threading.Thread(target=self._run, name=f"{name} (link)", daemon=True)

    def open(self) -> None:
        """Starts the thread and waits for the first channel.

        Raises:
            ClientError: It cannot be had; the text says why. Losses are mended later, the first refusal is not.
        """
        self._thread.start()
        self._settled.wait()
        if self._failure:
            self._thread.join()
            raise self._failure

    def soon(self, work: Callable[[], None]) -> bool:
        """Has work done in the link's thread. Any thread may call it; False if there is no connection now."""
        with self._guard:
            if self._loop is None:
                return False
            self._loop.ioloop.add_callback_threadsafe(work)
            return True

    def close(self) -> None:
        """Says goodbye to the broker and ends the thread. A goodbye that is not answered is waited for in vain, once.

        As long as for any answer, and no longer than ``GOODBYE``.
        """
        self._closing.set()
        self.soon(self._hang_up)
        self._thread.join(GOODBYE + 1.0)

    @property
    def in_thread(self) -> bool:
        """Whether the caller is the link's own thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        reopen = Retrying(
            retry=retry_if_exception_type(Unreachable),
            wait=wait_random_exponential(multiplier=FIRST_BACKOFF, max=self._settings.max_backoff),
            stop=stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
            reraise=True,
        )
        try:
            self._serve_first()
            while not self._closing.is_set():
                reopen(self._serve)
        except Exception as error:  # also a defect of ours: whoever waits for an answer is told, and waits no longer
            if not self._closing.is_set():
                self._failure = _as_ours(error)
                self._tenant.on_lost(self._failure, final=True)
        finally:
            self._settled.set()

    def _serve_first(self) -> None:
        """Asks each address once: nobody is kept waiting for the first connection by one that may never come."""
        for _ in self._settings.urls[1:]:
            with contextlib.suppress(Unreachable):
                return self._serve()
        return self._serve()

    def _serve(self) -> None:
        """Connects to the next address, and returns when that connection has ended."""
        if self._closing.is_set():  # in the pause before this attempt
            return
        self._attempt += 1
        self._parameters = self._settings.parameters(self._attempt, self._name)
        self._refused: ClientError | None = None
        self._opening = True
        loop = open_loop(self._parameters, self._name, self._opened, self._on_refused, self._on_closed)
        with self._guard:
            self._loop = loop
        try:
            loop.ioloop.start()
        except Exception as error:
            if not self._opening:  # a defect of ours: the broker is to hear a goodbye all the same
                self._hang_up()
                loop.ioloop.start()
                raise
            # A peer that is gone again before pika has looked at the socket is a ValueError to pika.
            self._refused = refusal(self._parameters, error)
        finally:
            with self._guard:
                self._loop = None
            loop.ioloop.close()
        if self._refused:
            raise self._refused

    def _opened(self, loop: Loop) -> None:
        self._opening = False
        if self._closing.is_set():  # meanwhile
            self._hang_up()
            return
        loop.add_on_connection_blocked_callback(lambda _, frame: self._tenant.on_blocked(str(frame.method.reason)))
        loop.add_on_connection_unblocked_callback(lambda _, __: self._tenant.on_blocked(""))
        self._open_channel(loop)

    def _open_channel(self, loop: Loop) -> None:
        patience = self._settings.answer_timeout
        timer = loop.ioloop.call_later(patience, lambda: self._give_up(loop)) if patience else None

        def opened(channel: LoopChannel) -> None:
            if timer is not None:
                loop.ioloop.remove_timeout(timer)
            self._on_channel(channel)

        loop.channel(on_open_callback=opened)

    def _give_up(self, loop: Loop) -> None:
        if loop.is_open:
            at = f"{self._parameters.host}:{self._parameters.port}"
            self._refused = Unreachable(
                f"the broker at {at} let the connection in and opened no channel within "
                f"{self._settings.answer_timeout:g} s: try again, and look into its log"
            )
            loop.cut()

    def _on_channel(self, channel: LoopChannel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        assert self._loop is not None
        try:
            self._tenant.on_channel(channel, self._loop)
        except Exception as error:  # pika would take it for a lost connection, and it would come again with the next
            self._refused = _as_ours(error)
            self._hang_up()
        else:
            self._settled.set()

    def _on_channel_closed(self, _: LoopChannel, error: BaseException) -> None:
        if isinstance(error, ChannelClosedByClient):
            return
        loop = self._loop
        reason = translation("talking to the broker", error)
        self._tenant.on_lost(reason, final=self._closing.is_set())
        if loop is not None and loop.is_open and not self._closing.is_set():  # the channel alone was closed
            self._open_channel(loop)

    def _on_refused(self, error: BaseException) -> None:
        self._refused = refusal(self._parameters, error)
        self._stop()

    def _on_closed(self, _: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        assert self._loop is not None
        self._loop.ioloop.stop()

    def _hang_up(self) -> None:
        try:
            # pika does not bear to be closed while it is connecting; that ends soon, and then somebody looks again.
            if self._loop is not None and not self._opening:
                self._loop.close()
                limit = min(GOODBYE, self._settings.answer_timeout or GOODBYE)
                self._loop.ioloop.call_later(limit, self._loop.cut)
        except ConnectionWrongStateError:
            return  # it is closing already


def _as_ours(error: Exception) -> ClientError:
    if isinstance(error, ClientError):
        return error
    ours = ClientError(f"the connection's thread ended by a defect ({error!r}): please report it")
    ours.__cause__ = error
    return ours
