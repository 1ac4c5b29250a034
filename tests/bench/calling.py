"""Remote calls, by our client and server and by their peers: the seconds for so many calls.

Each way has its own server, in a process of its own as in life: in one interpreter caller and server would wait for
each other.
"""

import asyncio
import contextlib
import multiprocessing
import threading
import time

import pika

from rmqspec.client import RpcClient, RpcServer, connect
from rmqspec.client.topology import Queue, Topology

CALLERS = 50
RPC_QUEUE = "bench.rpc"


def serve_rmqspec(url):
    queue = Topology(queues=(Queue(RPC_QUEUE),))
    RpcServer(url, RPC_QUEUE, lambda request: request, prefetch=100, topology=queue).run()


def call_rmqspec(url, count):
    with RpcClient(url) as client:
        client.call(RPC_QUEUE, b"x")
        begin = time.perf_counter()
        for _ in range(count):
            client.call(RPC_QUEUE, b"x")
        return time.perf_counter() - begin


def call_rmqspec_by_50(url, count):
    with RpcClient(url) as client:
        client.call(RPC_QUEUE, b"x")
        start = threading.Barrier(CALLERS + 1)

        def calls():
            start.wait()
            for _ in range(count // CALLERS):
                client.call(RPC_QUEUE, b"x")

        callers = [threading.Thread(target=calls) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        start.wait()
        begin = time.perf_counter()
        for caller in callers:
            caller.join()
        return time.perf_counter() - begin


def serve_tutorial(url):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare("bench.tutorial")
    channel.basic_qos(prefetch_count=1)

    def answer(channel, method, properties, body):
        reply = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", properties.reply_to, body, reply)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume("bench.tutorial", answer)
    channel.start_consuming()


def call_tutorial(url, count):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel, replies = connection.channel(), []
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_consume(queue, lambda *delivery: replies.append(delivery[3]), auto_ack=True)

    def call(number):
        replies.clear()
        properties = pika.BasicProperties(reply_to=queue, correlation_id=str(number))
        channel.basic_publish("", "bench.tutorial", b"x", properties)
        while not replies:
            connection.process_data_events(time_limit=None)

    call(0)
    begin = time.perf_counter()
    for number in range(count):
        call(number)
    seconds = time.perf_counter() - begin
    connection.close()
    return seconds


def serve_aio_pika(url):
    from aio_pika import connect as aio_connect
    from aio_pika.patterns import RPC

    async def run():
        connection = await aio_connect(url)
        channel = await connection.channel()
        rpc = await RPC.create(channel)

        async def echo(*, body):
            return body

        await rpc.register("bench.aio-pika", echo, auto_delete=True)
        await asyncio.Future()

    asyncio.run(run())


def call_aio_pika(url, count, callers=1):
    from aio_pika import connect as aio_connect
    from aio_pika.patterns import RPC

    async def run():
        connection = await aio_connect(url)
        rpc = await RPC.create(await connection.channel())

        async def calls():
            for _ in range(count // callers):
                await rpc.call("bench.aio-pika", kwargs={"body": b"x"})

        await rpc.call("bench.aio-pika", kwargs={"body": b"x"})
        begin = time.perf_counter()
        await asyncio.gather(*(calls() for _ in range(callers)))
        seconds = time.perf_counter() - begin
        await connection.close()
        return seconds

    return asyncio.run(run())


def call_aio_pika_by_50(url, count):
    return call_aio_pika(url, count, CALLERS)


PEERS = {
    "rmqspec": (call_rmqspec, 1),
    "pika, as in the tutorial": (call_tutorial, 1),
    "aio-pika": (call_aio_pika, 0.5),
    "rmqspec, 50 callers": (call_rmqspec_by_50, 4),
    "aio-pika, 50 callers": (call_aio_pika_by_50, 2),
}
SERVERS = {RPC_QUEUE: serve_rmqspec, "bench.tutorial": serve_tutorial, "bench.aio-pika": serve_aio_pika}


@contextlib.contextmanager
def servers(url):
    """Runs the three servers, and waits until each consumes."""
    processes = [multiprocessing.get_context("spawn").Process(target=serve, args=(url,)) for serve in SERVERS.values()]
    for process in processes:
        process.start()
    try:
        for queue, process in zip(SERVERS, processes, strict=True):
            wait_for_consumer(url, queue, process)
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def wait_for_consumer(url, queue, process):
    deadline = time.monotonic() + 20
    while process.is_alive() and time.monotonic() < deadline:
        with contextlib.closing(connect(url, "bench")) as connection, contextlib.suppress(pika.exceptions.AMQPError):
            if connection.channel().queue_declare(queue, passive=True).method.consumer_count:
                return
        time.sleep(0.05)
