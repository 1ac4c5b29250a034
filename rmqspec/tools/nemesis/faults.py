"""What can go wrong between a client and its broker, as data; and a random order of it that a seed repeats."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from rmqspec.tools.broker import Broker
from rmqspec.tools.wire import Proxy

__all__ = ["FAULTS", "VHOST", "Arena", "Blow", "Fault", "schedule"]

VHOST = "nemesis"
PAUSE = (0.5, 4.0)  # seconds between two faults in which all is well
FLICKER = (0.3, 0.7, 0.5, 0.9, 0.4, 0.6, 0.8) * 2  # seconds before each cut: enough to connect and be at work again
CLOSED = (3, 10, 5)  # connections that are closed at once, of some thirty


@dataclass(frozen=True, slots=True)
class Arena:
    """What faults are done to.

    Attributes:
        broker: One that is there for that.
        proxy: Between it and its clients.
    """

    broker: Broker
    proxy: Proxy


def nothing(_: Arena) -> None:
    """The end of a fault that mends itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, and is mended.

    Attributes:
        words: What happens, for whoever looks on.
        begin: Does it.
        end: Undoes it.
        seconds: Between how many and how many it lasts.
        forgets: Whether the broker loses what it has not written to the disk.
    """

    words: str
    begin: Callable[[Arena], object]
    end: Callable[[Arena], object] = nothing
    seconds: tuple[float, float] = (0.0, 0.0)
    forgets: bool = False


def _cut_and_refuse(arena: Arena) -> None:
    arena.proxy.accept_no_connections()
    arena.proxy.cut()


def _flicker(arena: Arena) -> None:
    for pause in FLICKER:
        time.sleep(pause)
        arena.proxy.cut()


def _come_back_without_memory(arena: Arena) -> None:
    # As a firewall that has forgotten its connections: what was under way is gone.
    arena.proxy.cut()
    arena.proxy.heal()


def _block(arena: Arena) -> None:
    arena.broker.control("set_vm_memory_high_watermark", "absolute", "1")


def _unblock(arena: Arena) -> None:
    arena.broker.control("set_vm_memory_high_watermark", "0.6")


def _close_some(arena: Arena) -> None:
    # A service has several connections, and must go on where one of them alone is gone.
    for limit in CLOSED:
        arena.broker.control("close_all_connections", "--vhost", VHOST, "--limit", str(limit), "nemesis closes some")


FAULTS: Mapping[str, Fault] = {
    "kill": Fault(
        "the broker is killed (kill -9), and started again",
        lambda arena: arena.broker.kill(), lambda arena: arena.broker.start(), (0.0, 2.0), forgets=True,
    ),
    "restart": Fault(
        "the broker is stopped in good order, and started again",
        lambda arena: arena.broker.stop(), lambda arena: arena.broker.start(), (0.0, 2.0),
    ),
    "cut": Fault("all connections are cut", lambda arena: arena.proxy.cut()),
    "flicker": Fault(
        f"all connections are cut {len(FLICKER)} times, each time when handlers are at work again", _flicker
    ),
    "close": Fault("an operator closes some of the connections, and then some others", _close_some),
    "half-open": Fault(
        "the network goes silent, and comes back without memory of its connections",
        lambda arena: arena.proxy.half_open(), _come_back_without_memory, (1.0, 8.0),
    ),
    "delay": Fault(
        "all bytes are late",
        lambda arena: arena.proxy.delay(0.1), lambda arena: arena.proxy.heal(), (1.0, 4.0),
    ),
    "refuse": Fault(
        "all connections are cut, and new ones refused",
        _cut_and_refuse, lambda arena: arena.proxy.heal(), (1.0, 4.0),
    ),
    "block": Fault("the broker runs out of memory, and blocks publishers", _block, _unblock, (1.0, 4.0)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Blow:
    """When a fault comes, and how long it lasts: seconds of quiet before it, seconds until it is mended."""

    name: str
    pause: float
    seconds: float


def schedule(seed: int, names: Iterable[str]) -> Iterator[Blow]:
    """An endless order of faults; the same seed gives the same.

    Args:
        seed: Any number.
        names: Which faults may come; each comes once in each turn, so that none is left out by chance.

    Raises:
        KeyError: There is no such fault.
    """
    chance = random.Random(seed)  # noqa: S311  (a simulation)
    names = sorted(names)
    while names:
        for name in chance.sample(names, len(names)):
            yield Blow(name, chance.uniform(*PAUSE), chance.uniform(*FAULTS[name].seconds))
