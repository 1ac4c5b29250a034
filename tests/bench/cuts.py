"""Whether a consumer handles every message through hundreds of cuts of its connection, with handlers that take time.

For concurrency 1 and 8: messages are published all the while, handlers take 0 to 20 ms, and the connection is cut at
random moments. After each cut something must be handled within the bound, and in the end everything.

usage: python tests/bench/cuts.py [--cuts N] [--concurrency N …] [--seed N]
On the broker of RABBITMQ_URL, or on one that is found.
"""

import argparse
import logging
import os
import random
import threading
import time
from urllib.parse import urlsplit

from rmqspec.client import Consumer, Outcome, Publisher, Queue, Settings, Topology, connect
from rmqspec.tools.broker import Choice, find
from rmqspec.tools.wire import Proxy

QUEUE = "bench.cuts"
BOUND = 5.0  # seconds after a cut until something is handled again


class Cuts:
    """One consumer behind a proxy, one publisher beside it."""

    def __init__(self, url, concurrency, dice):
        self.url, self.concurrency, self.dice = url, concurrency, dice
        self.published, self.handled, self.deliveries = 0, set(), 0
        self.moved, self.stop = threading.Condition(), threading.Event()

    def run(self, cuts):
        topology = Topology(queues=(Queue(QUEUE),))
        connection = connect(self.url, "cuts")
        topology.declare(connection.channel())
        connection.channel().queue_purge(QUEUE)
        connection.close()
        address = urlsplit(self.url)
        with Proxy(address.hostname, address.port) as proxy:
            settings = Settings(urls=(proxy.url(self.url),), max_backoff=0.2)
            consumer = Consumer(
                settings, QUEUE, self.handle, prefetch=20, concurrency=self.concurrency, topology=topology
            )
            threads = [threading.Thread(target=consumer.run), threading.Thread(target=self.feed)]
            for thread in threads:
                thread.start()
            while not consumer.connected:  # at the first connection a loss is final
                time.sleep(0.01)
            longest = max(self.cut(proxy) for _ in range(cuts))
            self.stop.set()
            threads[1].join()
            with self.moved:
                self.moved.wait_for(lambda: len(self.handled) == self.published, 60)
            consumer.stop()
            threads[0].join()
        return longest

    def handle(self, delivery):
        time.sleep(self.dice.uniform(0, 0.02))
        with self.moved:
            self.handled.add(delivery.body)
            self.deliveries += 1
            self.moved.notify_all()
        return Outcome.ACK

    def feed(self):
        with Publisher(self.url) as publisher:
            while not self.stop.is_set():
                if self.published - len(self.handled) < 100:
                    publisher.publish("", QUEUE, b"%d" % self.published)
                    self.published += 1
                else:
                    time.sleep(0.002)

    def cut(self, proxy):
        """The seconds until something new was handled."""
        time.sleep(self.dice.uniform(0, 0.1))
        proxy.cut()
        begin, before = time.monotonic(), len(self.handled)
        with self.moved:
            moves = self.moved.wait_for(lambda: len(self.handled) > before + self.concurrency, BOUND)
        if not moves:
            print(f"STALLED: nothing was handled for {BOUND:g} s", flush=True)
        return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=500)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    broker = find(Choice.settle({}, os.environ), print)
    try:
        for concurrency in options.concurrency:
            cuts = Cuts(broker.endpoint.url(), concurrency, random.Random(options.seed))
            longest = cuts.run(options.cuts)
            print(
                f"concurrency {concurrency}: {options.cuts} cuts, {cuts.published} published, {len(cuts.handled)} "
                f"handled in {cuts.deliveries} deliveries; at most {longest:.2f} s until it moved again",
                flush=True,
            )
    finally:
        broker.close()


if __name__ == "__main__":
    main()
