"""Exercises: the order system by hand, one terminal for each part.

Each exercise is a thing to try with `rmqspec rabbitup` and a few terminals, and here it is done with real processes:
watch the exchanges, kill a worker in the middle of an order, let two workers share, look at what failed, and wait for
an answer. Read the test, try it yourself, and compare what you see.

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
            process.waits_for("is ready")
        return processes

    return start_all


def orders_in(lines):
    return sorted(re.search(r"\d\d-\d{4}", line)[0] for line in lines)


class TestObserver:
    """Exercise 1: start notification, analytics and logs, then a worker, and publish."""

    @pytest.fixture
    def watchers(self, start):
        worker = "worker", "--failure-rate", "0", "--work-time", "0"
        return start(["notification"], ["analytics"], ["logs"], worker)[:3]

    @lie("queue-name-changed")
    def test_sees_each_order_at_every_exchange(self, run, watchers):
        """One order becomes one notification, one line of totals and two of the log: three exchanges, three shapes."""
        run("demo", "produce", "--orders", "3").waits_for("3 orders published and confirmed")

        notification, analytics, logs = watchers
        assert orders_in(notification.waits_for("told", 3)) == ["00-0001", "00-0002", "00-0003"]
        assert orders_in(logs.waits_for("order.completed", 3)) == ["00-0001", "00-0002", "00-0003"]
        assert "3 orders" in analytics.waits_for("in all", 3)[-1]


class TestKilledWorker:
    """Exercise 2: kill a worker with kill -9 while it works."""

    @lie("redelivered-lost")
    def test_leaves_its_order_to_another(self, run, orders):
        """It could not even say goodbye; the broker saw the connection end and had never heard an ack."""
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

    @lie("queue-name-changed")
    def test_share_the_orders_between_them(self, run, processes):
        """Nobody divides the work: each takes the next order when it is done with the last."""
        logs, *workers = processes

        run("demo", "produce", "--orders", "10").waits_for("10 orders published")
        logs.waits_for("order.completed", 10)

        assert [worker.ends(signal.SIGTERM) for worker in workers] == [0, 0]
        done = [orders_in(line for line in worker.lines if "completed" in line) for worker in workers]
        assert sorted(done[0] + done[1]) == [f"00-{number:04}" for number in range(1, 11)]
        assert min(len(done[0]), len(done[1])) > 0


class TestFailedOrders:
    """Exercise 4: let half of the orders fail, and look into orders.failed."""

    @pytest.fixture
    def processes(self, start):
        return start(["logs"], ["worker", "--failure-rate", "0.5", "--seed", "7", "--work-time", "0"])

    @lie("queue-name-changed")
    def test_are_exactly_those_in_orders_failed(self, run, processes, receive, drain):
        """With the same seed the same orders fail, so what must be there is known beforehand."""
        doomed = [order for order in sample_orders(12, 7) if Failures(0.5, 7).hits(order.order_id)]
        assert 0 < len(doomed) < 12
        logs, worker = processes

        run("demo", "produce", "--orders", "12", "--seed", "7").waits_for("12 orders published")
        logs.waits_for("order.", 24)

        assert worker.ends(signal.SIGTERM) == 0
        assert [parse(Order, delivery.body) for delivery in receive("orders.failed", len(doomed))] == doomed
        assert drain("orders.failed") == []


class TestPatientClient:
    """Exercise 5: start an RPC client before its server, and see it wait."""

    @lie("correlation-id-changed")
    def test_gets_its_answer_when_the_server_comes(self, run, orders, eventually):
        """The request waits in the queue, the client at its reply queue: neither needs the other to be there first."""
        client = run("demo", "rpc-client", "mouse", "--timeout", "20")
        eventually(lambda: orders.depth("rpc.inventory"), 1, client.within)

        run("demo", "rpc-server")

        client.waits_for("mouse: 17 in stock")
        assert client.ends() == 0
