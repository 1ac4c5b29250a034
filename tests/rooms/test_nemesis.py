"""The nothing-lost test: its account, its faults, and that it finds losses where there are some."""

import threading
from contextlib import nullcontext
from importlib import import_module
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.exceptions import ConnectionClosedByBroker

from rmqspec.client import Channel
from rmqspec.tools.broker.errors import ControlError
from rmqspec.tools.nemesis import FAULTS, Ledger, Plan, run, schedule
from rmqspec.tools.nemesis.account import Fate
from rmqspec.tools.nemesis.faults import Fault
from rmqspec.tools.nemesis.run import Unfinished

from .nemesis_runs import SOON, broken, disposable_broker, only, quick, replace_participant

__all__ = ["disposable_broker", "replace_participant"]

CUT_SILENCE_KILL = 34246  # a seed whose faults come in this order within 4 seconds

# Two faults that lose for certain. A broker in alarm reads nothing from publishers, while consumers take what it has:
# so what is still published, and counted, stands in buffers on the way, and these die with their sockets.
KILLED_WHILE_BLOCKED = Fault(
    "killed while it blocks publishers", FAULTS["block"].begin,
    lambda arena: (arena.broker.kill(), arena.broker.start()), (1.0, 1.0),
)  # fmt: skip
# Each of two producers sends 20 kB a second; of that the one consumer gets 20 kB a second, in frames that are larger.
# More than half is acknowledged by being sent, and still on its way after a second.
CUT_WHILE_SLOW = Fault(
    "cut while it is slow", lambda arena: arena.proxy.throttle(20_000),
    lambda arena: (arena.proxy.cut(), arena.proxy.heal()), (1.5, 1.5),
)  # fmt: skip
NO_SUCH_COMMAND = Fault("a command that there is not", lambda arena: arena.broker.control("frobnicate"))


class TestLedger:
    """What is noted of every order, and what it adds up to."""

    @pytest.mark.parametrize(
        ("fate", "times", "entry"),
        [
            (Fate.CONFIRMED, 1, {"confirmed": 1, "received": 1}),
            (Fate.CONFIRMED, 0, {"confirmed": 1, "lost": 1}),
            (Fate.CONFIRMED, 3, {"confirmed": 1, "received": 1, "duplicated": 2}),
            (Fate.UNKNOWN, 0, {"unknown": 1}),
            (Fate.UNKNOWN, 1, {"received": 1, "recovered": 1}),
            (Fate.REFUSED, 0, {"refused": 1}),
            (Fate.REFUSED, 1, {"received": 1, "recovered": 1}),
        ],
        ids=["arrived", "lost", "repeated", "unknown", "recovered", "refused", "refused_and_arrived"],
    )
    def test_enters_an_order_by_its_fate(self, fate, times, entry):
        """Each word of the summary has one meaning."""
        ledger = Ledger(1)
        number = ledger.attempt(0)

        ledger.settle(0, number, fate)
        for _ in range(times):
            ledger.receive(b"0:0")

        account = ledger.account()
        seen = {name: count for name in account.__slots__ if (count := getattr(account, name))}
        assert seen == {"attempted": 1, **entry}
        assert account.holds == ("lost" not in entry)

    def test_does_not_call_lost_what_a_kill_takes_from_a_dead_letter_exchange(self):
        """The broker moves dead letters without waiting for the disk, and promises nothing of them."""
        ledger = Ledger(1)
        for _ in range(4):
            ledger.settle(0, ledger.attempt(0), Fate.CONFIRMED)
        ledger.receive(b"0:0")

        ledger.forget(0, lambda number: number < 3)
        ledger.receive(b"0:1")

        account = ledger.account()
        assert (account.confirmed, account.received, account.unsafe, account.lost) == (4, 2, 1, 1)
        assert ledger.lost(0) == [3]

    @pytest.mark.parametrize("body", [b"0:1", b"1:0", b"-1:0", b"0:-1", b"an order", b"", b"0:0:0"])
    def test_does_not_expect_what_nobody_attempted(self, body):
        """A message from nowhere is as bad as one that is lost."""
        ledger = Ledger(1)
        ledger.attempt(0)

        ledger.receive(body)

        account = ledger.account()
        assert (account.unexpected, account.received, account.holds) == (1, 0, False)

    @given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(Fate), st.integers(0, 300))))
    def test_balances(self, orders):
        """No order is in two columns, and none in no column."""
        ledger = Ledger(3)
        for producer, fate, times in orders:
            number = ledger.attempt(producer)
            ledger.settle(producer, number, fate)
            for _ in range(times):
                ledger.receive(b"%d:%d" % (producer, number))

        account = ledger.account()

        assert account.attempted == len(orders)
        ends = (account.received, account.lost, account.unknown, account.refused, account.unsafe)
        assert sum(ends) == len(orders)
        assert account.confirmed == account.received - account.recovered + account.lost + account.unsafe


class TestSchedule:
    """Which fault comes when."""

    def test_is_repeated_by_its_seed(self):
        """What went wrong once can be looked at twice."""
        first, again, other = (list(islice(schedule(seed, FAULTS), 50)) for seed in (7, 7, 8))

        assert first == again
        assert first != other

    def test_leaves_no_fault_out(self):
        """A fault that chance never chose has proved nothing."""
        names = [blow.name for blow in islice(schedule(1, FAULTS), 3 * len(FAULTS))]

        assert [sorted(names[at : at + len(FAULTS)]) for at in range(0, len(names), len(FAULTS))] == [
            sorted(FAULTS)
        ] * 3

    def test_has_no_fault_where_none_is_named(self):
        """Traffic alone is the twin of every fault."""
        assert list(schedule(1, [])) == []


@pytest.mark.timeout(120)
class TestRun:
    """Traffic and faults on a real broker."""

    @pytest.mark.parametrize("queue_type", ["classic", "quorum"])
    def test_loses_nothing_that_was_confirmed(self, disposable_broker, queue_type):
        """Under faults in the middle of full speed; what is not confirmed may be there or not."""
        participants = {"producer": 2, "consumer": 2}
        plan = Plan(7.0, queue_type, participants, work=1.0, seed=CUT_SILENCE_KILL, faults=("kill", "cut", "half-open"))

        result = run(disposable_broker, plan)

        account = result.account
        assert (account.lost, account.unexpected) == (0, 0)
        assert set(result.blows) == {"cut", "half-open", "kill"}
        assert account.received > 1_000
        assert account.unknown + account.recovered > 0  # publishers were hit with orders in flight
        assert account.duplicated > 0  # and consumers with orders in hand

    @pytest.mark.parametrize(
        ("careless", "fault"),
        [
            ({"confirms": False, "faults": ("kill",)}, KILLED_WHILE_BLOCKED),
            ({"auto_ack": True, "faults": ("cut",)}, CUT_WHILE_SLOW),
        ],
        ids=["without_confirms", "with_auto_ack"],
    )
    def test_finds_what_carelessness_loses(self, disposable_broker, monkeypatch, careless, fault):
        """A check that never found anything would prove nothing."""
        monkeypatch.setitem(FAULTS, *careless["faults"], fault)
        plan = quick(3.0, participants={"producer": 2, "consumer": 1}, seed=SOON, bound=3.0, **careless)

        result = run(disposable_broker, plan)

        assert result.blows.total() == 1
        assert result.account.lost > 0
        assert "lost" in {name for name, _ in broken(result.findings)}
        assert not result.holds

    def test_finds_no_loss_where_nothing_goes_wrong(self, disposable_broker):
        """Carelessness alone loses nothing: what the check has found was lost by a fault."""
        participants = {"producer": 2, "consumer": 2}
        result = run(disposable_broker, quick(1.0, participants=participants, confirms=False, auto_ack=True))

        account = result.account
        assert account.attempted == account.confirmed == account.received > 100
        assert (account.lost, account.unexpected, account.duplicated) == (0, 0, 0)

    @pytest.mark.parametrize(("code", "ends"), [(541, nullcontext()), (320, pytest.raises(Unfinished, match="320"))])
    def test_asks_again_where_a_queue_has_stumbled(self, disposable_broker, monkeypatch, code, ends):
        """A defect of the broker that brings everything back is no loss; a broker that is stopped is another thing."""
        errors, consume = iter([ConnectionClosedByBroker(code, "at the end")]), Channel.consume

        def stumble(channel, queue, **arguments):
            for error in errors:
                raise error
            return consume(channel, queue, **arguments)

        monkeypatch.setattr(Channel, "consume", stumble)

        with ends:
            result = run(disposable_broker, quick(0.5, participants=only("producer", "consumer")))
            assert result.account.holds

    def test_calls_nothing_lost_that_is_still_in_the_queue(self, disposable_broker, monkeypatch):
        """Who could not look has no account to give."""

        def starve(channel, queue, **_):
            channel.confirm_delivery()
            channel.basic_publish("", queue, b"0:0")
            while True:
                yield None, None, None

        monkeypatch.setattr(Channel, "consume", starve)
        monkeypatch.setattr(import_module("rmqspec.tools.nemesis.run"), "RETURN_TIMEOUT", 0.1)

        with pytest.raises(Unfinished, match="1 orders are in 'nemesis'"):
            run(disposable_broker, quick(0.5, participants=only("producer", "consumer")))

    def test_ends_its_traffic_when_a_fault_cannot_be_done(self, disposable_broker, monkeypatch, eventually):
        """Threads that go on knocking would disturb whoever comes next."""
        monkeypatch.setitem(FAULTS, "cut", NO_SUCH_COMMAND)
        plan = quick(3.0, participants=only("producer", "consumer"), seed=SOON, faults=("cut",))

        with pytest.raises(ControlError, match="frobnicate"):
            run(disposable_broker, plan)

        eventually(lambda: [thread for thread in threading.enumerate() if thread.name.endswith("(link)")], [])
