"""What grows, and what does not: memory before a blocked broker, threads of one publisher, the depth of a queue.

usage: python tests/bench/growth.py [--smoke] [--json FILE]
On a broker of its own: it is blocked on the way.
"""

import argparse
import contextlib
import json
import os
import threading
import time
from pathlib import Path

import pika
import psutil

from rmqspec.client import Consumer, Outcome, Publisher
from rmqspec.client.errors import WindowFull
from rmqspec.tools.broker import Choice, find

QUEUE = "growth"
PERSISTENT = pika.BasicProperties(delivery_mode=2)
BODY = b"x" * 100


def memory_while_blocked(broker, seconds):
    """Bytes by which this process has grown in each second of publishing to a broker that takes nothing."""
    process, grown = psutil.Process(), []
    stop = threading.Event()

    def produce(publisher):
        while not stop.is_set():
            with contextlib.suppress(WindowFull):
                publisher.publish("", QUEUE, BODY * 100, PERSISTENT)

    publisher = Publisher(broker.endpoint.url(), patience=0.2)
    publisher.publish("", QUEUE, BODY, PERSISTENT).result()
    broker.control("set_vm_memory_high_watermark", "absolute", "1")
    producers = [threading.Thread(target=produce, args=(publisher,)) for _ in range(4)]
    for producer in producers:
        producer.start()
    before = process.memory_info().rss
    for _ in range(seconds):
        time.sleep(1)
        grown.append(process.memory_info().rss - before)
    stop.set()
    for producer in producers:
        producer.join()
    broker.control("set_vm_memory_high_watermark", "0.6")
    publisher.close()
    return grown


def rate_with_threads(url, threads, messages):
    """Confirmed messages in a second, from so many threads with one publisher."""
    with Publisher(url) as publisher:

        def produce():
            for _ in range(messages // threads):
                publisher.publish("", QUEUE, BODY, PERSISTENT)

        producers = [threading.Thread(target=produce) for _ in range(threads)]
        begin = time.perf_counter()
        for producer in producers:
            producer.start()
        for producer in producers:
            producer.join()
        publisher.flush()
        return messages // threads * threads / (time.perf_counter() - begin)


def rates_at_depth(url, channel, depth, messages):
    """Messages in a second, published to and consumed from a queue that has so many waiting."""
    missing = depth - channel.queue_declare(QUEUE, passive=True).method.message_count
    if missing > 0:
        rate_with_threads(url, 1, missing)
    published, left = rate_with_threads(url, 1, messages), iter(range(1, messages))

    def handler(_):
        if next(left, None) is None:
            consumer.stop()
        return Outcome.ACK

    consumer = Consumer(url, QUEUE, handler, prefetch=100)
    begin = time.perf_counter()
    consumer.run()
    return {"published": round(published), "consumed": round(messages / (time.perf_counter() - begin))}


def run(broker, smoke):
    url = broker.endpoint.url()
    messages = 1_000 if smoke else 20_000
    connection = pika.BlockingConnection(pika.URLParameters(url + "?heartbeat=0"))
    channel = connection.channel()
    channel.queue_declare(QUEUE, durable=True)
    figures = {"broker": str(broker.identity)}

    figures["rate by threads"] = {n: round(rate_with_threads(url, n, messages)) for n in (1, 8, 64)}
    for threads, rate in figures["rate by threads"].items():
        print(f"{threads:>9,} threads of one publisher   {rate:>8,} /s", flush=True)
    channel.queue_purge(QUEUE)

    figures["rates by depth"] = {}
    for depth in (1, 1_000) if smoke else (1, 1_000, 100_000, 1_000_000):
        figures["rates by depth"][depth] = rates = rates_at_depth(url, channel, depth, messages)
        print(
            f"{depth:>9,} waiting   published {rates['published']:>8,} /s   consumed {rates['consumed']:>8,} /s",
            flush=True,
        )
    channel.queue_purge(QUEUE)

    figures["growth while blocked"] = grown = memory_while_blocked(broker, 2 if smoke else 20)
    for second, size in list(enumerate(grown, 1))[:: 1 if smoke else 4]:
        print(f"{second:>9} s blocked   {size / 1e6:>8.1f} MB more", flush=True)
    connection.close()
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="whether it runs, not how it grows")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    broker = find(Choice.settle({}, os.environ), print)
    try:
        figures = run(broker, options.smoke)
    finally:
        broker.close()
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
