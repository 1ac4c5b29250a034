"""What must hold, as functions: each returns what breaks it. The verdict calls them by their names.

A participant that gets no work is not to blame: it is those who feed it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pika import BasicProperties

from rmqspec.client import Delivery
from rmqspec.tools.nemesis.account import Ledger
from rmqspec.tools.nemesis.findings import Breach
from rmqspec.tools.nemesis.odd import NAMES_QUEUES
from rmqspec.tools.nemesis.participants import Participant

__all__ = [
    "AFTER_A_FAULT",
    "ALWAYS",
    "AT_THE_END",
    "OF_A_DEAD_LETTER",
    "PROMISES",
    "State",
    "behind",
    "multiplied",
    "stalled",
    "unsettled",
    "unstopped",
]

# Each invariant by its name, as a sentence.
PROMISES: Mapping[str, str] = {
    "lost": "what is confirmed arrives",
    "unexpected": "nothing arrives that nobody has sent",
    "stalled": "after each fault everybody moves again",
    "ended": "nobody ends before being stopped",
    "unstopped": "everybody who is stopped ends",
    "overdue": "each call ends at its deadline",
    "unsettled": "each publish future ends",
    "expiring": "a copy to the dead letters does not expire",
    "multiplied": "a copy goes to one queue alone",
    "changed": "a copy has the values of the original",
}


@dataclass(slots=True)
class State:
    """What invariants look at.

    Attributes:
        participants: All of them.
        ledger: Of all orders.
        accounts: Which account of the ledger each publishing participant has, by its name.
        bound: Seconds within which everybody must move again.
        calm: Since when no fault is in force, by the monotonic clock.
        marks: How many steps each had made by then, and how often each had ended.
        known: Participants whose stall is a finding already, with their steps at that time.
    """

    participants: Sequence[Participant]
    ledger: Ledger
    accounts: Mapping[str, int]
    bound: float
    calm: float = 0.0
    marks: dict[Participant, tuple[int, int]] = field(default_factory=dict)
    known: dict[Participant, int] = field(default_factory=dict)

    def mark(self) -> None:
        """No fault is in force from now on."""
        self.marks = {one: (one.moved, one.ends) for one in self.participants}
        self.known = {one: moved for one, moved in self.known.items() if one.moved - moved < one.row.enough}
        self.calm = time.monotonic()

    def write_off(self) -> None:
        """What is a finding by now is not waited for after the next fault."""
        self.known |= {one: one.moved for one in behind(self)}
        for one in self.participants:
            for number in [number for number, at in list(one.publishes.items()) if at < self.calm]:
                one.publishes.pop(number, None)

    def steps(self, one: Participant) -> int:
        """How many steps it has made since the last fault."""
        return one.moved - self.marks[one][0]


def behind(state: State) -> list[Participant]:
    """Who has not shown life since the last fault. One that has ended since is another finding."""
    return [
        one
        for one in state.participants
        if one not in state.known and state.steps(one) < one.row.enough and one.ends == state.marks[one][1]
    ]


def stalled(state: State) -> list[Breach]:
    """Who has had work, and does not move. One that has moved a moment ago is slow, and that is no fault."""
    moving = {one.kind for one in state.participants if state.steps(one) >= one.row.enough}
    still = time.monotonic() - state.bound / 2
    found = [one for one in behind(state) if set(one.row.fed_by) <= moving and one.last < still]
    return [Breach(one.name, f"did not move again within {state.bound:g} s", since=one.last) for one in found]


def unsettled(state: State) -> list[Breach]:
    """Whose publish futures are still open, of those that were when the last fault was over."""
    left = [(one, [at for at in list(one.publishes.values()) if at < state.calm]) for one in state.participants]
    words = f"publishes without an outcome {state.bound:g} s after the fault"
    return [Breach(one.name, words, since=min(times)) for one, times in left if times]


def ended(state: State) -> list[Breach]:
    """Who has ended before being stopped."""
    return [one.endings.popleft() for one in state.participants for _ in range(len(one.endings))]


def overdue(state: State) -> list[Breach]:
    """Which calls are open after their deadlines."""
    now = time.monotonic()
    late = [(one, call) for one in state.participants for call, due in list(one.calls.items()) if due < now]
    popped = [(one, one.calls.pop(call, None)) for one, call in late]
    return [Breach(one.name, "calls open after their deadline", since=due) for one, due in popped if due]


def lost(state: State) -> list[Breach]:
    """Whose orders were confirmed and never arrived."""
    missing = {name: state.ledger.lost(producer) for name, producer in state.accounts.items()}
    return [
        Breach(
            name, f"{len(numbers):,} confirmed orders did not arrive", f"numbers {', '.join(map(str, numbers[:20]))}"
        )
        for name, numbers in missing.items()
        if numbers
    ]


def unexpected(state: State) -> list[Breach]:
    """Orders that nobody has published."""
    count = state.ledger.account().unexpected
    return [Breach("orders", f"{count:,} came from nowhere")] if count else []


def expiring(kind: str, _: BasicProperties, delivery: Delivery) -> list[Breach]:
    """A dead letter that the broker will delete before a person has seen it."""
    expires = delivery.properties.expiration
    return [Breach("worker", f"dead letters that expire, of messages with {kind}", f"{expires} ms")] if expires else []


def changed(kind: str, published: BasicProperties, delivery: Delivery) -> list[Breach]:
    """A dead letter whose headers have other values than the message that was published."""
    before, after = published.headers or {}, delivery.headers
    others = [name for name, value in before.items() if name != NAMES_QUEUES and after.get(name) != value]
    words = "; ".join(f"{name} was {before[name]!r:.40} and is {after.get(name)!r:.40}" for name in others)
    return [Breach("worker", f"other values, of messages with {kind}", words)] if others else []


def multiplied(delivery: Delivery) -> list[Breach]:
    """A copy in a queue that nobody publishes to, and no exchange is bound to: a CC header was followed once more."""
    return [Breach("worker", f"copies to {delivery.queue!r}, which a CC header names")]


def unstopped(participants: Sequence[Participant], seconds: float) -> list[Breach]:
    """Who has not ended so many seconds after being stopped."""
    deadline = time.monotonic() + seconds
    left = [one for one in participants if not one.join(deadline - time.monotonic())]
    return [Breach(one.name, f"did not end within {seconds:g} s of being stopped") for one in left]


ALWAYS: Mapping[str, Callable[[State], list[Breach]]] = {"ended": ended, "overdue": overdue}
AFTER_A_FAULT: Mapping[str, Callable[[State], list[Breach]]] = {"stalled": stalled, "unsettled": unsettled}
AT_THE_END: Mapping[str, Callable[[State], list[Breach]]] = {"lost": lost, "unexpected": unexpected}
OF_A_DEAD_LETTER: Mapping[str, Callable[[str, BasicProperties, Delivery], list[Breach]]] = {
    "expiring": expiring,
    "changed": changed,
}
