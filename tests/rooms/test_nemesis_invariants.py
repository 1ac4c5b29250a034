"""What the nothing-lost test calls broken: each invariant, broken by one participant.

Code: rmqspec/tools/nemesis/invariants.py, rmqspec/tools/nemesis/watch.py
"""

import itertools
import threading
from concurrent.futures import Future
from importlib import import_module

import pytest

from rmqspec.client import Consumer, Outcome, Publisher, RpcClient
from rmqspec.orders.topology import DEAD_LETTER_EXCHANGE, FAILED, ORDERS
from rmqspec.tools.nemesis import PARTICIPANTS, Ledger, run
from rmqspec.tools.nemesis.invariants import State, behind, stalled
from rmqspec.tools.nemesis.participants import Participant
from rmqspec.tools.nemesis.shared import RAW

from .nemesis_runs import SOON, broken, disposable_broker, only, quick, replace_participant

__all__ = ["disposable_broker", "replace_participant"]

LARGE = "headers nearly as large as a frame"


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
