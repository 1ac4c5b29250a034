"""The inbox: what comes twice is done once, by one of several consumers.

Code: rmqspec/orders/inbox.py
"""

import gc
import multiprocessing
import signal
import sqlite3
import threading

import pytest
from pika import BasicProperties

from rmqspec.client.errors import InvalidSetting, WrongProcess
from rmqspec.orders import Failures, Inbox, Item, Order, Worker, retry_ladder, sample_orders
from rmqspec.orders.analytics import Analytics
from rmqspec.orders.inbox import InboxUnavailable, State
from rmqspec.orders.notification import Notification

DAY = 24 * 60 * 60.0


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "inbox.sqlite")


@pytest.fixture
def open_inbox(path):
    """Opens the same file again and again, as several processes do: `open_inbox(lease=5)`."""
    opened = []

    def open_one(**options):
        opened.append(Inbox(path, **options))
        return opened[-1]

    yield open_one
    for inbox in opened:
        inbox.close()


class Clock:
    """The machine's clock, for tests that let a week go by."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class TestClaim:
    """A message that somebody wants to work on."""

    def test_is_had_by_one_only(self, open_inbox):
        """To look first and to write later lets two workers complete one order."""
        first, second = open_inbox(), open_inbox()

        with first.claim("m-1") as mine, second.claim("m-1") as other, second.claim("m-2") as another:
            assert (mine.state, other.state, another.state) == (State.MINE, State.CLAIMED, State.MINE)

    def test_is_had_by_one_of_many_threads(self, open_inbox):
        """Eight threads that ask at the same moment: not even then two of them."""
        inboxes, start, states = [open_inbox() for _ in range(8)], threading.Barrier(8), []

        def ask(inbox):
            start.wait()
            states.append(inbox.claim("m-1").state)

        threads = [threading.Thread(target=ask, args=(inbox,)) for inbox in inboxes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(state.name for state in states) == ["CLAIMED"] * 7 + ["MINE"]

    def test_finds_what_is_done(self, open_inbox):
        """The next one who gets the message only acknowledges it, also after a restart."""
        with open_inbox().claim("m-1") as claim:
            assert claim.done()

        inbox = open_inbox()
        assert (inbox.claim("m-1").state, inbox.has("m-1"), inbox.has("m-2")) == (State.DONE, True, False)

    def test_is_free_again_where_the_work_failed(self, open_inbox):
        """A message that is requeued, rejected or put off comes again, and is then to be worked on."""
        with pytest.raises(ZeroDivisionError), open_inbox().claim("m-1"):
            raise ZeroDivisionError

        assert open_inbox().claim("m-1").state is State.MINE

    def test_is_over_a_lease_after_a_crash(self, open_inbox, clock):
        """Nobody releases the claim of a process that was killed; its message must not wait for ever."""
        open_inbox(lease=600, uptime=clock).claim("m-1")
        heir = open_inbox(uptime=clock)

        clock.now += 599
        assert heir.claim("m-1").state is State.CLAIMED
        clock.now += 2
        assert heir.claim("m-1").state is State.MINE

    @pytest.mark.parametrize("seconds", [-DAY, DAY], ids=["back", "forward"])
    def test_is_not_touched_by_setting_the_clock(self, open_inbox, clock, seconds):
        """Set forward, a clock ended each lease, and two workers had one order; set back, a dead one's lasted a day."""
        uptime = Clock()
        open_inbox(lease=600, clock=clock, uptime=uptime).claim("m-1")
        heir = open_inbox(clock=clock, uptime=uptime)
        clock.now += seconds

        assert heir.claim("m-1").state is State.CLAIMED
        uptime.now += 601
        assert heir.claim("m-1").state is State.MINE

    def test_is_over_when_the_machine_starts_again(self, open_inbox, tmp_path, monkeypatch):
        """After a power cut nobody is at work; a message must not wait until the machine has run as long as before."""
        boot = tmp_path / "boot_id"
        monkeypatch.setattr("rmqspec.orders.inbox.BOOT", boot)
        boot.write_text("first\n")
        open_inbox(lease=600, uptime=lambda: 1_000_000.0).claim("m-1")
        assert open_inbox(uptime=lambda: 1_000_000.0).claim("m-1").state is State.CLAIMED

        boot.write_text("second\n")

        assert open_inbox(uptime=lambda: 20.0).claim("m-1").state is State.MINE

    def test_is_a_lease_also_where_the_system_tells_no_start(self, open_inbox, clock, tmp_path, monkeypatch):
        """Elsewhere than in Linux the clock is all that processes have in common."""
        monkeypatch.setattr("rmqspec.orders.inbox.BOOT", tmp_path / "none")
        open_inbox(lease=600, clock=clock).claim("m-1")
        heir = open_inbox(clock=clock)

        assert heir.claim("m-1").state is State.CLAIMED
        clock.now += 601
        assert heir.claim("m-1").state is State.MINE

    def test_is_renewed_while_the_work_goes_on(self, open_inbox, eventually):
        """Work may take longer than any lease; a lease that were as long as the longest work would be no lease."""
        worker, other = open_inbox(lease=0.15), open_inbox()
        ends = []
        query = "SELECT until FROM message"

        def renewals():
            ends.append(other._database.execute(query).fetchone()[0])
            return len(set(ends)) >= 4

        with worker.claim("m-1"):
            eventually(renewals, True)
            assert other.claim("m-1").state is State.CLAIMED

    def test_is_not_done_once_somebody_else_has_it(self, open_inbox, clock):
        """A process that was suspended wakes up in the middle of its work: it must not acknowledge the other's."""
        suspended = open_inbox(lease=600, uptime=clock).claim("m-1")
        clock.now += 601
        heir = open_inbox(lease=600, uptime=clock).claim("m-1")

        assert (suspended.renew(), suspended.done()) == (False, False)
        assert heir.done()

    def test_is_given_up_by_whoever_ends_the_process(self, open_inbox):
        """A second Ctrl-C ends a worker in the middle of an order: the next one need not wait for a lease."""
        inbox = open_inbox()
        inbox.claim("m-1")

        inbox.release_all()

        assert open_inbox().claim("m-1").state is State.MINE


class TestInbox:
    """The file."""

    def test_forgets_by_age(self, open_inbox, clock, path):
        """Without an end the file grows for years; what comes again after a week is not a duplicate of today's work."""
        inbox = open_inbox(keep=7 * DAY, clock=clock)
        inbox.add("old")
        clock.now += 6 * DAY
        inbox.add("new")
        clock.now += 2 * DAY

        assert (inbox.has("old"), inbox.has("new")) == (False, True)
        with inbox.claim("other"):
            rows = sqlite3.connect(path).execute("SELECT id FROM message ORDER BY id").fetchall()
        assert rows == [("new",), ("other",)]

    def test_waits_for_others_that_write(self, open_inbox, path):
        """`database is locked` ended workers: ten processes with a file each of them may write."""
        locker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        inbox = open_inbox()
        locker.execute("BEGIN IMMEDIATE")
        unlock = threading.Timer(0.3, locker.execute, ["COMMIT"])
        unlock.start()

        with inbox.claim("m-1") as claim:
            assert claim.state is State.MINE
        unlock.join()
        locker.close()

    def test_says_what_is_wrong_when_others_never_end(self, open_inbox, path):
        """An error of its own: a service gives the message back, and goes on."""
        inbox = open_inbox(patience=0.1)
        locker = sqlite3.connect(path, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")

        with pytest.raises(InboxUnavailable, match="database is locked"):
            inbox.claim("m-1")
        locker.close()

    def test_says_what_is_wrong_with_a_file(self, tmp_path):
        """A directory, a text file: one sentence at the start, and no traceback at the first message."""
        (tmp_path / "notes.txt").write_text("This is not a database, and it is longer than a header of one. " * 20)

        for wrong in (tmp_path, tmp_path / "notes.txt", tmp_path / "missing" / "inbox"):
            with pytest.raises(InboxUnavailable, match="cannot be used"):
                Inbox(str(wrong))

    def test_is_of_one_process(self, path, monkeypatch):
        """A server that forks its workers would share a connection to SQLite, and no lease is renewed."""
        inbox = Inbox(path)
        with inbox.claim("m-1") as claim:
            with monkeypatch.context() as child:
                child.setattr("rmqspec.client.process._here", object())
                for use in (lambda: inbox.claim("m-2"), lambda: inbox.has("m-1"), claim.done):
                    with pytest.raises(WrongProcess, match="forked: open one here"):
                        use()
                with Inbox(path).claim("m-1") as other:
                    assert other.state is State.CLAIMED

            assert claim.done()

    def test_has_a_name(self):
        """To SQLite the empty name is a file of this process alone: two workers that share it share nothing."""
        with pytest.raises(InvalidSetting, match="name a file, or :memory:"):
            Inbox("")

    def test_is_closed_when_nobody_has_it_any_more(self):
        """A worker makes one for itself and tells nobody; Python 3.13 warns of each database that is left open."""
        inbox = Inbox()
        database = inbox._database

        del inbox
        gc.collect()

        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            database.execute("SELECT 1")

    def test_serves_several_processes_at_once(self, path):
        """Workers are processes, each with the file open; none may fail, and none may get another's message."""
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            claimed = pool.map(_claim_all, [path] * 4)

        assert sorted(number for one in claimed for number in one) == list(range(50))


def _claim_all(path):
    """What one process gets of fifty messages."""
    inbox = Inbox(path)
    claims = ((number, inbox.claim(f"m-{number}")) for number in range(50))
    mine = [number for number, claim in claims if claim.state is State.MINE and claim.done()]
    inbox.close()
    return mine


ORDER = Order(order_id="A1", customer="Ada", items=(Item(sku="mouse", quantity=2, unit_price_cents=2450),))
BODY = ORDER.to_json()


class TestSubscribers:
    """Worker, notification and analytics: each does once what comes twice."""

    def test_give_back_what_another_is_at(self, orders, open_inbox, receive):
        """A connection is cut while its worker works: the order is delivered to another one, and is neither done twice
        nor acknowledged by somebody who has not done it."""
        busy, said = open_inbox(), []
        claim = busy.claim(f"orders {publish(orders)}")

        def listen(words):
            said.append(words)
            if len(said) == 3:
                claim.release()

        orders.start(lambda source: Worker(source, failures=Failures(0), inbox=open_inbox(), say=listen, pause=0.01))
        receive("notifications")

        assert said[:3] == ["gives order A1 back for now: somebody else is at it"] * 3
        assert said[3].startswith("took order A1 (redelivered)")

    def test_acknowledge_what_is_done(self, orders, open_inbox, receive, drain, eventually):
        """A worker dies between its work and its ack: the next one knows, and only acknowledges."""
        said = []
        open_inbox().add(f"orders {publish(orders)}")

        worker = orders.start(lambda source: Worker(source, failures=Failures(0), inbox=open_inbox(), say=said.append))
        orders.producer.publish(*sample_orders(1))
        receive("notifications")
        orders.halt(worker)

        assert said[0] == "had done order A1 already"
        assert drain("notifications") == drain("orders") == []

    @pytest.mark.parametrize("first", ["reject", "park", "retry"])
    def test_work_again_on_what_was_not_done(self, orders, open_inbox, receive, channel, first):
        """Somebody sends a failed order again: it keeps its message id, and nobody has done it."""
        inbox = open_inbox()
        publish(orders, b"no order" if first == "park" else ORDER.to_json())
        ladder = {"retry": retry_ladder(0.001)}.get(first)
        failing = orders.start(lambda source: Worker(source, failures=Failures(1), inbox=inbox, retry=ladder))
        (failed,) = receive("orders.failed")
        orders.halt(failing)

        channel.basic_publish("orders.direct", "order", ORDER.to_json(), failed.properties)
        orders.start(lambda source: Worker(source, failures=Failures(0), inbox=inbox))

        assert len(receive("notifications")) == 1

    def test_count_and_notify_once(self, orders, eventually):
        """An event that was published again, because its confirm was lost, has the message id of the first."""
        analytics, notification = orders.start(Analytics), orders.start(Notification)
        for _ in range(3):  # each as if the one before had been killed ahead of its ack
            publish(orders)
            worker = orders.start(lambda source: Worker(source, failures=Failures(0)))
            eventually(lambda: worker.handled["order.completed"], 1)  # noqa: B023
            orders.halt(worker)
        orders.start(lambda source: Worker(source, failures=Failures(0)))
        orders.producer.publish(*sample_orders(1))
        eventually(lambda: (analytics.orders, len(notification.notified)), (2, 2))

        assert notification.notified == ["A1", "00-0001"]

    def test_count_the_same_order_again_if_it_is_placed_again(self, orders, eventually):
        """A customer who orders the same twice gets it twice: an order's id is not a message's."""
        analytics = orders.start(Analytics)
        orders.start(lambda source: Worker(source, failures=Failures(0)))

        for _ in range(2):
            orders.producer.publish(ORDER)

        eventually(lambda: analytics.orders, 2)


class TestInboxOption:
    """`--inbox FILE`."""

    @pytest.mark.parametrize("part", ["worker", "notification", "analytics"])
    def test_says_what_it_promises(self, run, part):
        """Somebody decides by it whether a payment may be behind such a worker."""
        shown = run("demo", part, "--help")

        assert shown.ends() == 0
        words = " ".join(shown.output.split())
        assert "handled once" in words
        assert "for a week" in words

    def test_is_one_sentence_where_it_cannot_be_used(self, run, tmp_path):
        """A directory is no file."""
        worker = run("demo", "worker", "--inbox", str(tmp_path))

        assert worker.ends() == 1
        assert "cannot be used" in worker.output
        assert "Traceback" not in worker.output

    def test_makes_two_processes_do_each_order_once(self, run, orders, path, eventually):
        """A worker is killed at work; what it had claimed is free a lease later, and done once."""
        orders.producer.publish(*sample_orders(1))
        first = run("demo", "worker", "1", "--work-time", "600", "--inbox", path)
        first.waits_for("took order 00-0001")
        second = run("demo", "worker", "2", "--work-time", "0", "--failure-rate", "0", "--inbox", path)
        second.waits_for("is ready")

        assert first.ends(signal.SIGKILL) == -signal.SIGKILL

        second.waits_for("somebody else is at it")
        second.waits_for("completed order 00-0001")


def publish(orders, body=BODY, message_id="m-1"):
    """Publishes as the producer does, and returns the message's id."""
    properties = BasicProperties(message_id=message_id, delivery_mode=2)
    orders.channel.basic_publish("orders.direct", "order", body, properties)
    return message_id
