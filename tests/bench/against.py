"""Whether rmqspec has become slower: the clients of this checkout beside those of another one, in turn.

Each row is measured in rounds, and in each round both have their turn, the one right after the other and each as often
first: what disturbs the machine disturbs them alike. It ends with 1 if a ratio is lower than is wanted.

usage: git worktree add ../before COMMIT
       python tests/bench/against.py ../before [--rounds N] [--messages N] [--least RATIO]
On the broker of RABBITMQ_URL, or on one that is found.
"""

import argparse
import contextlib
import importlib
import multiprocessing
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import calling
import consuming
import pika
import publishing

from rmqspec.tools.broker import Choice, find

HERE = Path(__file__).parents[2]
DRIVERS = ("publishing", "consuming", "calling")


def take(root):
    """In a process of its own: has the drivers use the rmqspec of this checkout, and calls a queue of its own."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("rmqspec", *DRIVERS):
            del sys.modules[name]
    sys.path.insert(0, str(root))
    assert Path(importlib.import_module("rmqspec").__file__).is_relative_to(root)
    importlib.import_module("calling").RPC_QUEUE = queue_of(root)


def queue_of(root):
    return f"bench.rpc of {root}"[-255:]


def seconds(module, driver, arguments):
    return getattr(importlib.import_module(module), driver)(*arguments)


def serve(root, url):
    take(root)
    seconds("calling", "serve_rmqspec", (url,))


@contextlib.contextmanager
def workers(roots, url):
    """A process for each checkout, and one for the server that it calls."""
    spawn = multiprocessing.get_context("spawn")
    servers = {root: spawn.Process(target=serve, args=(root, url), daemon=True) for root in roots}
    with contextlib.ExitStack() as stack:
        for root, server in servers.items():
            server.start()
            stack.callback(server.terminate)
            calling.wait_for_consumer(url, queue_of(root), server)
        yield {
            root: stack.enter_context(ProcessPoolExecutor(1, spawn, initializer=take, initargs=(root,)))
            for root in roots
        }


class Comparison:
    """What is measured.

    Args:
        roots: The two checkouts.
        url: The broker's.
        messages: How many, where they are fastest.
    """

    def __init__(self, roots, url, messages):
        self.roots, self.url, self.messages = roots, url, messages
        self.connection = pika.BlockingConnection(pika.URLParameters(url + "?heartbeat=0"))
        self.channel = self.connection.channel()
        self.channel.queue_declare(publishing.QUEUE, durable=True)

    def rows(self):
        """Title, module, driver, which part of the messages, other arguments, and whether the queue is filled first."""
        for size, part in publishing.SIZES.items():
            yield f"confirmed publish, {size:,} bytes", "publishing", "publish_rmqspec", part, (b"x" * size,), False
        for prefetch, part in consuming.PREFETCHES.items():
            title = f"consume and ack, prefetch {prefetch:,}"
            yield title, "consuming", "consume_rmqspec", part, (prefetch,), True
        yield "calls", "calling", "call_rmqspec", 0.05, (), False
        yield "calls, 50 callers", "calling", "call_rmqspec_by_50", 0.2, (), False

    def rates(self, row, processes, rounds):
        """The median rate of each checkout."""
        _, module, driver, part, between, filled = row
        count = max(50, int(self.messages * part) // 50 * 50)
        rates = {root: [] for root in processes}
        for number in range(rounds):
            for root in (list(processes), list(processes)[::-1])[number % 2]:
                self.channel.queue_purge(publishing.QUEUE)
                if filled:
                    publishing.publish_rmqspec(self.url, b"x" * 100, count)
                took = processes[root].submit(seconds, module, driver, (self.url, *between, count)).result()
                rates[root].append(count / took)
        return [statistics.median(rates[root]) for root in processes]

    def close(self):
        for queue in (publishing.QUEUE, *map(queue_of, self.roots)):
            self.channel.queue_delete(queue)
        self.connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="where another commit is checked out")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--least", type=float, default=0.95, help="the ratio that no row may be under")
    options = parser.parse_args()
    roots = [HERE, options.checkout.resolve()]
    if roots[1] == HERE or not (roots[1] / "rmqspec").is_dir():
        parser.error(f"{options.checkout} is no other checkout of rmqspec: make one with git worktree add")
    broker = find(Choice.settle({}, os.environ), print)
    url, slower = broker.endpoint.url(), 0
    try:
        comparison = Comparison(roots, url, options.messages)
        with contextlib.closing(comparison), workers(roots, url) as processes:
            for row in comparison.rows():
                ours, theirs = comparison.rates(row, processes, options.rounds)
                slower += ours / theirs < options.least
                print(f"  {row[0]:<32}{ours:>10,.0f} /s {theirs:>10,.0f} /s {ours / theirs:6.2f}", flush=True)
    finally:
        broker.close()
    print(f"{slower} of the 8 rows are under {options.least:g} of {options.checkout}")
    sys.exit(slower > 0)


if __name__ == "__main__":
    main()
