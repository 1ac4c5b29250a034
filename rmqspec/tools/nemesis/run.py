"""A run: traffic at full speed, faults at random moments, and the account at the end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pika.exceptions import ConnectionClosedByBroker

from rmqspec.client import Channel, Queue, Settings, Topology, connect
from rmqspec.client.connection import hang_up
from rmqspec.tools.broker import Broker
from rmqspec.tools.nemesis import traffic as roles
from rmqspec.tools.nemesis.account import Account, Ledger
from rmqspec.tools.nemesis.faults import FAULTS, Arena, schedule
from rmqspec.tools.nemesis.traffic import Traffic, Unfinished
from rmqspec.tools.wire import Proxy

__all__ = ["Plan", "Result", "Unfinished", "run"]

Say = Callable[[float, str], None]  # seconds since the begin, and what happens

QUEUE = "nemesis"
HEARTBEAT = 3  # seconds, so that a silent network is noticed within a run
DRAIN_TIMEOUT = 120.0  # seconds
INTERNAL_ERROR = 541  # https://www.rabbitmq.com/amqp-0-9-1-reference#constants
RETURN_TIMEOUT = 5.0  # seconds for what was unacknowledged to be back; nobody holds any of it then


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run.

    Attributes:
        seconds: How long orders are published.
        queue_type: ``classic`` or ``quorum``.
        producers: How many publish, each on a connection of its own.
        consumers: How many consume.
        seed: Decides which fault comes when.
        faults: The names of those that may come.
        confirms: Without them an order counts as confirmed when it is written: the check must find losses then.
        auto_ack: With it an order counts as done when it is sent to a consumer: the same.
    """

    seconds: float = 60.0
    queue_type: str = "classic"
    producers: int = 2
    consumers: int = 2
    seed: int = 0
    faults: Sequence[str] = tuple(FAULTS)
    confirms: bool = True
    auto_ack: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came out.

    Attributes:
        account: Of every order.
        blows: How often each fault came.
        seconds: How long it all took, the last orders included.
    """

    account: Account
    blows: Counter[str]
    seconds: float


def run(broker: Broker, plan: Plan, say: Say = lambda _, __: None) -> Result:
    """Runs a plan against a broker that is there for that, and gives the account of every order.

    Raises:
        NotOurs: The broker is somebody else's.
        Unfinished: There is no account to trust.
    """
    _declare(broker, plan)
    begin, ledger = time.monotonic(), Ledger(plan.producers)
    with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
        through_proxy = Settings(urls=(proxy.url(broker.endpoint.url()),), heartbeat=HEARTBEAT, label="nemesis")
        traffic = Traffic(through_proxy, QUEUE, ledger)
        try:
            blows = _go_through_it(traffic, Arena(broker, proxy), plan, lambda w: say(time.monotonic() - begin, w))
        finally:
            traffic.break_off()  # whatever has gone wrong: nobody publishes or consumes for ever
    _take_the_rest(broker, ledger)
    return Result(ledger.account(), blows, time.monotonic() - begin)


def _go_through_it(traffic: Traffic, arena: Arena, plan: Plan, say: Callable[[str], None]) -> Counter[str]:
    producers, consumers = _start(traffic, plan)
    blows = _strike(arena, plan, say)
    say("all is well again: the last orders are published and consumed")
    traffic.producing_ends.set()
    producers.join()
    _wait_until_empty(arena.broker, consumers)
    traffic.consuming_ends.set()
    consumers.join()
    for error in producers.errors + consumers.errors:
        raise Unfinished(f"somebody ended before the time ({error}): there is no account to trust") from error
    return blows


class _Crew:
    """Threads that do the same, and what they ended with."""

    def __init__(self, work: Callable[[Traffic, int], None], traffic: Traffic, size: int) -> None:
        self.errors: list[BaseException] = []
        parts = [partial(work, traffic, number) for number in range(size)]
        self._threads = [
            threading.Thread(target=roles.errors_of, args=(part, self.errors), daemon=True) for part in parts
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def _declare(broker: Broker, plan: Plan) -> None:
    """Declares an empty queue, and has the broker write down that it is there."""
    connection = connect(broker.endpoint.url(), "nemesis")
    channel = connection.channel()
    channel.queue_delete(QUEUE)  # that of a run that came to no end, with its orders
    Topology(queues=(Queue(QUEUE, {"x-queue-type": plan.queue_type}),)).declare(channel)
    connection.close()
    if "kill" in plan.faults:
        # A declaration is answered before it is on disk. Killed within the first second, a broker (3.10) has now and
        # then forgotten a classic queue with all that was confirmed in it; a quorum queue comes back empty, or never
        # answers (3.10, 4.0 and 4.3). A stop in good order writes it down.
        broker.restart()


def _start(traffic: Traffic, plan: Plan) -> tuple[_Crew, _Crew]:
    produce = roles.produce if plan.confirms else roles.produce_carelessly
    consume = roles.consume_carelessly if plan.auto_ack else roles.consume
    return _Crew(produce, traffic, plan.producers), _Crew(consume, traffic, plan.consumers)


def _strike(arena: Arena, plan: Plan, say: Callable[[str], None]) -> Counter[str]:
    end, blows = time.monotonic() + plan.seconds, Counter[str]()
    for blow in schedule(plan.seed, plan.faults):
        if time.monotonic() + blow.pause >= end:
            break
        time.sleep(blow.pause)
        fault = FAULTS[blow.name]
        say(fault.words)
        fault.begin(arena)
        time.sleep(blow.seconds)
        fault.end(arena)
        blows[blow.name] += 1
    time.sleep(max(0.0, end - time.monotonic()))
    return blows


def _wait_until_empty(broker: Broker, consumers: _Crew) -> None:
    deadline = time.monotonic() + DRAIN_TIMEOUT
    connection = connect(broker.endpoint.url(), "nemesis")
    channel = connection.channel()
    while channel.queue_declare(QUEUE, passive=True).method.message_count and not consumers.errors:
        if time.monotonic() > deadline:
            raise Unfinished(f"the queue did not become empty within {DRAIN_TIMEOUT:g} s")
        time.sleep(0.1)
    connection.close()


def _take_the_rest(broker: Broker, ledger: Ledger) -> None:
    """What the consumers had in hand, or were about to get, when they ended goes back: at once, or a little later.

    A quorum queue may stumble over that: its leader ends, and with it whoever asks it at that moment (541), and comes
    back. Source: https://github.com/rabbitmq/rabbitmq-server/issues/12635
    """
    deadline = time.monotonic() + RETURN_TIMEOUT
    while True:
        connection = connect(broker.endpoint.url(), "nemesis")
        try:
            channel = connection.channel()
            _receive_all(channel, ledger)
            channel.queue_delete(QUEUE)
        except ConnectionClosedByBroker as error:
            if error.reply_code != INTERNAL_ERROR or time.monotonic() > deadline:
                raise Unfinished(f"what is left in the queue cannot be had ({error}): try again") from error
            time.sleep(0.1)
        else:
            return
        finally:
            hang_up(connection)


def _receive_all(channel: Channel, ledger: Ledger) -> None:
    """By a consumer: a quorum queue writes down each ``basic.get``, and waits until that is on the disk."""
    last = time.monotonic()
    for method, _, body in channel.consume(QUEUE, inactivity_timeout=0.1):
        if method is not None:
            ledger.receive(body or b"")
            channel.basic_ack(method.delivery_tag or 0)
            last = time.monotonic()
            continue
        left = channel.queue_declare(QUEUE, passive=True).method.message_count
        if not left and not ledger.account().lost:
            return
        if time.monotonic() - last > RETURN_TIMEOUT:
            if left:
                raise Unfinished(f"{left} orders are in the queue, and nobody gets them")
            return
