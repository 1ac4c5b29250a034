"""What the wire proxy costs: the round trip and the pipelined publish, direct and through it, in one run.

Seconds depend on the machine; what can be compared is the difference in a row, and the ratio in it. Both ends of the
comparison are measured in turn, so that what disturbs the machine disturbs them alike.

usage: python tests/bench/wire.py [--rounds N] [--messages N]
On the broker of RABBITMQ_URL, or on one that is found.
"""

import argparse
import os
import statistics
import time
from contextlib import closing

from rmqspec.broker import Choice, find
from rmqspec.client import Publisher, connect
from rmqspec.wire import Proxy

QUEUE, TRIPS = "bench.wire", 300


def round_trip(url):
    """Seconds of one passive declare, the median of some."""
    with closing(connect(url, "bench")) as connection:
        channel = connection.channel()
        seconds = []
        for _ in range(TRIPS):
            begin = time.perf_counter()
            channel.queue_declare(QUEUE, passive=True)
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def publish_rate(url, size, count):
    """Confirmed messages per second."""
    body = b"x" * size
    with Publisher(url) as publisher:
        begin = time.perf_counter()
        for _ in range(count):
            publisher.publish("", QUEUE, body)
        publisher.flush()
        return count / (time.perf_counter() - begin)


def in_turn(measure, urls, rounds):
    """The medians of some rounds, one for each URL."""
    found = [[measure(url) for url in urls] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def run(channel, urls, rounds, messages):
    channel.queue_declare(QUEUE, durable=True)
    direct, proxied = in_turn(round_trip, urls, rounds)
    added = (proxied - direct) * 1e3
    print(f"round trip         {direct * 1e3:9.3f} ms direct {proxied * 1e3:9.3f} ms by proxy, {added:.3f} ms more")
    for size in (100, 1_000, 64_000):
        count = max(200, int(messages * min(1, 2_000 / size)))
        direct, proxied = in_turn(lambda url, s=size, n=count: publish_rate(url, s, n), urls, rounds)
        ratio = proxied / direct
        channel.queue_purge(QUEUE)
        print(f"publish {size:>6,} bytes {direct:8,.0f} /s direct {proxied:9,.0f} /s by proxy, {ratio:.2f} of it")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=10_000)
    options = parser.parse_args()
    broker = find(Choice.settle({}, os.environ), print)
    try:
        direct = broker.endpoint.url()
        with (
            Proxy(broker.endpoint.host, broker.endpoint.port) as proxy,
            closing(connect(direct, "bench")) as connection,
        ):
            channel = connection.channel()
            run(channel, (direct, proxy.url(direct)), options.rounds, options.messages)
            channel.queue_delete(QUEUE)
    finally:
        broker.close()


if __name__ == "__main__":
    main()
