"""The services of the order system: each delivery is settled, whatever comes, and a stop is a stop.

Code: rmqspec/orders/service.py, rmqspec/orders/waits.py, rmqspec/orders/worker.py
"""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import replace

import pytest
from pika import BasicProperties
from pika.spec import Basic

from rmqspec.client import Outcome, Settings
from rmqspec.client.errors import InvalidSetting
from rmqspec.client.tables import Integer
from rmqspec.orders import (
    REASON_HEADER,
    Analytics,
    Completed,
    Failures,
    Inbox,
    InventoryServer,
    Item,
    Notification,
    Order,
    Worker,
    parse,
    retry_ladder,
    sample_orders,
)
from rmqspec.orders.dead_letters import look, park_without_room
from rmqspec.orders.inbox import InboxUnavailable
from rmqspec.orders.system import OrderSystem
from rmqspec.orders.waits import ServiceStopped, Waits
from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.wire import Direction, Frames, Proxy

FRAME = 131_072  # bytes, as this client and the broker agree on
FULL = {"trace": "x" * (FRAME - 40)}  # headers that leave room for nothing
DEATH = {"queue": "orders", "reason": "rejected", "count": 1, "exchange": "", "routing-keys": ["orders"]}
UNBEARABLE = (  # to 3.10: to the queue that the message is in, or to whoever reads the dead letter
    ["once"], [[DEATH]],
    *([{**DEATH, "count": count}] for count in ("many", True, Integer(1, b"t\x02"), 1.5)),
)  # fmt: skip


@pytest.fixture
def worker_said(orders):
    """Starts a worker and returns it with what it says: `worker, said = worker_said(failures=…)`."""

    def start(**options):
        said = []
        options = {"failures": Failures(0), "pause": 0.02, "say": said.append, **options}
        return orders.start(lambda source: Worker(source, **options)), said

    return start


def published(orders, body, **properties):
    orders.channel.basic_publish("orders.direct", "order", body, BasicProperties(delivery_mode=2, **properties))


class TestOddMessage:
    """One message that nobody can handle, and an order behind it."""

    @pytest.fixture
    def behind(self, orders, receive):
        """Publishes an order, and returns once its completion is told."""

        def publish_and_wait():
            orders.producer.publish(*sample_orders(1))
            (told,) = receive("notifications")
            assert parse(Completed, told.body).order_id == "00-0001"

        return publish_and_wait

    @pytest.mark.parametrize(
        "properties",
        [
            {"headers": FULL},
            {"headers": {"x-death": "twice", "attempts": "many", "attempt-reasons": [1, 2], "replays": "two"}},
            {"headers": {b"caf\xe9": 1.5}},
            *[{"headers": {"x-death": entries}} for entries in UNBEARABLE],
            {"message_id": b"caf\xe9"},
            {"message_id": "x" * 255},
            {"expiration": "60000", "priority": 255, "headers": {"CC": ["order", "other"]}},
        ],
        ids=[
            "full_headers", "foreign_headers", "header_in_latin_1", "x_death_of_texts", "x_death_in_a_list",
            "x_death_with_a_text_for_a_count", "x_death_with_true_for_a_count", "x_death_with_another_true_for_a_count",
            "x_death_with_a_float_for_a_count", "id_in_latin_1", "long_id",
            "expiration_and_cc",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("ladder", [None, retry_ladder(0.001)], ids=["reject", "retry"])
    @pytest.mark.parametrize("body", [b"no order", next(sample_orders(1)).to_json()], ids=["unreadable", "failing"])
    def test_is_among_the_dead_letters_and_holds_up_nobody(
        self, url, orders, worker_said, behind, eventually, channel, properties, ladder, body
    ):
        """One message ended each worker in turn, and stayed in front of the queue."""
        published(orders, body, **properties)
        failing, _ = worker_said(failures=Failures(1), retry=ladder)
        eventually(lambda: orders.depth("orders.failed"), 1)
        orders.halt(failing)

        worker_said()
        behind()

        assert orders.depth("orders") == 0
        assert [letter.body for letter in look(url)] == [body]

    @pytest.mark.parametrize("headers", [None, FULL], ids=["room_for_a_reason", "full_headers"])
    @pytest.mark.parametrize(
        ("service", "exchange", "key"),
        [(Analytics, "events.fanout", ""), (Notification, "events.fanout", ""), (InventoryServer, "", "rpc.inventory")],
        ids=["analytics", "notification", "inventory"],
    )
    def test_is_parked_from_queues_that_do_not_dead_letter(
        self, orders, receive, channel, service, exchange, key, headers
    ):
        """A reject there deletes it, so the service publishes a copy with what has room."""
        orders.start(service)

        channel.basic_publish(exchange, key, b"no event", BasicProperties(headers=headers))

        (parked,) = receive("orders.failed")
        assert parked.body == b"no event"
        assert FULL.items() <= parked.headers.items() if headers else REASON_HEADER in parked.headers

    def test_with_a_hundred_thousand_mistakes_is_parked_soon(self, orders, behind, worker_said):
        """To compare each mistake with each other took hours, and nobody could stop the worker meanwhile."""
        items = ",".join(["0"] * 100_000).encode()
        published(orders, b'{"order_id": "A1", "customer": "Ada", "items": [' + items + b"]}")

        _, said = worker_said()
        behind()

        assert said[0].startswith("parked in orders.failed, as unreadable: items.0: Input should be")


class TestBounds:
    """What the types take for an id and for an amount."""

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"unit_price_cents": 10**400}, "items.0.unit_price_cents: Input should be less than or equal to"),
            ({"unit_price_cents": 10**15, "quantity": 2}, "the total should be at most 1000000000000000 cents"),
            ({"sku": "注" * 90}, "items.0.sku: Value error, should have at most 255 bytes in UTF-8"),
            ({"order_id": "注" * 90}, "order_id: Value error, should have at most 255 bytes in UTF-8"),
            ({"order_id": "x" * 201}, "order_id: String should have at most 200 characters"),
        ],
        ids=["price", "total", "sku", "order_id_in_bytes", "order_id_in_characters"],
    )
    def test_refuse_at_the_edge(self, run, orders, fields, reason, tmp_path):
        """An id of 270 bytes has no place in a property, and a price of 400 digits in no sum: each ended services."""
        item = {"sku": "m", "quantity": 1, "unit_price_cents": 1}
        item |= {name: value for name, value in fields.items() if name in item}
        order = {"order_id": fields.get("order_id", "A1"), "customer": "Ada", "items": [item]}
        (tmp_path / "orders.jsonl").write_text(json.dumps(order))

        produce = run("demo", "produce", "--file", str(tmp_path / "orders.jsonl"))

        assert produce.ends() == 1
        assert reason in produce.output
        assert orders.depth("orders") == 0

    def test_hold_for_events_of_others(self, orders, receive):
        """Anybody may publish to the fanout exchange; analytics ended at each start at a sum it could not print."""
        analytics = orders.start(Analytics)
        event = {"order_id": "A1", "customer": "Ada", "total_cents": 10**400, "worker": "w"}

        orders.channel.basic_publish("events.fanout", "", json.dumps(event).encode())

        (parked,) = receive("orders.failed")
        assert "total_cents" in parked.headers[REASON_HEADER]
        assert analytics.orders == 0

    def test_leave_room_for_the_greatest_order(self, orders, eventually):
        """The sums of analytics have no bound: a thousand of the greatest orders are added and printed."""
        said = []
        analytics = orders.start(lambda source: Analytics(source, say=said.append))
        event = Completed(order_id="A1", customer="Ada", total_cents=10**15, worker="w" * 200)

        for _ in range(1000):
            orders.channel.basic_publish("events.fanout", "", event.to_json())

        eventually(lambda: analytics.orders, 1000)
        assert said[-1].startswith("1000 orders, 10,000,000,000,000,000.00 in all")

    @pytest.mark.parametrize("name", ["", "n" * 256, "\udcff"], ids=["none", "too_long", "half_a_letter"])
    def test_hold_for_the_names_of_services(self, url, name):
        """A name is a consumer tag, and has room for 255 bytes; an error in the connection's thread says less."""
        with pytest.raises(InvalidSetting, match="from 1 to 255 bytes"):
            Worker(url, name)


class TestPrinting:
    """What a person is told."""

    @pytest.mark.parametrize(
        "error", [OSError("no space left"), UnicodeEncodeError("ascii", "ë", 0, 1, "")], ids=["full", "ascii"]
    )
    def test_decides_no_outcome(self, orders, receive, eventually, error):
        """A name that a terminal could not print left the order unacknowledged: it came again, and ended the next."""

        def fail(_):
            raise error

        worker = orders.start(lambda source: Worker(source, failures=Failures(0), say=fail))
        notification = orders.start(lambda source: Notification(source, say=fail))
        orders.producer.publish(*sample_orders(1))

        receive("logs", 2)
        eventually(lambda: notification.notified, ["00-0001"])
        orders.halt(worker)
        orders.halt(notification)

        assert worker.consumer.outcomes == notification.consumer.outcomes == {Outcome.ACK: 1}

    @pytest.mark.parametrize("part", ["worker", "notification", "analytics", "logs"])
    def test_goes_on_in_a_terminal_that_knows_ascii_only(self, run, orders, part, receive):
        """Zoë is told, with her name escaped."""
        process = run("demo", part, PYTHONIOENCODING="ascii")
        process.waits_for("is ready")
        order = Order(order_id="Zoë\x1b[2J", customer="Zoë", items=(Item(sku="m", quantity=1, unit_price_cents=1),))
        if part != "worker":
            orders.start(lambda source: Worker(source, "Zoë", failures=Failures(0)))
        orders.producer.publish(order)

        process.waits_for("Zo\\xeb")

        assert process.ends(signal.SIGTERM) == 0
        assert "\x1b" not in process.output

    def test_goes_on_where_nobody_reads(self, environment, url, orders, eventually):
        """`demo worker | head -1`: the reader goes, and the orders are worked on all the same."""
        command = [sys.executable, "-m", "rmqspec", "demo", "worker", "--work-time", "0", "--failure-rate", "0"]
        buffered = {name: value for name, value in environment.items() if name != "PYTHONUNBUFFERED"}
        with subprocess.Popen(command, env={**buffered, "RABBITMQ_URL": url}, stdout=subprocess.PIPE) as process:
            assert b"is ready" in process.stdout.readline()
            process.stdout.close()
            for order in sample_orders(5):
                orders.producer.publish(order)

            eventually(lambda: (orders.depth("orders"), orders.depth("notifications")), (0, 5))
            process.terminate()


class TestTransientFailure:
    """A publish of a handler of which the outcome is not known, while the consumer's connection stands."""

    @pytest.fixture
    def forgetful(self, url, orders, patience):
        """Settings of a way to the broker that loses the first confirm of the first connection."""
        at = Endpoint.parse(url)
        lost = []

        def without_first_confirm(number, direction):
            frames = Frames()

            def tap(data):
                pieces = list(frames.feed(data))
                kept = []
                for piece in pieces:
                    method = getattr(piece.frame, "method", None)
                    if isinstance(method, Basic.Ack) and not lost:
                        lost.append(number)
                    else:
                        kept.append(piece.raw)
                return b"".join(kept)

            return tap if direction is Direction.FROM_BROKER else None

        with Proxy(at.host, at.port) as proxy:
            proxy.taps = without_first_confirm
            yield replace(Settings.of(proxy.url(url)), answer_timeout=1.0)
        assert lost

    def test_gives_the_delivery_back_after_a_pause(self, orders, forgetful, receive):
        """Eight of eight workers ended at a restart of the broker; and unsettled, the order would wait for ever."""
        said = []
        worker = Worker(forgetful, failures=Failures(0), say=said.append, pause=0.02)
        thread = threading.Thread(target=worker.run)
        thread.start()
        orders.producer.publish(*sample_orders(1))

        (told,) = receive("notifications")
        worker.stop()
        thread.join(10)

        assert parse(Completed, told.body).order_id == "00-0001"
        assert next(line for line in said if "back" in line).startswith("gives a message back for now: ")
        assert worker.consumer.outcomes[Outcome.REQUEUE_LATER] == 1

    def test_gives_back_what_cannot_be_parked_now(self, orders, forgetful, receive):
        """The same while a message is parked: it is parked twice, or once, and never lost."""
        worker = Worker(forgetful, failures=Failures(0), pause=0.02)
        thread = threading.Thread(target=worker.run)
        thread.start()
        published(orders, b"no order")

        parked = receive("orders.failed", 2)
        worker.stop()
        thread.join(10)

        assert {delivery.body for delivery in parked} == {b"no order"}
        assert orders.depth("orders") == 0

    def test_gives_back_a_request_that_cannot_be_parked_without_its_reason_now(self, orders, monkeypatch, receive):
        """An error of that kind passed its policy by, and ended the inventory."""
        tries = []

        def stopped_at_first(*arguments, **named):
            tries.append(arguments)
            if len(tries) == 1:
                raise ServiceStopped("stopped")
            park_without_room(*arguments, **named)

        monkeypatch.setattr("rmqspec.orders.inventory.park_without_room", stopped_at_first)
        orders.start(InventoryServer)

        orders.channel.basic_publish("", "rpc.inventory", b"nobody to answer", BasicProperties(headers=FULL))

        assert [delivery.body for delivery in receive("orders.failed")] == [b"nobody to answer"]
        assert len(tries) == 2

    def test_is_one_of_the_inbox_too(self, orders, worker_said, receive, tmp_path):
        """A disk that is full for a minute must not end all workers."""
        inbox = Broken(str(tmp_path / "inbox"))
        _, said = worker_said(inbox=inbox)
        orders.producer.publish(*sample_orders(1))

        assert len(receive("notifications")) == 1
        assert [line for line in said if "back" in line] == ["gives a message back for now: the disk is full"] * 2


class Broken(Inbox):
    """Cannot be used the first two times."""

    times = 0

    def claim(self, message_id):
        self.times += 1
        if self.times < 3:
            raise InboxUnavailable("the disk is full")
        return super().claim(message_id)


class TestWaits:
    """Waiting on the broker in a service that is stopped."""

    def test_end_soon_after_a_stop(self):
        """The broker is away, or blocks publishers: who is to stop does not wait for the end of that."""
        waits, never = Waits(after_stop=0.01), Future()
        threading.Timer(0.05, waits.stop).start()

        with pytest.raises(ServiceStopped):
            waits.confirmed(never)
        with pytest.raises(ServiceStopped):
            waits.confirmed(never)

    def test_get_what_comes_soon_after_a_stop(self):
        """An order whose last confirm is on its way is done, and not given back."""
        waits, answer = Waits(after_stop=30), Future()
        waits.stop()
        threading.Timer(0.05, answer.set_result, ["confirmed"]).start()

        assert waits.confirmed(answer) == "confirmed"


@pytest.fixture
def cut_off():
    """Closes the socket of a connection, and its owner does not know yet."""

    def cut(connection):
        connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)

    return cut


class TestSilentBroker:
    """A broker that answers nothing, as a machine does that is suspended: the connections stand."""

    def test_holds_up_no_worker_that_is_to_stop(self, url, broker, orders, eventually):
        """The wait for a confirm and both goodbyes took their time one after the other, and a deployment kills."""
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            worker = Worker(proxy.url(url), failures=Failures(0), work_time=0.5)
            thread = threading.Thread(target=worker.run)
            thread.start()
            orders.producer.publish(*sample_orders(1))
            eventually(lambda: worker.at_work, "00-0001")
            proxy.half_open()
            eventually(lambda: worker.publisher.in_flight, 1)

            began = time.monotonic()
            worker.stop()
            thread.join(10)
            took = time.monotonic() - began

        assert worker.consumer.unanswered
        assert took < 3.5  # two seconds, and what a busy machine takes; it was 4.5


class TestGrace:
    """The time that a worker has for the order at work after `stop`."""

    def test_is_longer_than_its_work_time(self, orders, worker_said, monkeypatch, receive, eventually):
        """With `--work-time 40` each Ctrl-C took the order away after 30 seconds, and the next worker began anew."""
        monkeypatch.setattr("rmqspec.orders.worker.GRACE", 0.3)
        worker, _ = worker_said(work_time=1.0)
        orders.producer.publish(*sample_orders(1))
        eventually(lambda: worker.at_work, "00-0001")

        orders.halt(worker)

        assert len(receive("notifications")) == 1
        assert orders.depth("orders") == 0


class TestOrderSystem:
    """The services together, and the connection of whoever looks on."""

    def test_keeps_a_connection_that_nobody_serves(self, source):
        """Between two looks nobody answers heartbeats there: after two of them it was dead, and `stop` raised."""
        with OrderSystem(replace(source, heartbeat=1)) as system:
            assert system.connection._impl.params.heartbeat == 0
            assert system.depth("orders") == 0

    def test_stops_where_the_broker_has_hung_up(self, source, cut_off):
        """An error while hanging up would hide what a service has ended with."""
        system = OrderSystem(source)

        cut_off(system.connection)
        system.stop()
