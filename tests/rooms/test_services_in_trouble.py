"""The order system while its broker is away, or takes nothing in: what its processes say, and how soon they stop.

Code: rmqspec/cli/demo_parts.py, rmqspec/cli/signals.py, rmqspec/orders/waits.py
"""

import signal
import time
from contextlib import closing, contextmanager

import pytest

from rmqspec.client import connect
from rmqspec.orders import Producer, order_system, sample_orders

pytestmark = pytest.mark.timeout(180)  # a broker of its own is started; an alarm takes half a second

SOON = 6.0  # seconds: the two that a stop may take, and what a busy machine takes to end a process of Python
SERVICES = {
    "worker": "orders", "notification": "notifications", "analytics": "analytics", "logs": "logs",
    "rpc-server": "rpc.inventory",
}  # fmt: skip


@pytest.fixture
def url(disposable_url):
    return disposable_url


@pytest.fixture(autouse=True)
def empty(url):
    """Of what the tests before have left in the one vhost."""
    with closing(connect(url, "empty")) as connection:
        channel = connection.channel()
        order_system().declare(channel)
        for queue in order_system().queues:
            channel.queue_purge(queue.name)


@pytest.fixture
def look(url):
    """A passive declare of a queue, on a connection of its own: `look("orders").message_count`."""

    def ask(queue):
        with closing(connect(url, "look")) as connection:
            return connection.channel().queue_declare(queue, passive=True).method

    return ask


@pytest.fixture
def depth(look):
    return lambda queue: look(queue).message_count


@pytest.fixture
def consumers(look):
    return lambda queue: look(queue).consumer_count


@pytest.fixture
def alarm(disposable_broker):
    """The broker's memory is full for the length of a block: `with alarm():`."""

    @contextmanager
    def raised():
        disposable_broker.control("set_vm_memory_high_watermark", "0")
        try:
            yield
        finally:
            disposable_broker.control("set_vm_memory_high_watermark", "0.4")

    return raised


@pytest.fixture
def outage(disposable_broker):
    """The broker is killed, and started again at the end of a block: `with outage():`."""

    @contextmanager
    def lasting():
        disposable_broker.kill()
        try:
            yield
        finally:
            disposable_broker.start()

    return lasting


def ends_soon(process, number=signal.SIGTERM):
    """The exit code of a process that is sent this signal, and whether it took it no longer than it may."""
    began = time.monotonic()
    code = process.ends(number)
    took = time.monotonic() - began
    assert took < SOON, f"{process.arguments} took {took:.1f} s:\n{process.output}"
    return code


class TestAlarm:
    """The broker is low on memory: it reads nothing from connections that publish."""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
    def test_is_told_by_a_worker_which_stops_all_the_same(self, url, run, alarm, depth, eventually, number):
        """A deployment sends SIGTERM, waits for ten seconds, and kills: the order would be done twice."""
        publish(url, 1)
        with alarm():
            worker = run("demo", "worker", "--work-time", "0", "--failure-rate", "0")
            worker.waits_for("took order 00-0001")
            worker.waits_for("the broker blocks publishers (low on memory)")

            assert ends_soon(worker, number) == 0

        assert "completed order" not in worker.output
        eventually(lambda: depth("orders"), 1)

    def test_is_told_by_produce(self, run, alarm):
        """A program that waits without a word looks like one that hangs."""
        produce = run("demo", "produce", "--orders", "100000")
        produce.waits_for("published order 00-0001")
        with alarm():
            produce.waits_for("it blocks publishers (low on memory)")

            assert ends_soon(produce, signal.SIGINT) == 130

        assert "orders published and confirmed, ended by Ctrl-C" in produce.output

    def test_holds_up_nobody_for_longer_than_it_lasts(self, run, url, alarm):
        """What was waiting goes on by itself."""
        publish(url, 1)
        with alarm():
            worker = run("demo", "worker", "--work-time", "0", "--failure-rate", "0")
            worker.waits_for("blocks publishers")
            assert "completed order" not in worker.output

        worker.waits_for("completed order 00-0001")


class TestOutage:
    """The broker is away."""

    @pytest.fixture
    def processes(self, run, consumers, eventually):
        processes = [run("demo", part) for part in SERVICES]
        for queue in SERVICES.values():
            eventually(lambda: consumers(queue), 1)  # noqa: B023
        return processes

    def test_stops_no_service_from_stopping(self, processes, outage):
        """Who is to stop does not wait for a broker that may never come back."""
        with outage():
            for process in processes:
                process.waits_for("lost", 2)

            codes = [ends_soon(process) for process in processes]

        assert codes == [0] * len(SERVICES), "\n".join(process.output for process in processes)

    def test_stops_no_worker_that_waits_for_a_confirm(self, run, url, outage):
        """It was at work when the broker went, and cannot tell anybody that it is done."""
        worker = run("demo", "worker", "--work-time", "1", "--failure-rate", "0")
        publish(url, 1)
        worker.waits_for("took order 00-0001")
        with outage():
            worker.waits_for("lost", 2)

            assert ends_soon(worker, signal.SIGINT) == 0

    def test_ends_no_worker(self, run, url, outage, depth, consumers, eventually):
        """Eight of eight busy workers ended when their broker was restarted; here all orders are done by those four."""
        workers = [run("demo", "worker", number, "--work-time", "0", "--failure-rate", "0") for number in "1234"]
        eventually(lambda: consumers("orders"), 4)
        publish(url, 300)
        workers[0].waits_for("completed order", 10)
        with outage():
            for worker in workers:
                worker.waits_for("lost")

        eventually(lambda: depth("orders"), 0, within=40)
        assert [worker.ends(signal.SIGTERM) for worker in workers] == [0] * 4
        done = {line.split()[3] for worker in workers for line in worker.lines if "completed order" in line}
        assert len(done) == 300

    def test_is_told_by_rpc_client(self, run, outage, depth, eventually):
        """To ask whether the server runs sends somebody to look at the wrong program."""
        client = run("demo", "rpc-client", "mouse", "--timeout", "20")
        eventually(lambda: depth("rpc.inventory"), 1)
        with outage():
            assert client.ends() == 1

        assert "the connection to the broker was lost" in client.output
        assert "server running" not in client.output


class TestSecondSignal:
    """Ctrl-C again, while the work of the first is still to end."""

    def test_ends_a_worker_at_once(self, run, url, tmp_path):
        """Its order goes to another worker, which need not wait for the end of a lease."""
        inbox = str(tmp_path / "inbox")
        first = run("demo", "worker", "1", "--work-time", "600", "--inbox", inbox)
        publish(url, 1)
        first.waits_for("took order 00-0001")

        first.interrupt(until="finishing 00-0001; again gives it back")
        first.interrupt(until="gives 00-0001 back")
        assert ends_soon(first, 0) == 130
        second = run("demo", "worker", "2", "--work-time", "0", "--failure-rate", "0", "--inbox", inbox)

        (line,) = second.waits_for("took order 00-0001")
        assert line.endswith("(redelivered) from orders")
        assert "somebody else is at it" not in second.output


def publish(url, count):
    producer = Producer(url)
    for future in [producer.send(order) for order in sample_orders(count)]:
        future.result(10)
    producer.close()
