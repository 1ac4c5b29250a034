"""What the wire proxy costs: the round trip and the pipelined publish, direct, through it, and noted by a recorder.

Seconds depend on the machine; what can be compared is the difference in a row, and the ratio in it. The three ways
are measured in turn, so that what disturbs the machine disturbs them alike.

usage: python tests/bench/wire.py [--rounds N] [--messages N]
On the broker of RABBITMQ_URL, or on one that is found.
"""

import argparse
import os
import statistics
import time
from contextlib import ExitStack, closing

from rmqspec.client import Publisher, connect
from rmqspec.tools.broker import Choice, find
from rmqspec.tools.wire import Proxy
from rmqspec.tools.wire.recorder import Recorder

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


def publish_rate(url, size, count, connections=1):
    """Confirmed messages per second, of all connections together."""
    body = b"x" * size
    with ExitStack() as stack:
        publishers = [stack.enter_context(Publisher(url)) for _ in range(connections)]
        for publisher in publishers:
            publisher.publish("", QUEUE, body).result()
        begin = time.perf_counter()
        for number in range(count):
            publishers[number % connections].publish("", QUEUE, body)
        for publisher in publishers:
            publisher.flush()
        return count / (time.perf_counter() - begin)


def in_turn(measure, urls, rounds):
    """The medians of some rounds, one for each URL."""
    found = [[measure(url) for url in urls] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def run(channel, urls, rounds, messages):
    channel.queue_declare(QUEUE, durable=True)
    direct, proxied, noted = in_turn(round_trip, urls, rounds)
    print(f"{'':<34}{'direct':>11}{'by proxy':>20}{'noted':>20}")
    trips = "".join(f"{at * 1e3:9.3f} ms (+{(at - direct) * 1e3:.3f})" for at in (proxied, noted))
    print(f"{'round trip':<34}{direct * 1e3:8.3f} ms {trips}")
    for size, connections in ((100, 1), (1_000, 1), (64_000, 1), (100, 20)):
        count = max(200, int(messages * min(1, 2_000 / size)))
        rates = in_turn(lambda url, s=size, n=count, c=connections: publish_rate(url, s, n, c), urls, rounds)
        channel.queue_purge(QUEUE)
        what = f"publish {size:,} bytes, {connections} connection(s)"
        print(f"{what:<34}{rates[0]:8,.0f} /s" + "".join(f"{at:11,.0f} /s ({at / rates[0]:.2f})" for at in rates[1:]))


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
            Proxy(broker.endpoint.host, broker.endpoint.port) as noting,
            closing(connect(direct, "bench")) as connection,
        ):
            noting.taps = Recorder().tap
            channel = connection.channel()
            run(channel, (direct, proxy.url(direct), noting.url(direct)), options.rounds, options.messages)
            channel.queue_delete(QUEUE)
    finally:
        broker.close()


if __name__ == "__main__":
    main()
