"""Exercises: the order system by hand, one terminal for each part.

Each exercise can be done with `rmqspec rabbitup` and a few terminals. Here it is done with real processes: watch the
exchanges, kill a worker while it works on an order, let two workers share the orders, look at the orders that failed,
and wait for a reply. Read the test, try it yourself, and compare what you see.

Spec: https://www.rabbitmq.com/tutorials
Code: rmqspec/cli/main.py, rmqspec/orders/system.py
"""

import re
import signal

import pytest

from rmqspec.orders import Failures, Order, parse, sample_orders

lie = pytest.mark.lie

# The parts start as processes of their own, half a second each on a busy machine.
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def start(run):
    """Starts parts of the system, each in a process of its own, and waits until they are ready: `start(["logs"])`."""

    def start_all(*parts):
        processes = [run("demo", *part) for part in parts]
        for process in processes:
            process.waits_for("is ready", within=20.0)  # under a lie too: what it holds back comes later
        return processes

    return start_all


def orders_in(lines):
    """The ids of the orders that these lines name, sorted."""
    return sorted(re.search(r"\d\d-\d{4}", line)[0] for line in lines)


class TestObserver:
    """Exercise 1: start notification, analytics and logs, then a worker, and publish."""

    @pytest.fixture
    def watchers(self, start):
        worker = "worker", "--failure-rate", "0", "--work-time", "0"
        return start(["notification"], ["analytics"], ["logs"], worker)[:3]

    @lie("binding-takes-over")
    def test_sees_each_completed_order_in_the_output_of_notification_analytics_and_logs(self, run, watchers):
        """Each order becomes one notification, one line of totals and two lines of the log."""
        notification, analytics, logs = watchers

        run("demo", "produce", "--orders", "3").waits_for("3 orders published and confirmed")

        assert orders_in(notification.waits_for("told", 3)) == ["00-0001", "00-0002", "00-0003"]
        assert orders_in(logs.waits_for("order.completed", 3)) == ["00-0001", "00-0002", "00-0003"]
        totals = analytics.waits_for("in all", 3)
        assert "3 orders" in totals[-1]


class TestInterruptedWorker:
    """Exercise 2: press Ctrl-C twice while a worker works on an order."""

    @lie("redelivered-lost")
    def test_gives_its_order_back_to_be_redelivered_to_another_worker(self, run, orders):
        """After one Ctrl-C the worker finishes its order. A second one ends it, and RabbitMQ requeues the order."""
        orders.producer.publish(next(sample_orders(1)))
        first = run("demo", "worker", "--work-time", "600")
        first.waits_for("W1  took order 00-0001")

        first.interrupt(until="finishing 00-0001; again gives it back")
        first.interrupt(until="gives 00-0001 back")
        assert first.ends() == 130

        second = run("demo", "worker", "W2", "--work-time", "0", "--failure-rate", "0")
        second.waits_for("W2  took order 00-0001 (redelivered)")
        second.waits_for("completed order 00-0001")


class TestKilledWorker:
    """Exercise 2 again: kill the worker with kill -9 while it works."""

    @lie("redelivered-lost")
    def test_leaves_its_order_to_be_redelivered_to_another_worker(self, run, orders):
        """The worker sends nothing more. RabbitMQ sees that its connection ends, and the order is unacked."""
        orders.producer.publish(next(sample_orders(1)))
        first = run("demo", "worker", "1", "--work-time", "600")
        first.waits_for("took order 00-0001")

        assert first.ends(signal.SIGKILL) == -signal.SIGKILL
        second = run("demo", "worker", "2", "--work-time", "0", "--failure-rate", "0")

        second.waits_for("took order 00-0001 (redelivered)")
        second.waits_for("completed order 00-0001")


class TestTwoWorkers:
    """Exercise 3: start two workers and publish ten orders."""

    @pytest.fixture
    def processes(self, start):
        return start(["logs"], *(("worker", name, "--failure-rate", "0", "--work-time", "0.02") for name in "12"))

    @lie("delivered-twice")
    def test_complete_ten_orders_between_them_each_exactly_once(self, run, processes):
        """Nobody divides the work: each worker gets the next order when it has acked the one before."""
        logs, first, second = processes

        run("demo", "produce", "--orders", "10").waits_for("10 orders published")
        logs.waits_for("order.completed", 10)

        assert first.ends(signal.SIGTERM) == 0
        assert second.ends(signal.SIGTERM) == 0
        done_by_first = orders_in(line for line in first.lines if "completed" in line)
        done_by_second = orders_in(line for line in second.lines if "completed" in line)
        assert sorted(done_by_first + done_by_second) == [f"00-{number:04}" for number in range(1, 11)]
        assert done_by_first != []
        assert done_by_second != []


class TestFailedOrders:
    """Exercise 4: let half of the orders fail, and look into orders.failed."""

    @pytest.fixture
    def processes(self, start):
        return start(["logs"], ["worker", "--failure-rate", "0.5", "--seed", "7", "--work-time", "0"])

    @lie("dead-letter-exchange-lost")
    def test_are_all_in_orders_failed_and_no_other_orders_are(self, run, processes, receive, drain):
        """With the same seed the same orders fail, so it is known beforehand which orders must be there."""
        doomed = [order.order_id for order in sample_orders(12, 7) if Failures(0.5, 7).hits(order.order_id)]
        assert 0 < len(doomed) < 12
        logs, worker = processes

        run("demo", "produce", "--orders", "12", "--seed", "7").waits_for("12 orders published")
        logs.waits_for("order.", 24)

        assert worker.ends(signal.SIGTERM) == 0
        dead_letters = receive("orders.failed", len(doomed))
        # Behind the number stands what tells the orders of one `produce` from those of another.
        assert [parse(Order, dead.body).order_id.rpartition("-")[0] for dead in dead_letters] == doomed
        assert drain("orders.failed") == []


class TestPatientClient:
    """Exercise 5: start an RPC client before its server, and see it wait."""

    @lie("correlation-id-changed")
    def test_gets_its_reply_when_the_server_starts(self, run, orders, eventually):
        """The request waits in the queue, and the client waits for its reply: either of them may start first."""
        client = run("demo", "rpc-client", "mouse", "--timeout", "20")
        eventually(lambda: orders.depth("rpc.inventory"), 1, client.within)

        run("demo", "rpc-server")

        client.waits_for("mouse: 17 in stock")
        assert client.ends() == 0
