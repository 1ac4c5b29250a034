"""Consuming with an ack for each message, by our consumer and by its peers: the seconds for so many messages."""

import asyncio
import itertools
import threading
import time

import pika
from publishing import QUEUE

from rmqspec.client import Consumer, Outcome

PREFETCHES = {1: 0.1, 100: 0.5, 1_000: 0.5}  # and which part of all messages is consumed so


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


PEERS = {
    "rmqspec": (consume_rmqspec, 1),
    "pika blocking": (consume_pika_blocking, 1),
    "aio-pika": (consume_aio_pika, 1),
    "kombu": (consume_kombu, 1),
}
