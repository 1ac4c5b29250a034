"""Consuming with manual acknowledgement: a message is gone only when its work is done.

Three kinds of threads share the work. The link's thread talks to the broker: it takes deliveries in, sends
acknowledgements out and answers heartbeats. Handlers run in helper threads, as long as they like. The thread that calls
``run`` only waits: for ``stop``, or for what ends the consumer.

Which thread calls what, whether it may block, and under which lock:

==========================================  ===================  ============================  ======================
method                                      thread               may block                     lock
==========================================  ===================  ============================  ======================
``Consumer.run``                            its caller's         until ``stop`` or an error,   none
                                                                 then up to ``grace`` and
                                                                 ``Link.close``
``Consumer.stop``                           any, and any signal  no                            none: a signal may find
                                            handler                                            its thread within it
``Consumer.send``                           a handler's          no                            the outbox's, briefly
``handler``, ``on_error``, ``retry``        a helper             as long as they like          none is held while they
                                                                                               run
hooks                                       the link's           no                            none
==========================================  ===================  ============================  ======================

The link's thread hands deliveries to helpers by ``_deliveries``, helpers hand outcomes to the link's thread by the
subscription's outbox, and everybody tells ``run`` of the end by ``_events``.

No handler begins once ``stop`` has returned, or another handler has ended ``run``; but each other helper may just have
looked, and begin with one more. So ``_begins`` is set by whoever ends it, in their own thread: ``run`` may hear of it
late. It never becomes true again.

Source: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
"""

from __future__ import annotations

import logging
import reprlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum, auto
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from rmqspec.client.bounds import check_arguments, check_name, check_number, check_whole
from rmqspec.client.delivery import Delivery, Handler, Outcome
from rmqspec.client.errors import (
    ClientError,
    ConnectionLost,
    InvalidSetting,
    OutcomeUnknown,
    StillAtWork,
    Unanswered,
    Unreachable,
    WindowFull,
)
from rmqspec.client.message import Message
from rmqspec.client.settings import Settings
from rmqspec.client.subscription import Subscription, Taken, Wanted
from rmqspec.client.topology import Topology

__all__ = ["Consumer", "Delivery", "ErrorPolicy", "Handler", "Outcome", "requeue_if_the_broker_is_away"]

ErrorPolicy = Callable[[Delivery, Exception], Outcome]

# Seconds after which the thread of run() looks up from its wait. Python calls a signal handler in the main thread, but
# the system may deliver the signal to another one, and then nothing else ends that wait.
LOOK = 1.0
TRANSIENT = (OutcomeUnknown, WindowFull, ConnectionLost, Unanswered, Unreachable)

_log = logging.getLogger("rmqspec.client")


def requeue_if_the_broker_is_away(_: Delivery, error: Exception) -> Outcome:
    """The default for handlers that raise: nothing is lost, and nothing fails in silence.

    A handler that could not publish since its broker was away or did not answer is tried again after a pause. Any other
    error ends the consumer: only the application knows whether the message is to blame, and to reject it by default
    would delete it wherever there is no dead-letter exchange.

    Raises:
        Exception: The handler's own, if the broker is not to blame.
    """
    if isinstance(error, TRANSIENT):
        return Outcome.REQUEUE_LATER
    raise error


class Consumer:
    """Feeds the messages of one queue to a handler.

    When the connection is lost it is opened again, the topology is declared again, and consuming goes on; an exclusive
    queue of the lost connection is waited for, until the broker has noticed the loss. What was
    unacknowledged is delivered again by the broker; an acknowledgement that comes too late for it is dropped.

    Args:
        source: The broker's URL, or settings.
        queue: The queue to consume.
        handler: Its outcome is told to the broker after it has returned. It runs in a helper thread.
        prefetch: How many unacknowledged messages the broker may have out with this consumer. 1 is fair where work
            takes long; see https://www.rabbitmq.com/docs/consumer-prefetch.
        concurrency: How many handlers run at once, each in a thread. Acknowledgements then come in any order.
        ack_batch: Acknowledge so many at once while more are waiting. What is unacknowledged at a crash comes again.
        topology: Declared before consuming, at each connection.
        retry: What is done with a delivery whose outcome is ``RETRY``, as ``RetryLadder.climb`` does, before it is
            acknowledged. Without one such an outcome is an error.
        arguments: Of the subscription, as ``{"x-priority": 10}`` or ``{"x-stream-offset": "first"}``; see
            https://www.rabbitmq.com/docs/consumer-priority and https://www.rabbitmq.com/docs/streams.
        name: The connection's and the consumer tag, shown in the management UI.
        on_error: What becomes of a delivery whose handler, or whose retry, raises an ``Exception``: an outcome, or a
            function of the delivery and the error that returns one, or raises what shall end ``run``. What ends ``run``
            leaves the delivery unacknowledged, and the broker gives it to somebody else. See
            ``requeue_if_the_broker_is_away``.
        requeue_pause: Seconds until a delivery whose outcome is ``REQUEUE_LATER`` goes back. It counts as unacked so
            long, so that a consumer with a small prefetch waits instead of repeating at once.
        grace: Seconds that handlers have to finish after ``stop``, or after an error of another one.
        wait_for_queue: Whether to wait for a queue that does not exist, or is deleted, instead of ending.
        on_reconnect: Called with the seconds without a channel when there is one again.
        on_blocked: Called with the broker's reason when it blocks publishers, and with an empty one afterwards. Both
            run in the link's thread and must not block.

    Raises:
        InvalidSetting: A number is out of range, or a name or an argument has no form in AMQP.
        InvalidUrl: The broker's URL cannot be read.

    Attributes:
        outcomes: How many deliveries ended in which way.
        unanswered: Whether the broker has not answered the goodbye of the last run in time.
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
        arguments: Mapping[str, Any] | None = None,
        name: str = "consumer",
        on_error: Outcome | ErrorPolicy = requeue_if_the_broker_is_away,
        requeue_pause: float = 1.0,
        grace: float = 30.0,
        wait_for_queue: bool = False,
        on_reconnect: Callable[[float], object] | None = None,
        on_blocked: Callable[[str], object] | None = None,
    ) -> None:
        check_whole("prefetch", prefetch, 0, 65_535)
        check_whole("concurrency", concurrency, 1)
        check_whole("ack_batch", ack_batch, 1)
        check_number("requeue_pause", requeue_pause, 0)
        check_number("grace", grace, 0, float("inf"))
        check_name("the queue", queue)
        check_name("the consumer", name)
        check_arguments("the subscription", arguments or {})
        if not isinstance(on_error, Outcome) and not callable(on_error):
            raise InvalidSetting(f"on_error is {on_error!r}: an Outcome is wanted, or a function that returns one")
        self.queue, self.outcomes = queue, Counter[Outcome]()
        self._settings = Settings.of(source)
        self._wanted = Wanted(queue, prefetch, topology, dict(arguments or {}), name, requeue_pause, wait_for_queue)
        self._handler, self._retry, self._on_error = handler, retry, on_error
        self._concurrency, self._ack_batch, self._grace = concurrency, ack_batch, grace
        self._hooks = (on_reconnect, on_blocked)
        self._counting = threading.Lock()
        self._settings.parameters(0, name)  # a URL that cannot be read is told here
        # Not locked: a signal handler may call stop() at any point of run().
        self._stop_asked = self.unanswered = False
        self._run: _Run | None = None

    def run(self) -> None:
        """Consumes until ``stop`` is called, and returns when running handlers have ended. It may be called again.

        Raises:
            ConsumerCancelled: The queue was deleted.
            ChannelClosed: There is no such queue, or it is somebody else's; or a handler took longer than the broker's
                consumer timeout.
            TypeError: The handler returned something that is no outcome; its delivery goes back.
            StillAtWork: A handler has not finished ``grace`` seconds after ``stop``; its delivery goes back.
            ClientError: The first connection cannot be had, or connections end as soon as they are opened. A connection
                that is lost later is opened again.
            Exception: What ``on_error`` or a handler has raised.
        """
        if self._run is not None:
            self._run.subscription.link.check_process()
            raise ClientError(f"the consumer of {self.queue!r} runs already")
        self._run = run = _Run(self)
        try:
            if not self._stop_asked:
                run.consume()
        finally:
            self.unanswered = run.subscription.link.left
            self._run, self._stop_asked = None, False

    def stop(self) -> None:
        """Ends ``run`` after the handlers that are running. Any thread and any signal handler may call it.

        If it does not run at this moment, the next call of ``run`` returns at once.
        """
        self._stop_asked = True
        if (run := self._run) is not None:
            run.stop()

    def send(self, message: Message) -> None:
        """Publishes on the consumer's own channel, without a confirm, before the outcome of the delivery being handled.

        Raises:
            Unencodable: The protocol cannot carry the message.
            ClientError: The consumer does not run.
        """
        if (run := self._run) is None:
            raise ClientError(f"the consumer of {self.queue!r} does not run")
        run.subscription.send(message)

    @property
    def connected(self) -> bool:
        """Whether it has a channel now."""
        run = self._run
        return run is not None and run.subscription.link.connected

    @property
    def lost(self) -> ClientError | None:
        """What this run's last channel ended with, an error of its own each time; None while the first one lives."""
        run = self._run
        return run.subscription.lost if run is not None else None

    @property
    def blocked(self) -> str:
        """Why the broker blocks publishers; empty where it does not. Consuming goes on meanwhile."""
        run = self._run
        return run.subscription.link.blocked if run is not None else ""

    @property
    def in_flight(self) -> int:
        """How many deliveries have come and are not settled."""
        run = self._run
        return run.subscription.in_hand if run is not None else 0

    def outcome_of(self, delivery: Delivery) -> Outcome:
        """Has a delivery handled, and says what becomes of it.

        Raises:
            Exception: What ends ``run``.
        """
        by = ""
        try:
            outcome: object = self._handler(delivery)
            if outcome is Outcome.RETRY and self._retry is not None:
                self._retry(delivery)
        except Exception as error:
            outcome, by = self._judge(delivery, error), ", or its on_error,"
        if not isinstance(outcome, Outcome):
            name = getattr(self._handler, "__qualname__", type(self._handler).__qualname__)
            raise TypeError(
                f"the handler {name} of {self.queue!r}{by} returned {reprlib.repr(outcome)}, which is no Outcome: "
                "it must say what becomes of the message, as Outcome.ACK"
            )
        if outcome is Outcome.RETRY and self._retry is None:
            raise ValueError(f"{self.queue!r} is to retry a delivery, and the consumer was given no policy for it")
        with self._counting:
            self.outcomes[outcome] += 1
        return outcome

    def _judge(self, delivery: Delivery, error: Exception) -> Outcome:
        outcome = self._on_error if isinstance(self._on_error, Outcome) else self._on_error(delivery, error)
        _log.warning("%s: the handler raised %s: %s", self._wanted.name, type(error).__name__, outcome, exc_info=error)
        if outcome is Outcome.RETRY and self._retry is not None:
            self._retry(delivery)
        return outcome


class _Event(Enum):
    """What ``run`` waits for, besides errors."""

    STOP = auto()
    HELPER_ENDED = auto()


class _Ended(NamedTuple):
    """The subscription has ended by this."""

    error: ClientError


class _Run:
    """One run of a consumer, with helpers and a subscription of its own: nothing is left over for the next."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer, self._stopping = consumer, False
        self._begins = True  # whether helpers begin with another delivery
        self._error: BaseException | None = None
        self._deliveries: SimpleQueue[Taken | None] = SimpleQueue()
        self._events: SimpleQueue[_Event | _Ended | BaseException] = SimpleQueue()
        self.subscription = Subscription(
            consumer._settings,
            consumer._wanted,
            self._deliveries.put,
            lambda error: self._events.put(_Ended(error)),
            *consumer._hooks,
        )
        # Daemons: one that never returns must not keep the process.
        self._helpers = [
            threading.Thread(target=self._help, name=f"{consumer._wanted.name} {number}", daemon=True)
            for number in range(1, consumer._concurrency + 1)
        ]
        self._at_work = len(self._helpers)

    def stop(self) -> None:
        self._begins = False  # here, and not where ``run`` hears of it, which may be some messages later
        self._events.put(_Event.STOP)

    def consume(self) -> None:
        patient = False
        try:
            for helper in self._helpers:
                helper.start()
            self.subscription.start()
            self._await(_Event.STOP, None)
            patient = True
        except (KeyboardInterrupt, SystemExit) as interrupt:  # the first gives handlers their time, a second does not
            self._error, patient = interrupt, True
        finally:
            self._finish(patient)
        if self._error:
            raise self._error

    def _finish(self, patient: bool) -> None:
        self._stopping, self._begins = True, False
        waits = False
        try:
            self.subscription.quieten()
            for _ in self._helpers:
                self._deliveries.put(None)
            if patient:
                self._await_helpers()
            waits = True
        finally:
            self.subscription.close(wait=waits)

    def _await_helpers(self) -> None:
        grace, until = self._consumer._grace, time.monotonic() + self._consumer._grace
        while self._at_work and (left := until - time.monotonic()) > 0:
            self._await(_Event.HELPER_ENDED, min(left, LOOK))
        if self._at_work:
            late = StillAtWork(
                f"{self._at_work} of {len(self._helpers)} handlers of {self._consumer.queue!r} have not finished "
                f"within {grace:g} s: their messages go back to the queue"
            )
            late.__cause__ = self._error
            self._error = self._error or late
            _log.error("%s: %s", self._consumer._wanted.name, late)

    def _await(self, what: _Event, timeout: float | None) -> None:
        """Waits for an event, an error, or so many seconds. The first error is kept."""
        while True:
            try:
                event = self._events.get(timeout=LOOK if timeout is None else timeout)
            except Empty:
                if timeout is None:
                    continue
                return
            if event is _Event.HELPER_ENDED:
                self._at_work -= 1
            elif isinstance(event, _Ended):
                # Of a consumer that stops, how its goodbye was answered is no error: it has settled all that it could.
                if not self._stopping:
                    self._error = self._error or event.error
                    return
            elif isinstance(event, BaseException):
                self._error = self._error or event
                return
            if event is what:
                return

    def _help(self) -> None:
        try:
            while (taken := self._deliveries.get()) is not None:
                self._handle(taken)
        except BaseException as error:
            self._begins = False  # as in ``stop``: it ends ``run``
            self._events.put(error)
        finally:
            self._events.put(_Event.HELPER_ENDED)

    def _handle(self, taken: Taken) -> None:
        # A delivery of a lost channel is on its way to somebody already; one of a stopping consumer goes back with the
        # channel: a requeue of ours would count as a failure in a quorum queue.
        if not self._begins or taken.session is not self.subscription.session:
            return
        outcome = self._consumer.outcome_of(taken.delivery)
        batch = self._consumer._ack_batch
        wake = batch == 1 or self.subscription.waiting + 1 >= batch or self._deliveries.empty()
        # Where there is no connection the channel is lost, and with it whatever could be settled.
        self.subscription.settle(taken, outcome, wake=wake)
