"""The nothing-lost test: its account, its faults, and that it finds losses where there are some."""

import dataclasses
import threading
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from itertools import islice
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pika.exceptions import ConnectionClosedByBroker

from rmqspec.cli.main import cli
from rmqspec.cli.nemesis import MEANINGS, WITHOUT_CONFIRMS, _print_account
from rmqspec.client import Channel
from rmqspec.tools.broker.errors import ControlError
from rmqspec.tools.nemesis import FAULTS, Ledger, Plan, run, schedule
from rmqspec.tools.nemesis.account import Account, Fate
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


class Service(NamedTuple):
    """A service of two functions."""

    run: Callable[[], None]
    stop: Callable[[], None]


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


@pytest.fixture
def command(disposable_broker, monkeypatch):
    """Runs `rmqspec nemesis` with the broker that is here, and leaves that running."""
    monkeypatch.setattr(import_module("rmqspec.cli.nemesis"), "find", lambda *_: disposable_broker)
    monkeypatch.setattr(disposable_broker, "close", lambda: None)
    return lambda *arguments: CliRunner().invoke(cli, ["nemesis", *arguments])


class TestCommand:
    """`rmqspec nemesis`."""

    def test_ends_with_its_verdict_and_exit_code_0(self, command):
        """A script looks at the code, a person at the last line."""
        answer = command("--seconds", "1", "--participants", "producer,consumer", "--work", "0", "--faults", "cut")

        assert answer.exit_code == 0
        last = answer.output.splitlines()[-1]
        assert last.startswith("nemesis held: ")
        assert "lost 0, unexpected 0, stalled 0; everybody moved again within" in last

    def test_ends_with_what_is_broken_and_exit_code_1(self, command, replace_participant):
        """Who, since when, after which fault, and what: enough to look for it."""
        replace_participant("consumer", lambda *_: Service(run=lambda: None, stop=lambda: None))

        answer = command("--seconds", "1", "--participants", "consumer", "--faults", "cut")

        assert answer.exit_code == 1
        last = answer.output.splitlines()[-1]
        assert last.startswith("nemesis FAILED: ")
        assert "stalled 0, ended 3; first: consumer-" in last
        assert "after no fault: run() returned" in last

    def test_calls_nothing_confirmed_where_nobody_was_asked(self, command, monkeypatch):
        """With --no-confirms an order that is written may be lost, and no promise is broken."""
        kind = import_module("rmqspec.tools.nemesis.run").Result
        monkeypatch.setattr(kind, "verdict", "FAILED: 3 confirmed orders did not arrive")

        answer = command("--seconds", "1", "--no-confirms", "--participants", "consumer", "--faults", "cut")

        assert answer.output.splitlines()[-1] == "nemesis FAILED: 3 written orders did not arrive"

    def test_names_the_faults_that_there_are(self):
        """A typing error must not be a run without faults."""
        answer = CliRunner().invoke(cli, ["nemesis", "--faults", "kill,cutt"])

        assert answer.exit_code == 2
        assert (
            "there is no fault 'cutt'; there are kill, restart, cut, flicker, close, half-open, delay, refuse, block"
            in answer.output
        )

    def test_refuses_a_run_without_faults(self):
        """It would hold, and prove nothing."""
        answer = CliRunner().invoke(cli, ["nemesis", "--faults", ""])

        assert answer.exit_code == 2
        assert "a run without faults proves nothing: name some of kill, restart, cut" in answer.output

    @pytest.mark.parametrize(
        ("participants", "words"),
        [
            ("consumer,produzer", "there is no participant 'produzer'; there are producer, consumer"),
            ("consumer=many", "'many' is no number of participants from 1 to 100: write consumer=2"),
            ("consumer=0", "'0' is no number of participants from 1 to 100: write consumer=2"),
            ("", "a run without participants proves nothing: name some of producer, consumer"),
        ],
        ids=["unknown", "no_number", "none", "empty"],
    )
    def test_names_the_participants_that_there_are(self, participants, words):
        """A run of others than were meant would prove something else."""
        answer = CliRunner().invoke(cli, ["nemesis", "--participants", participants])

        assert answer.exit_code == 2
        assert words in answer.output

    def test_kills_no_broker_of_somebody_else(self, run):
        """A URL may be that of a broker that people need."""
        command = run("nemesis", "--rabbitmq-broker", "url")

        assert command.ends() == 1
        assert "nemesis kills its broker, so it takes none by its URL" in command.output


class TestAccountWithoutConfirms:
    """What `nemesis --no-confirms` prints."""

    def test_confirms_nothing(self, capsys):
        """The broker was not asked; "confirmed and lost" would accuse it of what it never promised."""
        numbers = dict.fromkeys((field.name for field in dataclasses.fields(Account)), 3)

        _print_account(Account(**numbers), WITHOUT_CONFIRMS)
        without = capsys.readouterr().out
        _print_account(Account(**numbers), MEANINGS)
        asked = capsys.readouterr().out

        assert "confirm" not in without
        assert "written, and never arrived: must be 0" in without
        assert "confirmed, and never arrived: must be 0" in asked
