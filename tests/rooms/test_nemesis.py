"""The nothing-lost test: its account, its faults, and that it finds losses where there are some."""

import dataclasses
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
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
from rmqspec.client import Channel, Consumer, Outcome, Publisher, RpcClient
from rmqspec.orders.topology import DEAD_LETTER_EXCHANGE, FAILED, ORDERS
from rmqspec.tools.broker.errors import ControlError
from rmqspec.tools.nemesis import FAULTS, PARTICIPANTS, Ledger, Plan, run, schedule
from rmqspec.tools.nemesis.account import Account, Fate
from rmqspec.tools.nemesis.faults import Fault
from rmqspec.tools.nemesis.invariants import State, behind, stalled
from rmqspec.tools.nemesis.participants import Participant
from rmqspec.tools.nemesis.run import Unfinished
from rmqspec.tools.nemesis.shared import RAW

# Seeds whose faults come in this order within 4 seconds, or whose one fault comes once in 3.
CUT_SILENCE_KILL, SOON = 34246, 210

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

LARGE = "headers nearly as large as a frame"


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


def only(*kinds):
    """Participants: one of each of these kinds."""
    return dict.fromkeys(kinds, 1)


def quick(seconds, **others):
    """A plan without faults, unless some are named, whose handlers take no time."""
    return Plan(seconds, work=0.0, **{"faults": (), "bound": 5.0, **others})


def broken(findings):
    """Which invariants do not hold, and whose they are."""
    return {(finding.invariant, finding.breach.who) for finding in findings}


@pytest.fixture(scope="module")
def disposable_broker(another_broker):
    """One with a management API: by that a run makes its vhost and its users."""
    return another_broker()


@pytest.fixture
def replace_participant(monkeypatch):
    """Puts another service into a row of the table of participants."""

    def replace(kind, make):
        monkeypatch.setitem(PARTICIPANTS, kind, dataclasses.replace(PARTICIPANTS[kind], make=make))

    return replace


class Repeating:
    """A service that does the same again and again; a careless one, if what it does is."""

    def __init__(self, work, *, deaf=False):
        self._work, self._deaf, self._ending = work, deaf, threading.Event()

    def run(self):
        while not self._ending.wait(0.01):
            self._work()

    def stop(self):
        if not self._deaf:
            self._ending.set()

    def end(self):
        self._ending.set()


class Publishing(Repeating):
    """Publishes the same again and again."""

    def __init__(self, settings, name, publish):
        super().__init__(lambda: publish(self._publisher))
        self._settings, self._name = settings, name

    def run(self):
        with Publisher(self._settings, self._name) as self._publisher:
            super().run()


class Copying:
    """Consumes orders and publishes each again."""

    def __init__(self, settings, who, copy):
        self._settings, self._who, self._copy = settings, who, copy
        self._consumer = Consumer(settings, ORDERS, self._handle, name=who.name)
        self.stop = self._consumer.stop

    def run(self):
        with Publisher(self._settings, f"{self._who.name} publisher") as self._publisher:
            self._consumer.run()

    def _handle(self, delivery):
        self._copy(self._publisher, delivery)
        self._who.step()
        return Outcome.ACK


class Service(NamedTuple):
    """A service of two functions."""

    run: Callable[[], None]
    stop: Callable[[], None]


class Sequel:
    """A service that frees its handlers when it is stopped."""

    def __init__(self, consumer, free):
        self.run, self._consumer, self._free = consumer.run, consumer, free

    def stop(self):
        self._free.set()
        self._consumer.stop()


class Still(Participant):
    """A participant that has no service, and has not moved for long."""

    def __init__(self, kind):
        super().__init__(None, kind, PARTICIPANTS[kind], 1)
        self.last = 0.0


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


@pytest.mark.timeout(120)
class TestInvariants:
    """Each invariant, broken by one participant; all else of the run is as always."""

    def test_stalled_is_a_consumer_that_handles_nothing_after_a_cut(self, disposable_broker, replace_participant):
        """No message is lost while its consumer sleeps, so no account of messages would show it."""
        free = threading.Event()

        def make(shared, who):
            def handler(delivery):
                if shared.findings.faults:
                    free.wait()
                shared.ledger.receive(delivery.body)
                who.step()
                return Outcome.ACK

            return Sequel(Consumer(shared.settings, RAW, handler, name=who.name), free)

        replace_participant("consumer", make)

        plan = quick(3.0, participants=only("producer", "consumer"), seed=SOON, faults=("cut",), bound=2.0)
        result = run(disposable_broker, plan)

        assert broken(result.findings) == {("stalled", "consumer-1")}
        assert "after cut" in str(result.findings[0])
        assert result.verdict.startswith("FAILED: 1 faults")
        assert "lost 0, unexpected 0, stalled 1; first: consumer-1 since" in result.verdict

    def test_ended_is_a_consumer_whose_handler_raises(self, disposable_broker, replace_participant):
        """It is started again, as by a supervisor, so the account alone would not show it either."""
        lives = itertools.count()

        def make(shared, who):
            life = next(lives)

            def handler(delivery):
                if not life:
                    raise RuntimeError("the first life")
                shared.ledger.receive(delivery.body)
                who.step()
                return Outcome.ACK

            return Consumer(shared.settings, RAW, handler, name=who.name)

        replace_participant("consumer", make)

        result = run(disposable_broker, quick(1.0, participants=only("producer", "consumer")))

        assert broken(result.findings) == {("ended", "consumer-1")}
        assert (result.findings[0].breach.what, result.findings[0].breach.words) == ("RuntimeError", "the first life")

    def test_unstopped_is_a_service_that_goes_on_when_it_is_stopped(
        self, disposable_broker, replace_participant, monkeypatch
    ):
        """A deployment would wait for it, and then kill it."""
        monkeypatch.setattr(import_module("rmqspec.tools.nemesis.run"), "STOP_TIMEOUT", 0.5)
        made = []

        def make(shared, who):
            made.append(Repeating(who.step, deaf=True))
            return made[0]

        replace_participant("copies", make)

        result = run(disposable_broker, quick(0.5, participants=only("copies")))
        made[0].end()

        assert broken(result.findings) == {("unstopped", "copies-1")}

    def test_overdue_is_a_call_that_does_not_end_at_its_deadline(self, disposable_broker, monkeypatch):
        """Who waits for it waits for ever, with all that waits behind."""
        calls = import_module("rmqspec.tools.nemesis.calls")
        monkeypatch.setattr(calls, "GIVEN_UP", 0.2)
        monkeypatch.setattr(calls, "TOLERANCE", 0.1)
        monkeypatch.setattr(calls, "DEADLINES", (0.1, 0.1))

        class Forgetful(RpcClient):
            count = itertools.count(1)

            def send(self, *call):
                return Future() if next(self.count) % 10 == 0 else super().send(*call)

        monkeypatch.setattr(calls, "RpcClient", Forgetful)

        result = run(disposable_broker, quick(1.0, participants=only("rpc-client", "rpc-server")))

        assert ("overdue", "rpc-client-1") in broken(result.findings)
        assert {name for name, _ in broken(result.findings)} == {"overdue"}

    def test_unsettled_is_a_publish_whose_future_does_not_end(self, disposable_broker, monkeypatch):
        """Its caller can neither send it again nor give it up."""

        class Forgetful(Publisher):
            forgotten = iter([Future()])

            def publish(self, *message):
                return next(self.forgotten, None) or super().publish(*message)

        monkeypatch.setattr(import_module("rmqspec.tools.nemesis.traffic"), "Publisher", Forgetful)

        plan = quick(1.0, participants=only("producer", "consumer"), seed=SOON, bound=1.0)
        result = run(disposable_broker, plan)

        assert broken(result.findings) == {("unsettled", "producer-1")}

    def test_unexpected_is_an_order_that_nobody_has_published(self, disposable_broker, replace_participant):
        """A message from nowhere is as bad as one that is lost."""

        def make(shared, who):
            def publish(publisher):
                publisher.publish("", RAW, b"7:7").result()
                who.step()

            return Publishing(shared.settings, who.name, publish)

        replace_participant("producer", make)

        result = run(disposable_broker, quick(0.5, participants=only("producer", "consumer")))

        assert broken(result.findings) == {("unexpected", "orders")}

    @pytest.mark.parametrize(
        ("names", "exchange", "change", "found"),
        [
            (("an expiration",), DEAD_LETTER_EXCHANGE, lambda _: None, {("expiring", "worker")}),
            (("doubles",), DEAD_LETTER_EXCHANGE, lambda p: p.headers.update(price=19), {("changed", "worker")}),
            (("a CC header",), "", lambda _: None, {("multiplied", "worker")}),
            (("a user_id",), DEAD_LETTER_EXCHANGE, lambda _: None, {("ended", "worker-1")}),
            ((LARGE,), DEAD_LETTER_EXCHANGE, lambda p: p.headers.update(reason="x" * 99), {("ended", "worker-1")}),
        ],
        ids=["expiring", "changed", "multiplied", "ended_by_user_id", "ended_by_large_headers"],
    )  # fmt: skip
    def test_finds_a_worker_that_copies_all_properties(
        self, disposable_broker, replace_participant, monkeypatch, names, exchange, change, found
    ):
        """What one odd message does to a service that republishes it as it came."""
        monkeypatch.setattr(import_module("rmqspec.tools.nemesis.odd"), "KINDS", names)

        def copy(publisher, delivery):
            change(delivery.properties)
            publisher.publish(exchange, FAILED, delivery.body, delivery.properties).result()

        replace_participant("worker", lambda shared, who: Copying(shared.worker_settings, who, copy))

        participants = only("odd-producer", "worker", "dead-letters", "copies")
        result = run(disposable_broker, quick(2.0, participants=participants, bound=2.0))

        assert broken(result.findings) == found


class TestState:
    """Who is behind, and who is to blame."""

    def test_blames_no_participant_that_has_got_no_work(self):
        """A consumer is still because its producer is; one name in the verdict is enough."""
        state = State([Still("producer"), Still("consumer")], Ledger(0), {}, bound=0.0)
        state.mark()

        assert [breach.who for breach in stalled(state)] == ["producer-1"]

    def test_blames_no_participant_that_is_slow(self):
        """On a busy machine a step may take seconds."""
        producer = Still("producer")
        state = State([producer], Ledger(0), {}, bound=60.0)
        state.mark()

        producer.step()

        assert [one.name for one in behind(state)] == ["producer-1"]
        assert stalled(state) == []

    def test_names_a_stall_once_until_it_has_ended(self):
        """The next faults of a run are not to wait for somebody who is known to stand still."""
        producer = Still("producer")
        state = State([producer], Ledger(0), {}, bound=0.0)
        state.mark()
        state.known[producer] = producer.moved
        state.mark()
        assert behind(state) == []

        for _ in range(producer.row.enough):
            producer.step()
        state.mark()

        assert [one.name for one in behind(state)] == ["producer-1"]


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
