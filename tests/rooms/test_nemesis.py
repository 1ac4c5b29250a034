"""The nothing-lost test: its account, its faults, and that it finds losses where there are some."""

from itertools import islice

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rmqspec.cli import cli
from rmqspec.nemesis import FAULTS, Ledger, Plan, run, schedule
from rmqspec.nemesis.account import Fate

KILL_AND_CUT, SHORT_SILENCE = 289, 140  # seeds whose first faults come soon and are over soon


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
        assert account.received + account.lost + account.unknown + account.refused == len(orders)
        assert account.confirmed == account.received - account.recovered + account.lost


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
        """Under kill -9 in the middle of full speed; what is not confirmed may be there or not."""
        plan = Plan(4.0, queue_type, seed=KILL_AND_CUT, faults=("kill", "cut"))

        result = run(disposable_broker, plan)

        account = result.account
        assert (account.lost, account.unexpected) == (0, 0)
        assert set(result.blows) >= {"kill"}
        assert account.received > 1_000
        assert account.unknown + account.recovered > 0  # the kill came in the middle

    @pytest.mark.parametrize(
        "careless", [{"confirms": False}, {"auto_ack": True}], ids=["without_confirms", "with_auto_ack"]
    )
    def test_finds_what_carelessness_loses(self, disposable_broker, careless):
        """A check that never found anything would prove nothing.

        While the network is silent, orders are written and read on in the buffers of both systems, and count as done;
        the network comes back and has forgotten them.
        """
        plan = Plan(4.0, seed=SHORT_SILENCE, faults=("half-open",), **careless)

        result = run(disposable_broker, plan)

        assert result.blows == {"half-open": 1}
        assert result.account.lost > 0
        assert not result.account.holds


class TestCommand:
    """`rmqspec nemesis`."""

    def test_names_the_faults_that_there_are(self):
        """A typing error must not be a run without faults."""
        answer = CliRunner().invoke(cli, ["nemesis", "--faults", "kill,cutt"])

        assert answer.exit_code == 2
        assert (
            "there is no fault 'cutt'; there are kill, restart, cut, half-open, delay, refuse, block" in answer.output
        )

    def test_kills_no_broker_of_somebody_else(self, run):
        """A URL may be that of a broker that people need."""
        command = run("nemesis", "--rabbitmq-broker", "url")

        assert command.ends() == 1
        assert "nemesis kills its broker, so it takes none by its URL" in command.output
