"""What chapter 12 needs some seconds for, each once: silence on either side, and a broker that is killed at work."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from types import SimpleNamespace

import pika
from pika import exceptions, frame

from rmqspec.client import Connection, Consumer, Outcome, Publisher, Queue, Settings, Topology
from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.wire import Direction, Frames, Proxy

WORK, WINDOW = Topology(queues=(Queue("work"),)), 100


def client(url, heartbeat=0, patience=10):
    """A connection as pika's own: between two calls nobody serves it. A broker that does not answer is given up."""
    connection = Connection(pika.URLParameters(f"{url}?heartbeat={heartbeat}"))
    connection.patience = patience
    return connection


def before(url):
    """A proxy on the way that this URL goes."""
    at = Endpoint.parse(url)
    return Proxy(at.host, at.port)


def ready(channel):
    """How many messages wait for a consumer."""
    return channel.queue_declare("work", passive=True).method.message_count


def end_of(connection, within):
    """The error that ends a connection, once it has ended; None if it has not within so many seconds."""
    deadline = time.monotonic() + within
    try:
        while time.monotonic() < deadline:
            connection.process_data_events(1)
    except exceptions.AMQPError as error:
        return error
    return None


def silent_broker(url, within):
    """What a client of pika says in the end of a broker that has gone silent."""
    with before(url) as proxy:
        connection = client(proxy.url(url), 1)
        proxy.half_open()
        return end_of(connection, within)


def silent_clients(url, patience):
    """Three clients say nothing: one is idle, two are too busy for heartbeats, of which one has agreed on none."""
    beats, frames, came, within = [], Frames(), [], 6 * patience

    def note(data):
        beats.extend(piece for piece in frames.feed(data) if isinstance(piece.frame, frame.Heartbeat))
        return data

    with before(url) as proxy, closing(client(url, 0, patience)) as patient:
        proxy.taps = lambda _, direction: note if direction is Direction.FROM_BROKER else None
        idle, busy = client(proxy.url(url), 1, patience), client(url, 1, patience)
        for holder, body in ((busy, b"busy"), (patient, b"patient")):
            channel = holder.channel()
            WORK.declare(channel)
            channel.basic_publish("", "work", body)
            channel.basic_get("work")
        idle.channel().basic_consume("work", lambda *delivery: came.append(delivery[1:]))
        deadline = time.monotonic() + within
        while not came and time.monotonic() < deadline:
            idle.process_data_events(1)  # heartbeats are sent in here
        error = end_of(busy, within)
        held = ready(channel), patient.is_open
        idle.close()
    return SimpleNamespace(came=came, error=error, held=held, beats=len(beats))


def settled(future, promise, within):
    """What has become of it; a broker that breaks this promise may leave it open for ever."""
    assert wait([future], within).done, f"{promise}: not within {within} s"
    return future.result()


def publish_until(enough, under_way, publisher, name):
    """Publishes one number after the other, and hands over the first 150 promises; returns all of them, by body."""
    promises = {}
    while not enough.is_set():
        body = f"{name} {len(promises)}".encode()
        promises[body] = publisher.publish("", "work", body)
        if len(promises) == 150:
            under_way.set_result(dict(promises))
    return promises


def killed_at_work(broker, url, patience):
    """Two publishers and a consumer go on while their broker is killed and started again; what each of them saw."""
    seen, in_hand, back, enough, under_way = [], Future(), threading.Event(), threading.Event(), (Future(), Future())
    soon = 2 * patience

    def handle(delivery):
        seen.append((delivery.body, delivery.redelivered))
        if len(seen) == 100:
            in_hand.set_result(delivery.body)  # and it stays there while the broker dies
            back.wait()
        if delivery.body == b"end":
            consumer.stop()
        return Outcome.ACK

    with before(url) as proxy, ThreadPoolExecutor() as pool, ExitStack() as in_the_end:
        source = Settings(urls=(proxy.url(url),), answer_timeout=soon, max_backoff=0.5)
        with client(source.urls[0], patience=soon) as connection:
            WORK.declare(connection.channel())
        broker.restart()  # killed within a second of a declaration, 3.10 now and then forgets the queue
        consumer = Consumer(source, "work", handle, prefetch=WINDOW, topology=WORK)
        consuming = pool.submit(consumer.run)
        in_the_end.callback(lambda: (back.set(), enough.set(), consumer.stop()))
        proxy.delay(0.1)  # so that answers are mostly on their way
        told = Publisher(source, "told", window=WINDOW)
        in_the_end.callback(told.close, 0)
        resent = Publisher(source, "resent", window=WINDOW, resend=True)
        in_the_end.callback(resent.close, 0)
        runs = [
            pool.submit(publish_until, enough, promises, publisher, name)
            for promises, publisher, name in zip(under_way, (told, resent), ("told", "resent"), strict=True)
        ]
        first = [settled(promises, "150 messages are on their way", soon) for promises in under_way]
        assert settled(in_hand, "the hundredth message is handed out", soon) in first[0] | first[1]
        for body, promise in (first[0] | first[1]).items():
            settled(promise, f"{body} is confirmed", soon)
        broker.kill()
        broker.start()
        back.set(), enough.set()
        promises = [settled(run, "the publisher has come to its end", soon) for run in runs]
        flushed = [publisher.flush(soon) for publisher in (told, resent)]
        assert flushed == [True, True], "each message has its answer, whatever it is"
        settled(told.publish("", "work", b"end"), "the end is confirmed", soon)
        settled(consuming, "the consumer has seen the end", soon)
        ends = [{body: type(promise.exception(0)) for body, promise in each.items()} for each in promises]
    return SimpleNamespace(told=ends[0], resent=ends[1], seen=seen)
