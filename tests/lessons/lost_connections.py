"""Scenarios of lost connections that take seconds, each run once: a silent peer, and a broker killed at work."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from typing import NamedTuple

import pika
from pika import exceptions, frame

from rmqspec.client import Connection, Consumer, Outcome, Publisher, Queue, Settings, Topology
from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.wire import Direction, Frames, Proxy

WORK = Topology(queues=(Queue("work"),))
WINDOW = 100


def client(url, heartbeat=0, patience=10):
    """A connection as pika has it: between two calls nobody serves it, so it sends no heartbeats then."""
    connection = Connection(pika.URLParameters(f"{url}?heartbeat={heartbeat}"))
    connection.patience = patience
    return connection


def proxy_before(url):
    """A proxy in the way to this broker."""
    broker = Endpoint.parse(url)
    return Proxy(broker.host, broker.port)


def ready(channel):
    """How many messages in the queue wait for a consumer."""
    return channel.queue_declare("work", passive=True).method.message_count


def serve_until(connection, condition, within):
    """Serves the connection until the condition is true; returns the error if the connection ends before, else None."""
    deadline = time.monotonic() + within
    try:
        while not condition() and time.monotonic() < deadline:
            connection.process_data_events(1)
    except exceptions.AMQPError as error:
        return error
    return None


def never():
    """A condition for connections that are served until they end."""
    return False


def silent_broker(url, within):
    """The error that pika raises after the broker has gone silent."""
    with proxy_before(url) as proxy:
        connection = client(proxy.url(url), 1)
        proxy.half_open()
        return serve_until(connection, never, within)


class Silence(NamedTuple):
    """What three clients that publish nothing have seen.

    Attributes:
        received: By the idle client, which serves its heartbeats: body and redelivered of each message.
        heartbeats: How many the broker has sent.
        idle_error: The error that ended the idle connection.
        busy_error: That of a client that agreed on heartbeats and did not send any.
        patient_error: That of a client that agreed on no heartbeats.
    """

    received: list
    heartbeats: int
    idle_error: Exception | None
    busy_error: Exception | None
    patient_error: Exception | None


def silent_clients(url, patience):
    """Lets a patient and a busy client, each with an unacked message, fall silent; an idle one consumes meanwhile."""
    heartbeats = []
    received = []
    frames = Frames()

    def note(data):
        heartbeats.extend(piece for piece in frames.feed(data) if isinstance(piece.frame, frame.Heartbeat))
        return data

    with proxy_before(url) as proxy, closing_quietly(client(url, 0, patience)) as patient:
        proxy.taps = lambda _, direction: note if direction is Direction.FROM_BROKER else None
        idle = client(proxy.url(url), 1, patience)
        busy = client(proxy.url(url), 1, patience)
        for holder, body in ((patient, b"patient"), (busy, b"busy")):
            channel = holder.channel()
            WORK.declare(channel)
            channel.basic_publish("", "work", body)
            channel.basic_get("work")
        idle.channel().basic_consume(
            "work", lambda _channel, method, _properties, body: received.append((body, method.redelivered))
        )

        idle_error = serve_until(idle, lambda: received, 6 * patience)
        busy_error = serve_until(busy, never, patience) if received else None
        patient_error = serve_until(patient, never, 0.1)
        with suppress(exceptions.AMQPError):
            idle.close()
    return Silence(received, len(heartbeats), idle_error, busy_error, patient_error)


class closing_quietly(closing):  # noqa: N801
    """As `contextlib.closing`, also of a connection that has ended already."""

    def __exit__(self, *_):
        with suppress(exceptions.AMQPError):
            self.thing.close()


def settled(future, promise, within):
    """The same future, which is done by then; a broker that breaks the promise may leave it pending for ever."""
    assert wait([future], within).done, f"{promise}: not within {within} s"
    return future


def publish_until(enough, under_way, publisher, name):
    """Publishes numbered messages until it is enough; returns their futures by body, and the first 150 ahead."""
    futures = {}
    while not enough.is_set():
        body = f"{name} {len(futures)}".encode()
        futures[body] = publisher.publish("", "work", body)
        if len(futures) == 150:
            under_way.set_result(dict(futures))
    return futures


class Killed(NamedTuple):
    """What two publishers and a consumer saw of a broker that was killed and started again.

    Attributes:
        unknown: Of the publisher without `resend`: the type of each message's error, by body; NoneType is confirmed.
        resent: Of the publisher with `resend`, likewise.
        received: By the consumer: body and redelivered of each delivery. It was handling the hundredth at the kill.
    """

    unknown: dict
    resent: dict
    received: list


def killed_at_work(broker, url, patience):
    """Kills the broker, and starts it again, while two publishers and a consumer are at work."""
    received = []
    hundredth = Future()
    back = threading.Event()
    enough = threading.Event()
    under_way = (Future(), Future())
    soon = 2 * patience

    def handle(delivery):
        received.append((delivery.body, delivery.redelivered))
        if len(received) == 100:
            hundredth.set_result(delivery.body)
            back.wait()  # the broker dies before this message is acked
        if delivery.body == b"end":
            consumer.stop()
        return Outcome.ACK

    def stop():
        back.set()
        enough.set()
        consumer.stop()

    with proxy_before(url) as proxy, ThreadPoolExecutor() as pool, ExitStack() as at_the_end:
        source = Settings(urls=(proxy.url(url),), answer_timeout=soon, max_backoff=0.5)
        with client(source.urls[0], patience=soon) as connection:
            WORK.declare(connection.channel())
        broker.restart()  # killed within a second of a declaration, 3.10 now and then forgets the queue
        consumer = Consumer(source, "work", handle, prefetch=WINDOW, topology=WORK)
        consuming = pool.submit(consumer.run)
        at_the_end.callback(stop)
        proxy.delay(0.1)  # so that confirms are mostly on their way
        unknown = Publisher(source, "unknown", window=WINDOW)
        at_the_end.callback(unknown.close, 0)
        resent = Publisher(source, "resent", window=WINDOW, resend=True)
        at_the_end.callback(resent.close, 0)
        runs = [
            pool.submit(publish_until, enough, first, publisher, name)
            for first, publisher, name in zip(under_way, (unknown, resent), ("unknown", "resent"), strict=True)
        ]
        first = {}
        for futures in under_way:
            first |= settled(futures, "150 messages are on their way", soon).result()
        assert settled(hundredth, "the hundredth message is delivered", soon).result() in first
        for body, future in first.items():
            settled(future, f"{body} has an outcome", soon)

        broker.kill()
        broker.start()
        back.set()
        enough.set()

        futures = [settled(run, "the publisher has come to its end", soon).result() for run in runs]
        flushed = [publisher.flush(soon) for publisher in (unknown, resent)]
        assert flushed == [True, True], "each message has an outcome"
        settled(unknown.publish("", "work", b"end"), "the end has an outcome", soon)
        settled(consuming, "the consumer has received the end", soon).result()
        ends = [{body: type(future.exception(0)) for body, future in each.items()} for each in futures]
    return Killed(ends[0], ends[1], received)
