"""How fast the clients are, beside their peers: one broker, one message, medians of rounds in turn.

Each peer works in a process of its own, as programs do: what another has imported or left behind is not its burden.
Seconds depend on the machine; what can be compared is a column, and the ratio to rmqspec in it. Peers that are not
installed are left out (`pip install -e '.[bench]'` brings them; the C client needs a compiler and librabbitmq).

usage: python tests/bench/clients.py [--rounds N] [--messages N] [--smoke] [--json FILE]
On the broker of RABBITMQ_URL, or on one that is found.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import calling
import consuming
import pika
import publishing

from rmqspec.tools.broker import Choice, find


def rates(peers, rounds, count, prepare, arguments):
    """The median rate of each peer over rounds in turn, so that what disturbs the machine disturbs them alike."""
    found = {name: [] for name in peers}
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(process_of_its_own()) for name in peers}
        for _ in range(rounds):
            for name, (peer, part) in peers.items():
                messages = max(50, int(count * part) // 50 * 50)
                prepare(messages)
                try:
                    found[name].append(messages / processes[name].submit(peer, *arguments, messages).result())
                except ImportError:
                    continue
    return {name: round(statistics.median(values), 1) for name, values in found.items() if values}


def process_of_its_own():
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def table(title, rates_by_name):
    print(f"\n{title}")
    ours = rates_by_name["rmqspec"]
    for name, rate in rates_by_name.items():
        print(f"  {name:<26}{rate:>10,.0f} /s   rmqspec is {ours / rate:6.2f} times that", flush=True)


class Bench:
    """The figures of one broker.

    Args:
        url: The broker's.
        rounds: How often each peer has its turn.
        messages: How many, for the fastest.
    """

    def __init__(self, url, rounds, messages):
        self.url, self.rounds, self.messages, self.figures = url, rounds, messages, {}
        self.connection = pika.BlockingConnection(pika.URLParameters(url + "?heartbeat=0"))
        self.channel = self.connection.channel()
        self.channel.queue_declare(publishing.QUEUE, durable=True)

    def run(self):
        self.publish()
        self.consume()
        self.call()
        self.channel.queue_delete(publishing.QUEUE)
        self.connection.close()
        return self.figures

    def publish(self):
        peers = {name: peer for name, peer in publishing.PEERS.items() if "(C)" not in name or publishing.compiled()}
        for size, part in publishing.SIZES.items():
            self.note(
                f"confirmed publish, {size:,} bytes", peers, self.messages * part, self.purge, (self.url, b"x" * size)
            )

    def consume(self):
        for prefetch, part in consuming.PREFETCHES.items():
            title, count = f"consume and ack, prefetch {prefetch:,}", int(self.messages * part)
            self.note(title, consuming.PEERS, count, self.fill, (self.url, prefetch))

    def call(self):
        with calling.servers(self.url):
            self.note("calls", calling.PEERS, self.messages // 20, self.purge, (self.url,))

    def note(self, title, peers, count, prepare, arguments):
        self.figures[title] = rates(peers, self.rounds, count, prepare, arguments)
        table(title, self.figures[title])

    def purge(self, _=0):
        self.channel.queue_purge(publishing.QUEUE)

    def fill(self, count):
        self.purge()
        publishing.publish_rmqspec(self.url, b"x" * 100, count)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--smoke", action="store_true", help="one short round: whether it runs, not how fast it is")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds, messages = (1, 500) if options.smoke else (options.rounds, options.messages)
    broker = find(Choice.settle({}, os.environ), print)
    try:
        figures = {"broker": str(broker.identity), **Bench(broker.endpoint.url(), rounds, messages).run()}
    finally:
        broker.close()
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
