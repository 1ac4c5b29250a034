"""What all services of the order system have in common: a name, a queue, a beginning and an end."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from rmqspec.client import Consumer, Delivery, Outcome, Publisher, RpcServer, Settings, Topology
from rmqspec.client.deaths import can_die_again
from rmqspec.client.errors import ClientError, InvalidSetting, PublishFailed, Unrepublishable
from rmqspec.client.link import GOODBYE, UNREAD_GOODBYE
from rmqspec.orders.dead_letters import park, park_without_room
from rmqspec.orders.inbox import Claim, Inbox, InboxUnavailable, State
from rmqspec.orders.messages import FAILURE, MAX_ID, InvalidMessage, order_id_in
from rmqspec.orders.topology import FAILED, dead_letters_from, order_system
from rmqspec.orders.waits import ServiceStopped, Waits

__all__ = [
    "GRACE",
    "PASSING",
    "PAUSE",
    "Say",
    "Service",
    "Subscriber",
    "goodbye_after",
    "harmless",
    "origin",
    "raise_if_permanent",
    "silent",
]

Say = Callable[[str], None]  # where a service tells a person what it does
Settled = Callable[[Delivery, Outcome], None]

PAUSE, GRACE = 1.0, 30.0  # seconds: before a message is requeued; for the message at work after ``stop``
PASSING = (InboxUnavailable, PublishFailed, ServiceStopped)  # what may be over when the message comes again


def raise_if_permanent(error: ClientError) -> None:
    """Ends the service where trying again is of no use, as with an exchange that is missing.

    Whoever starts it again declares the topology again; the unacked message is requeued.
    """
    if error.permanent:
        raise error


def origin(delivery: Delivery) -> str:
    """Where a delivery comes from, for a person: ``orders (orders.direct, key order)``, or ``orders`` if again."""
    if delivery.redelivered:  # by no exchange: it was in the queue
        return delivery.queue
    key = f", key {delivery.routing_key}" if delivery.routing_key else ""
    return f"{delivery.queue} ({delivery.exchange or 'default exchange'}{key})"


def goodbye_after(consumer: Consumer | RpcServer) -> float:
    """The seconds that a broker has to answer a service's second goodbye: few, if it has not answered the first."""
    return UNREAD_GOODBYE if consumer.unanswered else GOODBYE


def _size(name: str) -> int:
    """Bytes in UTF-8; none if it has no form there, as a name from the command line in another encoding."""
    try:
        return len(name.encode())
    except UnicodeEncodeError:
        return 0


def silent(_: str) -> None:
    """Says nothing."""


def harmless(say: Say) -> Say:
    """A way of speaking that decides nothing: a terminal that is full, closed or speaks ASCII only ends no work."""

    def try_to(words: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            say(words)

    return try_to


class Service(Protocol):
    """Whatever runs until it is stopped."""

    @property
    def at_work(self) -> str:
        """What it works on now; empty where it waits."""

    def run(self) -> None:
        """Serves until ``stop``; returns when the message that it works on is settled."""

    def stop(self) -> None:
        """Ends ``run`` soon; any thread and any signal handler may call it."""

    def give_up(self) -> None:
        """Leaves the message that it works on to others, before the process ends in the middle of it."""


class Subscriber(ABC):
    """Consumes one queue of the order system.

    Each delivery is settled, whatever comes: what is done is acknowledged, and what comes again is not done again; what
    cannot be read is parked with the reason; what cannot be handled now is given back after a pause.

    Args:
        source: The broker's URL, or settings. A service has two connections: one to consume on, and one to publish on,
            because a broker in trouble stops those who publish and not those who consume.
        queue: What it consumes.
        name: Who it is, in the log and in the management UI.
        say: Where it tells what it does.
        inbox: The messages that are handled already; a file makes them outlive the service, and several services may
            share it. By default it is one of its own, in memory.
        pause: Seconds before a delivery that cannot be handled now goes back to its queue.
        topology: Declared at each connection; by default the order system's.
        prefetch: How many unacked messages it may have; it works on them one at a time.
        grace: Seconds after ``stop`` in which the message at work is to be finished.

    Attributes:
        at_work: What it works on now, as an order's id; empty where it waits. Another thread may read it.
        settled: Called with each delivery and what becomes of it, before the broker hears of that.

    Raises:
        InvalidSetting: The name is empty, or too long for the protocol.
    """

    def __init__(
        self,
        source: str | Settings,
        queue: str,
        name: str,
        say: Say = silent,
        *,
        inbox: Inbox | None = None,
        pause: float = PAUSE,
        topology: Topology | None = None,
        prefetch: int = 1,
        grace: float = GRACE,
    ) -> None:
        if not 0 < _size(name) <= MAX_ID:
            raise InvalidSetting(f"a service's name should have from 1 to {MAX_ID} bytes in UTF-8")
        self.name, self.say, self.inbox = name, harmless(say), inbox or Inbox()
        self.waits, self.at_work = Waits(), ""
        self.settled: Settled = lambda _, __: None
        self.publisher = Publisher(source, f"{name} publisher")
        self.consumer = Consumer(
            # The retry policy does nothing: what is to be tried again is on its way before the handler returns.
            source, queue, self._settle, prefetch=prefetch, topology=topology or order_system(), retry=lambda _: None,
            name=name, requeue_pause=pause, grace=grace,
        )  # fmt: skip

    def run(self) -> None:
        """Consumes until ``stop``; raises what ``Consumer.run`` raises."""
        try:
            self.consumer.run()
        finally:
            # Each handler has waited for what it published, or has given it up.
            self.publisher.close(0.0, goodbye=goodbye_after(self.consumer))

    def stop(self) -> None:
        """Ends ``run`` after the message that it works on; a wait on the broker for that message ends soon."""
        self.consumer.stop()
        self.waits.stop()

    def give_up(self) -> None:
        """Leaves the message that it works on to others: the process is about to end in the middle of it."""
        self.inbox.release_all()

    @abstractmethod
    def handle(self, delivery: Delivery) -> Outcome:
        """Does the service's work. Publishing, it waits with ``self.waits.confirmed``.

        Raises:
            InvalidMessage: The body is not what the queue is for.
        """

    def put_off(self, delivery: Delivery) -> None:
        """Sends a delivery to where it waits to be tried again, when ``handle`` has returned ``RETRY``."""
        raise NotImplementedError(f"{self.name} has nowhere to put off a message")

    def _settle(self, delivery: Delivery) -> Outcome:
        self.at_work = order_id_in(delivery.body) or "a message"
        try:
            outcome = self._handle(delivery)
            self.settled(delivery, outcome)
        finally:
            self.at_work = ""
        return outcome

    def _handle(self, delivery: Delivery) -> Outcome:
        try:
            outcome = self._once(delivery)
            if outcome is Outcome.RETRY:
                self.put_off(delivery)
            if outcome is Outcome.REJECT and not can_die_again(delivery.headers):
                return self._park(delivery, FAILURE, "not fit to be dead-lettered")
        except InvalidMessage as error:
            return self._park(delivery, str(error))
        except Unrepublishable as error:
            return self._reject(delivery, error)
        except PASSING as error:
            raise_if_permanent(error)
            return self._give_back(f"gives a message back for now: {error}")
        return outcome

    def _once(self, delivery: Delivery) -> Outcome:
        message_id = delivery.properties.message_id
        if not message_id:
            return self.handle(delivery)
        with self.inbox.claim(f"{delivery.queue} {message_id!s}") as claim:
            if claim.state is State.MINE:
                return self._noted(claim, self.handle(delivery))
            about = order_id_in(delivery.body)
            what = f"order {about}" if about else f"message {message_id!s}"
            if claim.state is State.DONE:
                self.say(f"had done {what} already")
                return Outcome.ACK
        return self._give_back(f"gives {what} back for now: somebody else is at it")

    def _noted(self, claim: Claim, outcome: Outcome) -> Outcome:
        """A crash before this repeats the work, one after it only the ack."""
        if outcome is Outcome.ACK and not claim.done():
            return self._give_back("gives a message back: somebody else has begun it meanwhile")
        return outcome

    def _park(self, delivery: Delivery, reason: str, fault: str = "unreadable") -> Outcome:
        try:
            park(self.publisher, delivery, reason, wait=self.waits.confirmed)
        except Unrepublishable as error:
            return self._reject(delivery, error)
        except PASSING as error:
            raise_if_permanent(error)
            return self._give_back(f"gives a message back that is {fault}, and cannot be parked now: {error}")
        self.say(f"parked in {FAILED}, as {fault}: {reason}")
        return Outcome.ACK

    def _reject(self, delivery: Delivery, error: Unrepublishable) -> Outcome:
        if dead_letters_from(delivery.queue) and can_die_again(delivery.headers):
            self.say(f"rejected a message: {error}")
            return Outcome.REJECT
        try:
            park_without_room(self.publisher, delivery, wait=self.waits.confirmed)
        except PASSING as passing:
            raise_if_permanent(passing)
            return self._give_back(f"gives a message back that it cannot park now: {passing}")
        self.say(f"parked in {FAILED}, as unreadable, without the reason")
        return Outcome.ACK

    def _give_back(self, words: str) -> Outcome:
        self.say(words)
        return Outcome.REQUEUE_LATER
