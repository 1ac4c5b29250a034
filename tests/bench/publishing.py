"""Confirmed publishing, by our publisher and by its peers: each returns the seconds for so many messages."""

import asyncio
import functools
import itertools
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pika

from rmqspec.client import Publisher

QUEUE, WINDOW = "bench", 1_000
SIZES = {100: 1, 1_000: 1, 64_000: 0.03}  # bytes of a body, and which part of all messages has so many
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
    answer = subprocess.run([compiled(), *map(str, arguments)], capture_output=True, text=True, check=True)
    return float(answer.stdout)


@functools.cache
def compiled():
    """The C client's program, or None where it cannot be made: it needs a compiler and librabbitmq."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = Path(tempfile.mkdtemp(prefix="rmqspec-bench-")) / "confirmed_publish"
    source = Path(__file__).with_name("confirmed_publish.c")
    made = subprocess.run([compiler, "-O2", "-o", program, source, "-lrabbitmq"], capture_output=True, check=False)
    return str(program) if made.returncode == 0 else None


# Each with the part of the messages that it gets: the slow ones need not take minutes.
PEERS = {
    "rmqspec": (publish_rmqspec, 1),
    "librabbitmq (C)": (publish_c, 1),
    "pika select, pipelined": (publish_pika_select, 1),
    "aio-pika, gathered": (publish_aio_pika, 0.25),
    "kombu": (publish_kombu, 0.05),
    "pika blocking": (publish_pika_blocking, 0.05),
}
