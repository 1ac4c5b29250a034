"""The clients' threads, deterministically: the shipped link, publisher, consumer and calls in a simulated world.

hypothesis draws which thread goes on at which line, what befalls the connection and when. What is asked: is every
message handled, does each call end at its deadline, does each publish end?

To see what it finds, undo a line of the shipped files and run it; MENDS holds such lines, and a test for each.

Code: rmqspec/client/link.py, rmqspec/client/outbox.py, rmqspec/client/consumer.py, rmqspec/client/rpc.py
"""

import concurrent.futures._base
import functools
import gc
import logging
import os
import sys
import time
import types
import weakref
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from rmqspec.client import RpcClient, Settings
from rmqspec.client.errors import CallTimedOut, ClientError

from . import simulated_clients
from .simulated_broker import Broker
from .simulated_clients import CHECKS, call, call_too_large, close, consume, publish, stop, worlds
from .simulated_threads import World, places_in


@pytest.fixture
def one_processor():
    """Keeps a test on one processor: of a world's threads one runs at a time, and to wake it elsewhere takes long."""
    if not hasattr(os, "sched_setaffinity"):  # Linux has it
        yield
        return
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(processors)[os.getpid() % len(processors)]})
    yield
    os.sched_setaffinity(0, processors)


@pytest.fixture
def simulate(monkeypatch, one_processor):
    """Runs a function as the main thread of a world, with a broker: `simulate(world, main)`."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    # A world that fails leaves publishers behind, which nobody can flush at the end of the tests.
    monkeypatch.setattr("rmqspec.client.process.at_exit", lambda _: None)
    monkeypatch.setattr("rmqspec.client.publisher._open", set())

    @functools.cache
    def places():
        modules = [module for name, module in sys.modules.items() if name.startswith("rmqspec.client")]
        return places_in([*modules, concurrent.futures._base], "open_loop")

    def run(world, main):
        def inside():
            broker = Broker(world)
            with world.inside(monkeypatch, places(), open_loop=broker.open_loop):
                main(broker)

        world.run(inside)

    yield run
    logging.disable(before)  # the function: it also clears what each logger remembers of being disabled


def look(check, simulate, examples):
    """Has hypothesis look for a world in which the check fails."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
        report_multiple_bugs=False,
        phases=[Phase.generate],  # found within seconds; to make it simpler takes half a minute: add Phase.shrink
    )
    @given(world=worlds, **CHECKS[check])
    def one(**drawn):
        check(simulate, **drawn)

    one()


class TestConsumer:
    """`Consumer`: nothing stalls."""

    def test_handles_every_message(self, simulate):
        """A wake-up lost with its connection stalls it for ever, with messages in the queue and nothing in the log."""
        look(consume, simulate, 150)

    def test_settles_before_its_goodbye_what_was_handled(self, simulate):
        """One stop in fifty has lost the last acknowledgements, and others did finished work again."""
        look(stop, simulate, 150)


class TestRpcClient:
    """`RpcClient`: each call ends in time."""

    def test_ends_each_call_at_its_deadline(self, simulate):
        """A caller that gave half a second and waits for ever holds whatever it holds for ever."""
        look(call, simulate, 150)

    def test_sends_again_what_was_behind_too_large_a_request(self, simulate):
        """The broker throws it away with the channel; a caller that waits for it would wait until its deadline."""
        look(call_too_large, simulate, 150)


class TestPublisher:
    """`Publisher`: each publish ends, and truly."""

    def test_ends_each_publish(self, simulate):
        """A future that never ends holds its message, its room in the window, and whoever waits for it."""
        look(publish, simulate, 150)


class TestBlocked:
    """An alarm of the broker's."""

    def test_is_named_by_a_call_that_times_out(self, simulate):
        """Asked whether its server runs, an operator looks in the wrong place; it is the broker that takes nothing."""
        world, said = World(), []

        def main(broker):
            client = RpcClient(Settings(), "calls", 0.5, on_blocked=said.append)
            broker.block("low on memory")
            broker.new_queue("held up")
            with pytest.raises(CallTimedOut, match=r"the broker blocks publishers \(low on memory\)"):
                client.call("held up", b"?")
            broker.block("")
            assert world.wait(lambda: not client.blocked, 1)
            client.close()

        simulate(world, main)
        assert said == ["low on memory", ""]


class TestLink:
    """`Link.close`."""

    def test_closes_within_two_seconds(self, simulate):
        """A service that is to end must not wait for a broker that is away, or for its own pause."""
        look(close, simulate, 100)


class TestWorld:
    """The simulated threads."""

    def test_finalizes_nothing_of_an_earlier_example(self):
        """Collected within the start of a thread, it would hand over to one that waits for that start, for ever."""
        left = CallTimedOut("in a cycle")
        left.itself = left
        gone = weakref.ref(left)
        del left

        def main():
            for _ in range(5_000):
                cycle = []
                cycle.append(cycle)
            assert gone() is not None

        World().run(main)
        assert gc.isenabled()


# What one line keeps from happening: the module, the line or two as they are, what they become, who notices.
CLOSING = "closing = self._closing.is_set()  # before: what was handed over until then leaves before the goodbye\n"
WORKS = f"{CLOSING}        self._tenant.on_work()"
WAKES = f"self._woken = False\n        {WORKS}"
MENDS = {
    "a wake-up dies with its loop, of a consumer": ("link", WAKES, WORKS, consume),
    "a wake-up dies with its loop, of a call": ("link", WAKES, WORKS, call),
    "woken is reset too late": ("link", WAKES, f"{WORKS}\n        self._woken = False", consume),
    "the goodbye overtakes the last outcomes": (
        "link",
        f"{WORKS}\n        if closing and",
        "self._tenant.on_work()\n        if self._closing.is_set() and",
        stop,
    ),
    "a handler begins although it was stopped": (
        "consumer",
        "self._begins = False  # here",
        "pass  # here",
        stop,
    ),
    "nobody looks when a loop has ended": (
        "link",
        "self._loop = loop\n        self._work()",
        "self._loop = loop",
        call,
    ),
    "nobody looks when a channel opens": (
        "link",
        "self._tenant.on_channel(channel, loop)\n            self._work()",
        "self._tenant.on_channel(channel, loop)",
        publish,
    ),
    "nobody looks in a pause": ("link", "self._bell.clear()\n                self._work()", "self._bell.clear()", call),
    "a pause is not interrupted": ("link", "self._bell.set()", "pass", close),
    "a deadline is not kept": ("rpc", "self._deadlines.add(call.deadline, call)", "pass", call),
    "room is not given back": ("rpc", "self._window.leave(1, len(call.request.body))\n        return", "return", call),
    "what waits behind too large a request fails": (
        "rpc",
        "self._limit, self._waits = limit, True",
        "self._limit = limit",
        call_too_large,
    ),
    "what was behind too large a request never leaves again": (
        "rpc",
        "self._outbox.put_back(behind)",
        "pass",
        call_too_large,
    ),
    "what was behind too large a request fails with it": (
        "rpc",
        "0 < call.place < place",
        "0 < call.place",
        call_too_large,
    ),
    "too large a request does not end": ("rpc", "if len(call.request.body) > limit", "if False", call_too_large),
    "a lost delivery is acknowledged": ("subscription", "word.session is not session", "False", consume),
}


class TestSimulation:
    """The simulation itself: it finds what it is for."""

    @pytest.mark.parametrize(("module", "mended", "undone", "check"), MENDS.values(), ids=MENDS)
    def test_finds_an_undone_mend(self, simulate, monkeypatch, module, mended, undone, check):
        """A simulation that passes whatever the code does would prove nothing."""
        patch(monkeypatch, sys.modules[f"rmqspec.client.{module}"], mended, undone)
        begin = time.process_time()  # a busy machine is not the simulation's fault

        with pytest.raises((AssertionError, ClientError)):
            look(check, simulate, 2_000)

        assert time.process_time() - begin < 10


def patch(monkeypatch, module, old, new):
    """Puts a module with one line changed in place of the shipped one, wherever its names are used."""
    source = Path(module.__file__).read_text()
    assert source.count(old) == 1
    patched = types.ModuleType(module.__name__)
    patched.__file__ = module.__file__
    monkeypatch.setitem(sys.modules, module.__name__, patched)
    exec(compile(source.replace(old, new), module.__file__, "exec"), vars(patched))
    users = [user for name, user in sys.modules.items() if name.startswith("rmqspec.client")]
    for user in [*users, simulated_clients]:
        for name in module.__all__:
            if getattr(user, name, None) is getattr(module, name):
                monkeypatch.setattr(user, name, getattr(patched, name))
