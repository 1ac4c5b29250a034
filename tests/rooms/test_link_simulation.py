"""The clients' threads, deterministically: the shipped link, publisher, consumer and calls in a simulated world.

hypothesis draws which thread goes on at which line, what befalls the connection and when. What is asked: is every
message handled, does each call end at its deadline, does each publish end?

To see what it finds, undo a line of the shipped files and run it; MENDS holds such lines, and a test for each.

Code: rmqspec/client/link.py, rmqspec/client/outbox.py, rmqspec/client/consumer.py, rmqspec/client/rpc.py
"""

import concurrent.futures._base
import logging
import sys
import time
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rmqspec.client import Consumer, Outcome, Publisher, RpcClient, Settings
from rmqspec.client.errors import CallTimedOut, ClientError, PublishFailed

from .simulated_broker import Broker
from .simulated_threads import World

LIMIT = 60.0  # seconds of the world, after the last fault, until all must have come to rest

worlds = st.builds(
    World,
    st.lists(st.tuples(st.integers(1, 120), st.integers(0, 5)), max_size=30),
    st.lists(st.integers(0, 5), max_size=30),
)
pauses = st.one_of(st.integers(0, 40), st.sampled_from([0, 300, 600]))  # milliseconds; the latter meet
kinds = st.sampled_from(["cut", "away", "back", "alarm", "channel", "cut at a wake-up", "away at a wake-up"])
faults = st.lists(st.tuples(pauses, kinds), max_size=5)


@pytest.fixture
def simulate(monkeypatch):
    """Runs a function as the main thread of a world, with a broker: `simulate(world, main)`."""
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)

    def run(world, main):
        modules = [module for name, module in sys.modules.items() if name.startswith("rmqspec.client")]

        def inside():
            broker = Broker(world)
            with world.inside(monkeypatch, [*modules, concurrent.futures._base], open_loop=broker.open_loop):
                main(broker)

        world.run(inside)

    return run


def suffer(world, broker, faults):
    """Faults, each some milliseconds after the last; after the last one the broker is well again."""

    def cut(away=False):
        broker.accepts = broker.accepts and not away
        broker.cut()

    strike = {
        "cut": cut,
        "away": lambda: cut(away=True),
        "back": lambda: setattr(broker, "accepts", True),
        "alarm": lambda: broker.block("" if broker.blocked else "low on memory"),
        "channel": lambda: broker.close_channel("calls"),
        "cut at a wake-up": lambda: setattr(broker, "on_wake", cut),
        "away at a wake-up": lambda: setattr(broker, "on_wake", lambda: cut(away=True)),
    }
    for milliseconds, fault in faults:
        world.sleep(milliseconds / 1000)
        strike[fault]()
    world.sleep(0.02)
    broker.accepts, broker.on_wake = True, None
    if broker.blocked:
        broker.block("")


def thread(world, target, *arguments):
    started = world.threading.Thread(target=target, args=arguments)
    started.start()
    return started


def consume(simulate, world, faults, concurrency, work):
    """Bursts of two messages: each ends with one after which nobody else wakes the link."""
    handled, milliseconds = set(), iter(work)

    def handler(delivery):
        world.sleep(next(milliseconds, 0) / 1000)
        handled.add(delivery.body)
        return Outcome.ACK

    def main(broker):
        queue = broker.new_queue("q")
        consumer = Consumer(Settings(), "q", handler, prefetch=2, concurrency=concurrency)
        running = thread(world, consumer.run)
        assert world.wait(lambda: consumer.connected, LIMIT)
        fate = thread(world, suffer, world, broker, faults)
        for burst in range(6):
            queue.extend(broker.message(b"%d-%d" % (burst, number)) for number in range(2))
            broker.deliver()
            assert world.wait(lambda: not queue and not broker.unacked(), LIMIT), f"stalled at {burst}"
            assert len(handled) == 2 * (burst + 1)
        fate.join()
        consumer.stop()
        running.join(LIMIT)
        assert not running.is_alive()

    simulate(world, main)


def call(simulate, world, faults, pauses):
    """Three callers, of a server that answers at once and of one that never does; one does not wait for its calls."""
    timeout, ends = 0.5, []

    def main(broker):
        broker.new_queue("nobody answers")
        client = RpcClient(Settings(), "calls", timeout, window=9)

        def send(queue):
            begin, question = world.now, b"%f" % world.now
            future = client.send(queue, question)
            future.add_done_callback(lambda _: ends.append(world.now - begin))
            return future, question

        def caller(pause, waits):
            for queue in ("echo", "nobody answers", "echo"):
                future, question = send(queue)
                if waits:
                    error = future.exception()
                    assert error or future.result() == question
                    # The server answers at once, or its reply is lost with the connection, and that is known at once.
                    assert queue != "echo" or not isinstance(error, CallTimedOut)
                world.sleep(pause / 1000)

        fate = thread(world, suffer, world, broker, faults)
        callers = [thread(world, caller, pause, number) for number, pause in enumerate(pauses)]
        for each in callers:
            each.join(LIMIT)
        world.sleep(timeout)
        assert len(ends) == 9
        assert max(ends) <= timeout + 0.001
        fate.join()
        assert world.wait(lambda: client.connected, LIMIT)
        assert client.call("echo", b"well again") == b"well again"
        assert client.in_flight == 0
        client.close()

    simulate(world, main)


def publish(simulate, world, faults, resend, window):
    """Three publishers of pairs, each pair flushed."""
    futures = []

    def main(broker):
        broker.new_queue("q")
        publisher = Publisher(Settings(), window=window, patience=LIMIT, resend=resend)

        def caller(name):
            for number in range(3):
                futures.extend(publisher.publish("", "q", b"%s-%d-%d" % (name, number, n)) for n in range(2))
                assert publisher.flush(LIMIT)

        fate, callers = (
            thread(world, suffer, world, broker, faults),
            [thread(world, caller, name) for name in (b"a", b"b")],
        )
        for each in [*callers, fate]:
            each.join(LIMIT)
        publisher.close()
        assert len(futures) == 12
        for future in futures:
            assert future.done()
            error = future.exception(0)
            assert error is None or (isinstance(error, PublishFailed) and not resend)
            if error is None:
                assert broker.published[future.result(0).message.body] >= 1

    simulate(world, main)


def close(simulate, world, faults, away, moment):
    """Closes a publisher in the middle of it all, or of an outage."""
    futures = []

    def main(broker):
        broker.new_queue("q")
        publisher = Publisher(Settings(), window=3, patience=LIMIT)
        futures.extend(publisher.publish("", "q", b"%d" % number) for number in range(3))
        fate = thread(world, suffer, world, broker, [(0, "away"), (away * 1000, "back")] if away else faults)
        world.sleep(moment / 1000 + away / 2)
        begin = world.now
        publisher.close(0.0)
        assert world.now - begin <= 2.0
        assert not publisher._link._thread.is_alive()
        assert all(future.done() for future in futures)
        fate.join()

    simulate(world, main)


CHECKS = {
    consume: {"concurrency": st.integers(1, 3), "work": st.lists(st.integers(0, 20), max_size=8)},
    call: {"pauses": st.lists(pauses, min_size=3, max_size=3)},
    publish: {"resend": st.booleans(), "window": st.integers(1, 5)},
    close: {"moment": pauses, "away": st.sampled_from([0, 0, 60])},
}


def look(check, simulate, examples, **options):
    """Has hypothesis look for a world in which the check fails."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
        **options,
    )
    @given(world=worlds, faults=faults, **CHECKS[check])
    def one(**drawn):
        check(simulate, **drawn)

    one()


class TestConsumer:
    """`Consumer`: nothing stalls."""

    def test_handles_every_message(self, simulate):
        """A wake-up lost with its connection stalls it for ever, with messages in the queue and nothing in the log."""
        look(consume, simulate, 150)


class TestRpcClient:
    """`RpcClient`: each call ends in time."""

    def test_ends_each_call_at_its_deadline(self, simulate):
        """A caller that gave half a second and waits for ever holds whatever it holds for ever."""
        look(call, simulate, 150)


class TestPublisher:
    """`Publisher`: each publish ends, and truly."""

    def test_ends_each_publish(self, simulate):
        """A future that never ends holds its message, its room in the window, and whoever waits for it."""
        look(publish, simulate, 150)


class TestLink:
    """`Link.close`."""

    def test_closes_within_two_seconds(self, simulate):
        """A service that is to end must not wait for a broker that is away, or for its own pause."""
        look(close, simulate, 100)


# What one line keeps from happening: the module, the line or two as they are, what they become, who notices.
WAKES = "self._woken = False\n        self._tenant.on_work()"
MENDS = {
    "a wake-up dies with its loop, of a consumer": ("link", WAKES, "self._tenant.on_work()", consume),
    "a wake-up dies with its loop, of a call": ("link", WAKES, "self._tenant.on_work()", call),
    "woken is reset too late": ("link", WAKES, "self._tenant.on_work()\n        self._woken = False", consume),
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
            look(check, simulate, 2_000, phases=[Phase.generate])

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
    for user in [*users, sys.modules[__name__]]:
        for name in module.__all__:
            if getattr(user, name, None) is getattr(module, name):
                monkeypatch.setattr(user, name, getattr(patched, name))
