"""How fast the clients are, beside their peers: one broker, one message, medians of rounds in turn.

Seconds depend on the machine; what can be compared is a column, and the ratio to rmqspec in it. Peers that are not
installed are left out (`pip install -e '.[bench]'` brings them; the C client needs a compiler and librabbitmq).

usage: python tests/bench/clients.py [--rounds N] [--messages N] [--json FILE]
On the broker of RABBITMQ_URL, or on one that is found.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pika

from rmqspec.broker import Choice, find
from rmqspec.client import Consumer, Outcome, Publisher, RpcClient, RpcServer

QUEUE, WINDOW = "bench", 1_000
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def publish_rmqspec(url, body, count):
    with Publisher(url, window=WINDOW) as publisher:
        begin = time.perf_counter()
        for _ in range(count):
            publisher.publish("", QUEUE, body, PERSISTENT)
        publisher.flush()
        return time.perf_counter() - begin


def publish_pika_blocking(url, body, count):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    begin = time.perf_counter()
    for _ in range(count):
        channel.basic_publish("", QUEUE, body, PERSISTENT, mandatory=True)
    seconds = time.perf_counter() - begin
    connection.close()
    return seconds


def publish_pika_select(url, body, count):
    numbers, state = itertools.count(), {"sent": 0, "confirmed": 0}

    def more():
        while state["sent"] < count and state["sent"] - state["confirmed"] < WINDOW:
            state["channel"].basic_publish("", QUEUE, body, PERSISTENT, mandatory=True)
            state["sent"] = next(numbers) + 1

    def confirmed(frame):
        state["confirmed"] = max(state["confirmed"], frame.method.delivery_tag)
        if state["confirmed"] < count:
            more()
        else:
            state["end"] = time.perf_counter()
            connection.close()

    def opened(channel):
        channel.confirm_delivery(confirmed)
        state.update(channel=channel, begin=time.perf_counter())
        more()

    connection = pika.SelectConnection(
        pika.URLParameters(url),
        on_open_callback=lambda connection: connection.channel(on_open_callback=opened),
        on_close_callback=lambda connection, _: connection.ioloop.stop(),
    )
    connection.ioloop.start()
    return state["end"] - state["begin"]


def publish_aio_pika(url, body, count):
    import aio_pika

    async def run():
        connection = await aio_pika.connect(url)
        channel = await connection.channel(publisher_confirms=True)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        begin = time.perf_counter()
        for start in range(0, count, WINDOW):
            sends = (channel.default_exchange.publish(message, QUEUE) for _ in range(min(WINDOW, count - start)))
            await asyncio.gather(*sends)
        seconds = time.perf_counter() - begin
        await connection.close()
        return seconds

    return asyncio.run(run())


def publish_kombu(url, body, count):
    import kombu

    with kombu.Connection(url, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer()
        begin = time.perf_counter()
        for _ in range(count):
            producer.publish(body, routing_key=QUEUE, delivery_mode=2, content_type="x", content_encoding="binary")
        return time.perf_counter() - begin


def publish_c(url, body, count):
    at = urlsplit(url)
    arguments = [at.hostname, at.port, unquote(at.username), unquote(at.password), QUEUE, count, len(body), WINDOW]
    answer = subprocess.run([publish_c.program, *map(str, arguments)], capture_output=True, text=True, check=True)
    return float(answer.stdout)


def consume_rmqspec(url, prefetch, count):
    left = itertools.count(1)

    def handler(_):
        if next(left) == count:
            consumer.stop()
        return Outcome.ACK

    consumer = Consumer(url, QUEUE, handler, prefetch=prefetch)
    begin = time.perf_counter()
    consumer.run()
    return time.perf_counter() - begin


def consume_pika_blocking(url, prefetch, count):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel, left = connection.channel(), itertools.count(1)

    def handler(channel, method, _properties, _body):
        channel.basic_ack(method.delivery_tag)
        if next(left) == count:
            channel.stop_consuming()

    channel.basic_qos(prefetch_count=prefetch)
    begin = time.perf_counter()
    channel.basic_consume(QUEUE, handler)
    channel.start_consuming()
    seconds = time.perf_counter() - begin
    connection.close()
    return seconds


def consume_aio_pika(url, prefetch, count):
    import aio_pika

    async def run():
        connection = await aio_pika.connect(url)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=prefetch)
        queue, done, left = await channel.get_queue(QUEUE), asyncio.Event(), itertools.count(1)

        async def handler(message):
            await message.ack()
            if next(left) == count:
                done.set()

        begin = time.perf_counter()
        await queue.consume(handler)
        await done.wait()
        seconds = time.perf_counter() - begin
        await connection.close()
        return seconds

    return asyncio.run(run())


def consume_kombu(url, prefetch, count):
    import kombu

    left = itertools.count(1)
    done = threading.Event()

    def handler(_body, message):
        message.ack()
        if next(left) == count:
            done.set()

    with kombu.Connection(url) as connection:
        queue = kombu.Queue(QUEUE, durable=True, no_declare=True)
        begin = time.perf_counter()
        with connection.Consumer([queue], callbacks=[handler], prefetch_count=prefetch, accept=["application/data"]):
            while not done.is_set():
                connection.drain_events(timeout=30)
        return time.perf_counter() - begin


def call_rmqspec(url, count):
    with RpcClient(url) as client:
        client.call("bench.rpc", b"x")
        begin = time.perf_counter()
        for _ in range(count):
            client.call("bench.rpc", b"x")
        return time.perf_counter() - begin


def call_rmqspec_by_50(url, count):
    with RpcClient(url) as client, ThreadPoolExecutor(50) as pool:
        client.call("bench.rpc", b"x")
        begin = time.perf_counter()
        list(pool.map(lambda _: client.call("bench.rpc", b"x"), range(count)))
        return time.perf_counter() - begin


def call_tutorial(url, count):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel, replies = connection.channel(), []
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_consume(queue, lambda *delivery: replies.append(delivery[3]), auto_ack=True)

    def call(number):
        replies.clear()
        properties = pika.BasicProperties(reply_to=queue, correlation_id=str(number))
        channel.basic_publish("", "bench.rpc", b"x", properties)
        while not replies:
            connection.process_data_events(time_limit=None)

    call(0)
    begin = time.perf_counter()
    for number in range(count):
        call(number)
    seconds = time.perf_counter() - begin
    connection.close()
    return seconds


def serve(url):
    RpcServer(url, "bench.rpc", lambda request: request, prefetch=100).run()


def compiled():
    """The C client, or None where it cannot be made."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = Path(tempfile.mkdtemp(prefix="rmqspec-bench-")) / "confirmed_publish"
    source = Path(__file__).with_name("confirmed_publish.c")
    made = subprocess.run([compiler, "-O2", "-o", program, source, "-lrabbitmq"], capture_output=True, check=False)
    return str(program) if made.returncode == 0 else None


def rates(peers, rounds, count, prepare, arguments):
    """The median rate of each peer over rounds in turn, so that what disturbs the machine disturbs them alike."""
    found = {name: [] for name in peers}
    for _ in range(rounds):
        for name, (peer, part) in peers.items():
            prepare()
            messages = max(50, int(count * part))
            try:
                found[name].append(messages / peer(*arguments, messages))
            except ImportError:
                continue
    return {name: statistics.median(values) for name, values in found.items() if values}


def table(title, rates_by_name):
    print(f"\n{title}")
    ours = rates_by_name["rmqspec"]
    for name, rate in rates_by_name.items():
        print(f"  {name:<24}{rate:>10,.0f} /s   rmqspec is {ours / rate:6.2f} times that")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    broker = find(Choice.settle({}, os.environ), print)
    try:
        figures = run(broker.endpoint.url(), options.rounds, options.messages)
    finally:
        broker.close()
    figures["broker"] = str(broker.identity)
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures))


def run(url, rounds, messages):
    connection = pika.BlockingConnection(pika.URLParameters(url + "?heartbeat=0"))
    channel = connection.channel()
    for queue in (QUEUE, "bench.rpc"):
        channel.queue_declare(queue, durable=True)
    publish_c.program = compiled()
    # Each with the part of the messages that it gets: the slow ones need not take minutes.
    publishers = {
        "rmqspec": (publish_rmqspec, 1),
        "librabbitmq (C)": (publish_c, 1),
        "pika select, pipelined": (publish_pika_select, 1),
        "aio-pika, gathered": (publish_aio_pika, 0.25),
        "kombu": (publish_kombu, 0.05),
        "pika blocking": (publish_pika_blocking, 0.05),
    }
    if publish_c.program is None:
        del publishers["librabbitmq (C)"]
    figures = {}

    def purge():
        channel.queue_purge(QUEUE)

    def fill(count):
        purge()
        publish_rmqspec(url, b"x" * 100, count)

    for size in (100, 1_000, 64_000):
        title = f"confirmed publish, {size:,} bytes"
        part = max(0.02, min(1, 2_000 / size))
        figures[title] = rates(publishers, rounds, messages * part, purge, (url, b"x" * size))
        table(title, figures[title])
    for prefetch in (1, 100, 1_000):
        title, count = f"consume and ack, prefetch {prefetch:,}", messages // (10 if prefetch == 1 else 2)
        consumers = {"rmqspec": consume_rmqspec, "pika blocking": consume_pika_blocking}
        consumers |= {"aio-pika": consume_aio_pika, "kombu": consume_kombu}
        peers = {name: (peer, 1) for name, peer in consumers.items()}
        figures[title] = rates(peers, rounds, count, lambda count=count: fill(count), (url, prefetch))
        table(title, figures[title])
    # In a process of its own, as in life: caller and server would otherwise share one interpreter.
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(url,))
    server.start()
    callers = {
        "rmqspec": call_rmqspec,
        "rmqspec, 50 callers": call_rmqspec_by_50,
        "pika, as in the tutorial": call_tutorial,
    }
    title = "calls"
    figures[title] = rates({name: (peer, 1) for name, peer in callers.items()}, rounds, messages // 20, purge, (url,))
    table(title, figures[title])
    server.terminate()
    server.join()
    connection.close()
    return figures


if __name__ == "__main__":
    main()
