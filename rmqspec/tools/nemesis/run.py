"""A run: traffic, faults at random moments, life after each of them, and the account at the end."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pika.exceptions import ConnectionClosedByBroker

from rmqspec.client import Channel, Settings, connect
from rmqspec.client.connection import hang_up
from rmqspec.client.errors import ClientError
from rmqspec.tools.broker import Broker
from rmqspec.tools.broker.endpoint import random_login
from rmqspec.tools.nemesis import order_traffic
from rmqspec.tools.nemesis.account import Account, Ledger
from rmqspec.tools.nemesis.faults import FAULTS, VHOST, Arena, schedule
from rmqspec.tools.nemesis.findings import Finding, Findings
from rmqspec.tools.nemesis.invariants import AT_THE_END, PROMISES, State, unstopped
from rmqspec.tools.nemesis.kinds import PARTICIPANTS
from rmqspec.tools.nemesis.participants import Participant
from rmqspec.tools.nemesis.shared import Shared
from rmqspec.tools.nemesis.watch import Watch
from rmqspec.tools.wire import Proxy

__all__ = ["Plan", "Result", "Unfinished", "run"]

Say = Callable[[float, str], None]  # seconds since the begin, and what happens

WORKER = "nemesis-worker"
FIRST = ("lost", "unexpected", "stalled")  # invariants that the verdict names, broken or not
BOUND = 15.0  # seconds: a few attempts to connect, and a machine that is busy with all of this
# A silent network is noticed within a run, and nobody waits for an answer or before a new attempt longer than BOUND.
LINK = {"heartbeat": 3, "answer_timeout": 8.0, "timeout": 5.0, "max_backoff": 1.0}
STOP_TIMEOUT = 40.0  # seconds: the last confirms, or the grace of a handler
DRAIN_TIMEOUT = 120.0  # seconds
INTERNAL_ERROR = 541  # https://www.rabbitmq.com/amqp-0-9-1-reference#constants
RETURN_TIMEOUT = 5.0  # seconds for what was unacknowledged to be back; nobody holds any of it then


class Unfinished(ClientError):
    """What is left in a queue cannot be had: there is no account to trust."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run.

    Attributes:
        seconds: How long there are faults.
        queue_type: ``classic`` or ``quorum``.
        participants: How many there are of each kind; kinds that are not named do not take part.
        work: Milliseconds at most that a handler takes.
        seed: Decides which fault comes when.
        faults: The names of those that may come.
        bound: Seconds within which everybody must move again after a fault.
        confirms: Without them an order counts as confirmed when it is written: the check must find losses then.
        auto_ack: With it an order counts as done when it is sent to a consumer: the same.
    """

    seconds: float = 60.0
    queue_type: str = "classic"
    participants: Mapping[str, int] = field(
        default_factory=lambda: {name: kind.count for name, kind in PARTICIPANTS.items()}
    )
    work: float = 20.0
    seed: int = 0
    faults: Sequence[str] = tuple(FAULTS)
    bound: float = BOUND
    confirms: bool = True
    auto_ack: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came out.

    Attributes:
        account: Of every order.
        findings: What broke an invariant.
        blows: How often each fault came.
        seconds: How long it all took, the last orders included.
        slowest: Seconds that the slowest return to life took.
        slow: Who was not stalled, and made too few steps within the bound to prove it.
    """

    account: Account
    findings: list[Finding]
    blows: Counter[str]
    seconds: float
    slowest: float
    slow: list[str]

    @property
    def holds(self) -> bool:
        """Whether all invariants hold."""
        return not self.findings

    @property
    def verdict(self) -> str:
        """One sentence."""
        broken = {name: [one for one in self.findings if one.invariant == name] for name in PROMISES}
        first = ", ".join(f"{name} {len(broken[name])}" for name in FIRST)
        others = "".join(f", {name} {len(found)}" for name, found in broken.items() if found and name not in FIRST)
        faults = f"{self.blows.total()} faults in {self.seconds:.0f} s, {self.account.attempted:,} orders"
        if self.holds:
            slow = f", but slow were {', '.join(self.slow)}" if self.slow else ""
            return f"held: {faults}: {first}; everybody moved again within {self.slowest:.1f} s{slow}"
        return f"FAILED: {faults}: {first}{others}; first: {self.findings[0]}"


def run(broker: Broker, plan: Plan, say: Say = lambda _, __: None) -> Result:
    """Runs a plan against a broker that is there for that.

    Raises:
        NotOurs: The broker is somebody else's.
        Unfinished: There is no account to trust.
    """
    worker_url = _prepare(broker, plan)
    with (
        tempfile.TemporaryDirectory(prefix="rmqspec-nemesis-") as directory,
        Proxy(broker.endpoint.host, broker.endpoint.port) as proxy,
    ):
        settings = Settings(urls=(proxy.url(broker.endpoint.url(VHOST)),), label="nemesis", **LINK)  # type: ignore[arg-type]
        names = [f"{kind}-{n}" for kind, count in plan.participants.items() for n in range(1, count + 1)]
        shared = Shared(
            settings,
            replace(settings, urls=(proxy.url(worker_url),)),
            broker.endpoint.user,
            Ledger(len(names)),
            {name: account for account, name in enumerate(names)},
            Findings(),
            Path(directory),
            plan.work / 1000,
            plan.seconds / 4,
            plan.confirms,
            plan.auto_ack,
        )
        return _Run(broker, plan, shared, Arena(broker, proxy), say).go()


class _Run:
    """One run."""

    def __init__(self, broker: Broker, plan: Plan, shared: Shared, arena: Arena, say: Say) -> None:
        self._broker, self._plan, self._shared, self._arena = broker, plan, shared, arena
        self._findings, self._ledger = shared.findings, shared.ledger
        self._tell = say
        self._blows, self._slowest, self._said = Counter[str](), 0.0, 0
        self._slow = set[str]()
        self._participants = [
            Participant(shared, kind, PARTICIPANTS[kind], number)
            for kind, count in plan.participants.items()
            for number in range(1, count + 1)
        ]

    def go(self) -> Result:
        state = State(self._participants, self._ledger, self._shared.accounts, self._plan.bound)
        state.mark()
        try:
            with Watch(state, self._findings) as watch:
                for one in self._participants:
                    one.start()
                self._strike(watch)
                self._say("all is well again: the last orders are published and handled")
                self._stop([one for one in self._participants if one.row.feeds])
                self._drain()
                self._stop([one for one in self._participants if not one.row.feeds])
        finally:
            for one in self._participants:  # whatever has gone wrong: nobody publishes or consumes for ever
                one.stop()
        _take_the_rest(self._broker, self._ledger)
        for name, check in AT_THE_END.items():
            self._findings.add(name, *check(state))
        return Result(
            self._ledger.account(),
            self._findings.all(),
            self._blows,
            self._findings.now(),
            self._slowest,
            sorted(self._slow),
        )

    def _say(self, words: str) -> None:
        self._tell(self._findings.now(), words)

    def _strike(self, watch: Watch) -> None:
        self._settle(watch)
        end = time.monotonic() + self._plan.seconds
        for blow in schedule(self._plan.seed, self._plan.faults):
            if time.monotonic() + blow.pause >= end:
                break
            time.sleep(blow.pause)
            fault = FAULTS[blow.name]
            self._say(fault.words)
            self._findings.fault(blow.name)
            fault.begin(self._arena)
            time.sleep(blow.seconds)
            fault.end(self._arena)
            self._blows[blow.name] += 1
            if fault.forgets:
                self._forget()
            self._settle(watch)
        time.sleep(max(0.0, end - time.monotonic()))
        self._settle(watch)

    def _forget(self) -> None:
        for name, account in self._shared.accounts.items():
            self._ledger.forget(account, partial(order_traffic.may_be_dead_lettered, name, account))

    def _settle(self, watch: Watch) -> None:
        seconds, slow = watch.settle()
        if self._blows:  # before the first fault nobody moves again
            self._slowest = max(self._slowest, seconds)
        self._slow |= set(slow)
        found = self._findings.all()
        for finding in found[self._said :]:
            self._say(f"  {finding.invariant} (found at {finding.found:.1f} s): {finding}")
        self._said = len(found)
        if slow:
            self._say(f"  slow: {', '.join(slow)}")

    def _stop(self, participants: list[Participant]) -> None:
        for one in participants:
            one.stop()
        self._findings.add("unstopped", *unstopped(participants, STOP_TIMEOUT))

    def _drain(self) -> None:
        """Waits until all that was confirmed has arrived, or nothing more arrives."""
        begin = last = time.monotonic()
        received = -1
        while self._ledger.account().lost and last - begin < DRAIN_TIMEOUT:
            if (now := self._ledger.received) != received:
                received, last = now, time.monotonic()
            elif time.monotonic() - last > self._plan.bound:
                return
            time.sleep(0.1)


def _prepare(broker: Broker, plan: Plan) -> str:
    """Makes a vhost with empty queues, has the broker write down that they are there, and returns the workers' URL."""
    management, user = broker.management, broker.endpoint.user
    if VHOST in management.vhosts():  # that of a run that came to no end, with its orders
        management.delete_vhost(VHOST)
    # The order system declares queues without a type, and so by the vhost's default, which is classic.
    if plan.queue_type == "classic":
        management.create_vhost(VHOST)
    else:  # the API of 3.10 cannot say it
        broker.control("add_vhost", VHOST, "--default-queue-type", plan.queue_type)
    worker = replace(broker.endpoint, user=WORKER, password=random_login()[1])
    management.create_user(worker.user, worker.password)
    for login in (user, worker.user):
        management.permit(VHOST, login, ".*", ".*", ".*")
    connection = connect(broker.endpoint.url(VHOST), "nemesis")
    order_traffic.declare(connection.channel(), plan.queue_type)
    connection.close()
    if "kill" in plan.faults:
        # A declaration is answered before it is on disk. Killed within the first second, a broker (3.10) has now and
        # then forgotten a classic queue with all that was confirmed in it; a quorum queue comes back empty, or never
        # answers (3.10, 4.0 and 4.3). A stop in good order writes it down.
        broker.restart()
    return worker.url(VHOST)


def _take_the_rest(broker: Broker, ledger: Ledger) -> None:
    """What is still in a queue is not lost: what was unacked when consumers ended goes back, at once or later.

    A quorum queue may stumble over that: its leader ends, and with it whoever asks it at that moment (541), and comes
    back. Source: https://github.com/rabbitmq/rabbitmq-server/issues/12635
    """
    back = time.monotonic() + RETURN_TIMEOUT
    for queue in order_traffic.ENDS:
        while not _take(broker, queue, ledger, back):
            if time.monotonic() > back + RETURN_TIMEOUT:
                raise Unfinished(f"what is left in {queue!r} cannot be had ({INTERNAL_ERROR}): try again")
            time.sleep(0.1)
    broker.management.delete_vhost(VHOST)


def _take(broker: Broker, queue: str, ledger: Ledger, back: float) -> bool:
    """Takes what is left in a queue; False if it stumbled."""
    connection = connect(broker.endpoint.url(VHOST), "nemesis")
    try:
        _receive_all(connection.channel(), queue, ledger, back)
    except ConnectionClosedByBroker as error:
        if error.reply_code != INTERNAL_ERROR:
            raise Unfinished(f"what is left in {queue!r} cannot be had ({error}): try again") from error
        return False
    finally:
        hang_up(connection)
    return True


def _receive_all(channel: Channel, queue: str, ledger: Ledger, back: float) -> None:
    """By a consumer: a quorum queue writes down each ``basic.get``, and waits until that is on the disk."""
    last = time.monotonic()
    for method, properties, body in channel.consume(queue, inactivity_timeout=0.1):
        if method is not None and properties is not None:
            ledger.receive(order_traffic.named(properties.message_id, body or b""))
            channel.basic_ack(method.delivery_tag or 0)
            last = time.monotonic()
            continue
        left = channel.queue_declare(queue, passive=True).method.message_count
        if left and time.monotonic() - last > RETURN_TIMEOUT:
            raise Unfinished(f"{left} orders are in {queue!r}, and nobody gets them")
        if not left and (time.monotonic() > back or not ledger.account().lost):
            return
