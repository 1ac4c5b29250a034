"""What specs need beside the plugin's fixtures: consumers that ack nothing, refusals, users; and the command line."""

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pika
import pytest
from hypothesis import settings
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

from rmqspec.client import Connection, Publisher, connect
from rmqspec.tools.broker.endpoint import Endpoint, random_login
from rmqspec.tools.wire import Proxy

# For what one has minutes for: `--hypothesis-profile=thorough`.
settings.register_profile("thorough", max_examples=300, stateful_step_count=50, deadline=None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for what a script runs in the background, and so it would be for every process that is started here:
    # those are sent a Ctrl-C, and must hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Process:
    """`rmqspec …` in a process of its own; its output is read as it comes, and waited for `within` so many seconds."""

    def __init__(self, *arguments, environment, within=20.0):
        self.arguments, self.lines, self._news, self.within = arguments, [], threading.Condition(), within
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rmqspec", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def waits_for(self, words, count=1, within=None):
        """Returns when so many lines with these words have come; the wait ends with the line, not with a poll."""
        deadline = time.monotonic() + (within or self.within)
        with self._news:
            while len(found := [line for line in self.lines if words in line]) < count:
                left = deadline - time.monotonic()
                ended = not self._reader.is_alive()
                if ended or (not self._news.wait(max(0.0, left)) and left <= 0):
                    said = "\n".join(self.lines)
                    pytest.fail(f"{self.arguments}: {words!r} was expected {count} times; it said:\n{said}")
        return found

    def ends(self, with_signal=None, within=None):
        """Sends the signal, if any, and returns the exit code."""
        if with_signal is not None and self._process.poll() is None:
            self._process.send_signal(with_signal)
        code = self._process.wait(within or self.within)
        self._reader.join(self.within)
        self._process.stdout.close()
        return code

    def interrupt(self, until):
        """Ctrl-C, until it says these words: two that come faster than a person's are taken for one."""
        deadline = time.monotonic() + self.within
        with self._news:
            while not any(until in line for line in self.lines):
                if time.monotonic() > deadline:
                    pytest.fail(f"{self.arguments}: {until!r} was expected; it said:\n{self.output}")
                self._process.send_signal(signal.SIGINT)
                self._news.wait(0.2)

    @property
    def output(self):
        return "\n".join(self.lines)

    def _read(self):
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


@pytest.fixture
def environment(tmp_path):
    """Of a person who has started no broker with rabbitup; tests add RABBITMQ_URL."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
    return {**kept, "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "132"}


@pytest.fixture
def run(environment, url, patience):
    """Starts `rmqspec …` on this test's vhost: `run("demo", "worker", "1")`. What still runs at the end is killed."""
    started = []

    def start(*arguments, **more):
        # The URL holds the password, so it travels in the environment: arguments are shown to every user.
        waits = {"RABBITMQ_ANSWER_TIMEOUT": str(patience)}
        surroundings = {**environment, **waits, "RABBITMQ_URL": url, **more}
        started.append(Process(*arguments, environment=surroundings, within=min(20.0, 3 * patience)))
        return started[-1]

    yield start
    for process in started:
        process.ends(signal.SIGKILL)


class UnackedConsumer:
    """A consumer that acknowledges nothing by itself.

    Attributes:
        bodies: Of all deliveries so far, oldest first.
        tags: Their delivery tags.
        headers: Their headers.
    """

    def __init__(self, wait_limit, channel, queue, **options):
        self.wait_limit, self.channel = wait_limit, channel
        self.bodies, self.tags, self.headers = [], [], []
        self.consumer_tag = channel.basic_consume(queue, self._on_delivery, **options)

    def wait_for(self, count):
        """The bodies, once at least so many messages were delivered."""
        __tracebackhide__ = True  # the failing line is the spec's
        deadline = time.monotonic() + self.wait_limit
        while len(self.bodies) < count:
            if time.monotonic() > deadline:
                pytest.fail(f"{count} message(s) expected within {self.wait_limit:g} s, came: {self.bodies}")
            self.channel.connection.process_data_events(time_limit=1)  # returns with the first event
        return self.bodies

    def _on_delivery(self, _channel, method, properties, body):
        self.bodies.append(body)
        self.tags.append(method.delivery_tag)
        self.headers.append(properties.headers or {})


@pytest.fixture
def subscribe_without_ack(wait_limit):
    """A consumer that acks nothing: `subscribe_without_ack(channel, "orders").wait_for(2)` returns two bodies."""
    return partial(UnackedConsumer, wait_limit)


class ConfirmLog:
    """A channel in confirm mode, and what the broker says of its publishes; pika's blocking channel keeps that secret.

    Attributes:
        channel: Publish on it.
        methods: What came, in its order: "Basic.Ack", "Basic.Nack", "Basic.Return".
        acked: The numbers of the publishes that were acked; the first publish of a channel is number 1.
        nacked: Of those that were nacked.
    """

    def __init__(self, patience, connection):
        self.channel, self._patience = connection.channel(), patience
        self.methods, self.acked, self.nacked = [], [], []
        self.channel._impl.confirm_delivery(self._on_confirm)
        self.channel._impl.add_on_return_callback(lambda *returned: self.methods.append(returned[1].NAME))

    def wait_for(self, count):
        """Returns when so many publishes were acked or nacked."""
        deadline = time.monotonic() + self._patience
        while len(self.acked) + len(self.nacked) < count:
            if time.monotonic() > deadline:
                said = f"acked: {self.acked}, nacked: {self.nacked}"
                pytest.fail(f"{count} confirm(s) expected within {self._patience:g} s, came: {said}")
            self.channel.connection.process_data_events(time_limit=1)

    def _on_confirm(self, frame):
        method = frame.method
        self.methods.append(method.NAME)
        settled = self.acked if isinstance(method, pika.spec.Basic.Ack) else self.nacked
        earlier = range(1, method.delivery_tag) if method.multiple else ()
        settled += [number for number in earlier if number not in {*self.acked, *self.nacked}]
        settled.append(method.delivery_tag)
        self.channel.connection.call_later(0, lambda: None)  # an event: `process_data_events` returns


@pytest.fixture
def confirm_log(patience):
    """What the broker says of each publish: `confirm_log(connection)`; see `ConfirmLog`."""
    return partial(ConfirmLog, patience)


@pytest.fixture
def send_method():
    """Sends what pika has no call for: `send_method(channel, spec.Basic.Publish(…), properties, body)`."""

    def send(channel, method, properties=None, body=b""):
        channel._impl._send_method(method, None if properties is None else (properties, body))

    return send


@pytest.fixture
def cancelled_consumers():
    """Which consumer tags of a channel the broker has cancelled so far: `cancelled_consumers(channel)()`."""

    def listen(channel):
        tags = []
        channel.add_on_cancel_callback(lambda frame: tags.append(frame.method.consumer_tag))

        def so_far():
            channel.connection.process_data_events(time_limit=0)
            return tags

        return so_far

    return listen


class AlarmListener:
    """A connection that publishes, and what the broker notifies it of while there are alarms.

    Attributes:
        notifications: The reason of each `connection.blocked`, and "unblocked" for each `connection.unblocked`.
    """

    def __init__(self, patience, connection):
        self.connection, self.channel = connection, connection.channel()
        self.notifications = []
        self._patience = patience
        connection.add_on_connection_blocked_callback(lambda _, frame: self.notifications.append(frame.method.reason))
        connection.add_on_connection_unblocked_callback(lambda *_: self.notifications.append("unblocked"))

    def publish(self, body):
        self.channel.basic_publish("", "work", body)

    def wait_for(self, count):
        """The notifications, once so many have come; fewer if they do not come in time."""
        deadline = time.monotonic() + self._patience
        while len(self.notifications) < count and time.monotonic() < deadline:
            self.connection.process_data_events(time_limit=1)  # returns with the first event
        return self.notifications

    def notifications_so_far(self):
        """All that the broker has sent until now: an answer comes after them."""
        self.channel.queue_declare("work", passive=True)
        self.connection.process_data_events(time_limit=0)
        return self.notifications


@pytest.fixture
def alarm_listener(patience):
    """Listens for notifications of alarms: `alarm_listener(connect())`; see `AlarmListener`."""
    return partial(AlarmListener, patience)


@pytest.fixture(scope="module")
def alarm(disposable_broker):
    """Raises an alarm of the disposable broker for the length of a block: `with alarm("disk"):`."""
    commands = {
        "memory": ("set_vm_memory_high_watermark", "0", "0.4"),
        "disk": ("set_disk_free_limit", "100000GB", "50MB"),
    }
    active = []

    @contextmanager
    def raised(resource):
        command, short, enough = commands[resource]
        witness = None
        disposable_broker.control(command, short)
        try:
            if not active:
                witness = blocked_connection(disposable_broker)
            active.append(resource)
            yield
        finally:
            disposable_broker.control(command, enough)
            if resource in active:
                active.remove(resource)
            if witness is not None:
                witness.close()  # which a blocked connection cannot do

    return raised


def blocked_connection(broker):
    """A connection that has just been blocked: from here on all others have heard of the alarm too.

    The broker tells its connections one after the other, while rabbitmqctl returns.
    """
    connection = pika.BlockingConnection(pika.URLParameters(broker.endpoint.url()))
    blocked = []
    connection.add_on_connection_blocked_callback(lambda *_: blocked.append(True))
    channel = connection.channel()
    deadline = time.monotonic() + 10
    while not blocked:
        assert time.monotonic() < deadline, "the broker has an alarm, and blocks nobody"
        channel.basic_publish("", "nobody", b"?")
        connection.process_data_events(time_limit=0.02)
    return connection


@pytest.fixture
def served(eventually):
    """Serves a connection until callbacks have brought this about: `served(connection, lambda: replies, [b"42"])`."""

    def wait(connection, probe, expected):
        __tracebackhide__ = True  # the failing line is the spec's

        def serve_and_ask():
            connection.process_data_events()
            return probe()

        eventually(serve_and_ask, expected)

    return wait


@pytest.fixture
def new_consumer(connection, subscribe_without_ack):
    """Subscribes without ack on a channel of its own: `new_consumer("work", prefetch=1, priority=10).wait_for(1)`."""

    def subscribe(queue, prefetch=0, priority=None):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=prefetch)
        arguments = None if priority is None else {"x-priority": priority}
        return subscribe_without_ack(channel, queue, arguments=arguments)

    return subscribe


@pytest.fixture
def send_frames():
    """Writes frames as they are; pika itself writes whole messages: `send_frames(channel, frame.Method(…))`."""

    def send(channel, *frames):
        channel.connection._impl._output_marshaled_frames([each.marshal() for each in frames])

    return send


@pytest.fixture
def methods_from_broker():
    """Collects methods of one kind that come on a channel: `methods_from_broker(channel, spec.Channel.Close)`."""

    def collect(channel, kind):
        methods = []
        channel._impl.add_callback(lambda answer: methods.append(answer.method), [kind], one_shot=False)
        return methods

    return collect


@pytest.fixture
def get_without_ack():
    """`basic.get` of a message that must be there: `get_without_ack(channel, "orders")` is its tag and its body."""

    def fetch(channel, queue):
        method, _, body = channel.basic_get(queue)
        assert method is not None, f"{queue!r} is empty"
        return method.delivery_tag, body

    return fetch


@pytest.fixture
def requeue_until_dead(connection, receive):
    """Requeues each delivery of a queue's message until it arrives in `dead`: `requeue_until_dead("work")`.

    Returns the header `x-delivery-count` of each delivery, and the reason of the dead letter. The 22nd delivery is
    rejected without requeue: if the broker does not end it before, the reason is `rejected`.
    """

    def requeue(queue, method="basic_reject"):
        consumer = connection.channel()
        counts = []

        def on_delivery(channel, deliver, properties, _body):
            counts.append((properties.headers or {}).get("x-delivery-count"))
            getattr(channel, method)(deliver.delivery_tag, requeue=len(counts) < 22)

        consumer.basic_consume(queue, on_delivery)
        (dead,) = receive("dead")
        consumer.close()
        return counts, dead.died_of

    return requeue


@pytest.fixture
def message_count(channel):
    """How many messages of a queue are ready for delivery, by a passive declare: `message_count("orders")`."""
    return lambda queue: channel.queue_declare(queue, passive=True).method.message_count


@pytest.fixture
def run_until_it_ends(patience):
    """Runs a service that ends by itself, and stops it when time is up: `run_until_it_ends(Worker(url))`."""

    def run(service):
        timer = threading.Timer(patience, service.stop)
        timer.start()
        try:
            service.run()
        finally:
            timer.cancel()

    return run


@pytest.fixture
def open_publisher(connection, patience):
    """Opens a publisher of ours, closed before the vhost goes, as its connection is: `open_publisher(url)`."""
    opened = []

    def open_one(source, **options):
        opened.append(Publisher(source, **options))
        return opened[-1]

    yield open_one
    for publisher in opened:
        publisher.close(patience)


@pytest.fixture
def cut():
    """Ends a connection as a crash does: the socket closes, without `connection.close`. `cut(connection)`."""

    def die(connection):
        # pika has no way to hang up without a goodbye.
        connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        with pytest.raises(AMQPConnectionError):
            connection.process_data_events()

    return die


@pytest.fixture
def proxy(url):
    """Stands in the way to this test's vhost, and harms the connections that lead through it: `proxy.half_open()`."""
    broker = Endpoint.parse(url)
    with Proxy(broker.host, broker.port) as proxy:
        yield proxy


@pytest.fixture
def proxied_connection(proxy, url, patience):
    """A connection through `proxy` without heartbeats: it does not notice what is done to it until it is used."""
    connection = Connection(pika.URLParameters(f"{proxy.url(url)}?heartbeat=0"))
    connection.patience = patience
    yield connection
    proxy.cut()
    with suppress(AMQPConnectionError):
        connection.close()


@pytest.fixture
def agreed_heartbeat():
    """The heartbeat interval that a connection of pika uses, in seconds; it has no public name for it."""
    return lambda connection: connection._impl.params.heartbeat


class Refusal(NamedTuple):
    """How the broker answered a mistake.

    Attributes:
        code: The reply code, or 0 if it was accepted.
        text: The reply text.
        closed: What the broker closed: "nothing", the "channel", or the "connection".
    """

    code: int = 0
    text: str = ""
    closed: str = "nothing"


@pytest.fixture
def refusal(connection):
    """How the broker refuses an operation, on a channel of its own: `refusal(lambda channel: …)` is a `Refusal`.

    The channel is one of the test's connection, or of another: `refusal(operation, on=connect_as(who))`.
    """

    def of(mistake, on=connection):
        try:
            with on.channel() as careless:
                mistake(careless)
        except ConnectionClosedByBroker as error:
            return Refusal(error.reply_code, error.reply_text, "connection")
        except ChannelClosedByBroker as error:
            on.channel().close()  # the connection serves on
            return Refusal(error.reply_code, error.reply_text, "channel")
        return Refusal()

    return of


class HeadersExchange:
    """The headers exchange `parcels`, for specs about which binding matches which message."""

    name = "parcels"

    def __init__(self, channel):
        self._channel = channel
        channel.exchange_declare(self.name, "headers", durable=True)

    def bind(self, *arguments):
        """The name of a new queue, bound once for each of these tables: `bind({"x-match": "any", "shop": "Ada"})`."""
        queue = self._channel.queue_declare("", exclusive=True).method.queue
        for table in arguments:
            self._channel.queue_bind(queue, self.name, arguments=table)
        return queue

    def publish(self, **headers):
        """Publishes a message for each body: `publish(urgent={"speed": "high"})`."""
        for body, table in headers.items():
            self._channel.basic_publish(self.name, "", body.encode(), pika.BasicProperties(headers=table))


@pytest.fixture
def parcels(channel):
    """A headers exchange; see `HeadersExchange`."""
    return HeadersExchange(channel)


@pytest.fixture
def closed_connection():
    """The error with which the broker closes a connection: `closed_connection(connection, lambda channel: …)`."""

    def make(connection, mistake):
        mistake(connection.channel())
        connection.process_data_events(time_limit=5)

    def of(connection, mistake):
        with pytest.raises(ConnectionClosedByBroker) as error:
            make(connection, mistake)
        return error.value

    return of


@pytest.fixture
def closed_channel(patience):
    """The error with which the broker closes a channel by itself: `closed_channel(channel)`. It waits for it."""

    def of(channel):
        deadline = time.monotonic() + patience
        while channel.is_open:
            if time.monotonic() > deadline:
                pytest.fail(f"the broker was expected to close a channel within {patience:g} s")
            channel.connection.process_data_events(time_limit=0.01)  # a close does not end a longer wait
        return channel._closing_reason

    return of


@pytest.fixture
def connection_refusal(connect_as):
    """How the broker refuses to open a connection: `connection_refusal(user(read=".*"))` is a `Refusal`."""

    def of(*whom_and_where):
        try:
            connect_as(*whom_and_where)
        except (ProbableAuthenticationError, ProbableAccessDeniedError) as error:
            # During the handshake pika hands on the broker's words as text: ConnectionClosedByBroker: (403) 'ACCESS_…'
            code, text = re.search(r"\((\d+)\) (.*)", str(error)).groups()
            return Refusal(int(code), ast.literal_eval(text), "connection")
        return Refusal()

    return of


@pytest.fixture
def another_vhost(vhosts):
    """The name of a second vhost."""
    name = vhosts.take()
    yield name
    vhosts.give_back(name)


@pytest.fixture
def lookup(refusal):
    """Asks by a passive declare whether something "exists" or is "missing": `lookup("queue", "work")`."""

    def passive_declare(kind, name):
        said = refusal(lambda channel: getattr(channel, f"{kind}_declare")(name, passive=True))
        if said.code:
            assert (said.code, said.closed) == (404, "channel")
            assert said.text.startswith(f"NOT_FOUND - no {kind} '{name}' in vhost")
        return "missing" if said.code else "exists"

    return passive_declare


@pytest.fixture
def is_routed(channel):
    """Publishes the routing key as body, mandatory; False if it was returned: `is_routed("shop", "paid")`."""

    def publish(exchange, key):
        try:
            channel.basic_publish(exchange, key, key.encode(), mandatory=True)
        except UnroutableError:
            return False
        return True

    return publish


@pytest.fixture
def exists(connect):
    """Whether a queue exists, asked by a mandatory publish: a declare, even a passive one, counts as use of it."""
    probes = []

    def ask(name):
        if not probes or probes[-1].is_closed:
            probes.append(connect().channel())
            probes[-1].confirm_delivery()
        try:
            probes[-1].basic_publish("", name, b"anybody there?", mandatory=True)
        except (UnroutableError, NackError):  # a nack: it went while the message came
            return False
        except ConnectionClosedByBroker as error:  # so it may be since 4.3: 506, the queue is not found
            if "not_found" not in error.reply_text:
                raise
            return False
        return True

    return ask


@pytest.fixture
def user(broker, vhost):
    """Makes a user with a random password, who has these permissions in this test's vhost, or may not enter it."""
    names = []

    def make(tags="", **permissions):
        name, password = random_login()
        broker.management.create_user(name, password, tags)
        names.append(name)
        if permissions:
            broker.management.permit(vhost, name, **permissions)
        return replace(broker.endpoint, user=name, password=password)

    yield make
    for name in names:
        broker.management.delete_user(name)


@pytest.fixture
def connect_as(vhost, request, route, patience):
    """Opens a connection as this user: `connect_as(user(read=".*"))`. It is closed at the end."""
    opened = []

    def open_one(who, where=vhost):
        parameters = pika.URLParameters(route(who.url(where)))
        parameters.client_properties = {"connection_name": request.node.nodeid}
        opened.append(Connection(parameters))
        opened[-1].patience = patience
        return opened[-1]

    yield open_one
    for connection in opened:
        if connection.is_open:
            connection.close()


@pytest.fixture
def dead_lettering_queue(channel):
    """The queue `work`, behind `shop` and the key `order`; its dead letters go to `failures` and to the queue `failed`.

    `shop` is a direct exchange and `failures` a fanout exchange.
    """
    channel.exchange_declare("failures", "fanout", durable=True)
    channel.queue_declare("failed", durable=True)
    channel.queue_bind("failed", "failures")
    channel.exchange_declare("shop", "direct", durable=True)
    channel.queue_declare("work", durable=True, arguments={"x-dead-letter-exchange": "failures"})
    channel.queue_bind("work", "shop", "order")
    return "work"


@pytest.fixture
def reject(channel, dead_lettering_queue, get_without_ack):
    """Publishes an order to `work` and rejects it there: `reject(message_id="7")`."""

    def publish_and_reject(**properties):
        channel.basic_publish("shop", "order", b"an order", pika.BasicProperties(**properties))
        tag, _ = get_without_ack(channel, dead_lettering_queue)
        channel.basic_reject(tag, requeue=False)

    return publish_and_reject


@pytest.fixture
def rejected(reject, receive):
    """A rejected order as it is delivered from `failed`: `rejected(message_id="7")`."""

    def reject_and_receive(**properties):
        reject(**properties)
        (dead,) = receive("failed")
        return dead

    return reject_and_receive


@pytest.fixture(scope="module")
def connect_to_disposable(disposable_source):
    """Opens a channel in confirm mode on the disposable broker: `with connect_to_disposable() as channel:`.

    The broker may stop inside, as it may while an application is connected.
    """

    @contextmanager
    def open_one():
        connection = connect(disposable_source, "of a disposable broker")
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
        with suppress(AMQPConnectionError):  # pika notices only here that the broker has gone
            connection.close()

    return open_one


@pytest.fixture(scope="module")
def disposable_vhost(disposable_source):
    """The name of the vhost that is used on the disposable broker."""
    return pika.URLParameters(disposable_source.urls[0]).virtual_host


@pytest.fixture(scope="module")
def list_queues(disposable_broker, disposable_vhost):
    """Asks `rabbitmqctl list_queues`: `list_queues("messages_ram")["plain"]["messages_ram"]`. Statistics would lag."""

    def ask(*columns):
        arguments = ("-p", disposable_vhost, "--formatter", "json", "name", *columns)
        rows = json.loads(disposable_broker.control("list_queues", *arguments))
        return {row["name"]: row for row in rows}

    return ask


@pytest.fixture
def drain_when_ready(channel, drain, eventually):
    """Waits until a queue has so many ready messages, and fetches them: `drain_when_ready("work", 3)`.

    A requeued message is ready a moment after its channel or connection has closed.
    """

    def wait(queue, count):
        eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count, count)
        return drain(queue)

    return wait
