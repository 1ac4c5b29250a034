"""What clients do in a simulated world, what befalls them meanwhile, and what must hold in the end."""

from hypothesis import strategies as st

from rmqspec.client import Consumer, Outcome, Publisher, RpcClient, Settings
from rmqspec.client.errors import CallFailed, CallTimedOut, PublishFailed

from .simulated_threads import World

LIMIT = 60.0  # seconds of the world, after the last fault, until all must have come to rest
worlds = st.builds(
    World,
    st.lists(st.tuples(st.integers(1, 120), st.integers(0, 5)), max_size=30),
    st.lists(st.integers(0, 5), max_size=30),
)
pauses = st.one_of(st.integers(0, 40), st.sampled_from([0, 300, 600]))  # milliseconds; the latter meet
kinds = st.sampled_from(["cut", "away", "back", "alarm", "channel", "cut at a wake-up", "away at a wake-up"])
faults = st.lists(st.tuples(pauses, kinds), max_size=5)


def suffer(world, broker, faults):
    """Faults, each some milliseconds after the last; after the last one the broker is well again."""

    def cut(away=False):
        broker.accepts = broker.accepts and not away
        broker.cut()

    strike = {
        "cut": cut,
        "away": lambda: cut(away=True),
        "back": lambda: setattr(broker, "accepts", True),
        "alarm": lambda: broker.block("" if broker.blocked else "low on memory"),
        "channel": lambda: broker.close_channel("calls"),
        "cut at a wake-up": lambda: setattr(broker, "on_wake", cut),
        "away at a wake-up": lambda: setattr(broker, "on_wake", lambda: cut(away=True)),
    }
    for milliseconds, fault in faults:
        world.pause(milliseconds / 1000)
        strike[fault]()
    world.pause(0.02)
    broker.accepts, broker.on_wake = True, None
    if broker.blocked:
        broker.block("")


def thread(world, target, *arguments):
    started = world.threading.Thread(target=target, args=arguments)
    started.start()
    return started


def working(world, work):
    """What has been handled, and a handler that takes these milliseconds, one after the other, and then none."""
    handled, milliseconds = set(), iter(work)

    def handler(delivery):
        world.pause(next(milliseconds, 0) / 1000)
        handled.add(delivery.body)
        return Outcome.ACK

    return handled, handler


def consume(simulate, world, faults, concurrency, work):
    """Bursts of two messages: each ends with one after which nobody else wakes the link."""
    handled, handler = working(world, work)

    def main(broker):
        queue = broker.new_queue("q")
        consumer = Consumer(Settings(), "q", handler, prefetch=2, concurrency=concurrency)
        running = thread(world, consumer.run)
        assert world.wait(lambda: consumer.connected, LIMIT)
        fate = thread(world, suffer, world, broker, faults)
        for burst in range(6):
            queue.extend(broker.message(b"%d-%d" % (burst, number)) for number in range(2))
            broker.deliver()
            assert world.wait(lambda: not queue and not broker.unacked(), LIMIT), f"stalled at {burst}"
            assert len(handled) == 2 * (burst + 1)
        fate.join()
        consumer.stop()
        running.join(LIMIT)
        assert not running.is_alive()

    simulate(world, main)


def stop(simulate, world, concurrency, work, moment, inside):
    """Stops a consumer in the middle of its work, of a broker that is well: what was handled does not come again.

    And no handler begins after it but one in each helper that had just looked; `inside`, the first handler stops it.
    """
    handled, work_at = working(world, work)
    begun, after, consumer = [], [], None

    def handler(delivery):
        begun.append(delivery.body)
        if inside and len(begun) == 1:
            consumer.stop()
            after.append(len(begun) + concurrency - 1)
        return work_at(delivery)

    def main(broker):
        nonlocal consumer
        queue = broker.new_queue("q")
        queue.extend(broker.message(b"%d" % number) for number in range(3))
        consumer = Consumer(Settings(), "q", handler, prefetch=3, concurrency=concurrency)
        running = thread(world, consumer.run)
        world.pause(moment / 1000)
        world.decide()
        if not inside:
            consumer.stop()
            after.append(len(begun) + concurrency)
        running.join(LIMIT)
        assert not running.is_alive()
        assert world.wait(lambda: not broker.loops, LIMIT)
        left = {body for _, body, _ in queue}
        assert left.isdisjoint(handled)
        assert len(begun) <= after[0]
        assert len(left) + len(handled) == 3

    world.postpone()
    simulate(world, main)


def call_too_large(simulate, world, faults, pauses, large):
    """As `call`; the requests of these numbers are larger than the broker takes."""
    call(simulate, world, faults, pauses, large)


def call(simulate, world, faults, pauses, large=()):
    """Three callers, of a server that answers at once and of one that never does; one does not wait for its calls."""
    timeout, ends = 0.5, []

    def main(broker):
        broker.new_queue("nobody answers")
        client = RpcClient(Settings(), "calls", timeout, window=9)

        def send(queue, question):
            begin = world.now
            future = client.send(queue, question)
            future.add_done_callback(lambda _: ends.append(world.now - begin))
            return future

        def caller(name, pause, waits):
            calls = []
            for number, queue in enumerate(("echo", "nobody answers", "echo"), 3 * name):
                question = b"%d" % number + bytes(broker.largest if number in large else 0)
                try:
                    calls.append((queue, question, send(queue, question)))
                except CallFailed as error:  # it is known by now what the broker takes
                    known = number in large and error.permanent
                    ends.append(0.0)
                    assert known
                else:
                    if waits:
                        calls[-1][-1].exception()
                world.pause(pause / 1000)
            for one in calls:
                judge(*one)

        def judge(queue, question, future):
            error, arrived = future.exception(), broker.published[question]
            refused = isinstance(error, CallFailed) and error.permanent
            assert arrived <= 1  # a server does no work twice
            if len(question) > broker.largest:
                assert (arrived, isinstance(error, CallFailed)) == (0, True)
                assert faults or refused
                return
            assert faults or not refused
            if queue == "echo":
                # The server answers at once, or its reply is lost with the connection, and that is known at once; but
                # what leaves again behind too large a request may wait for a channel through all faults.
                assert not isinstance(error, CallTimedOut) or (large and faults)
                assert (faults and error) or future.result() == question
            elif not isinstance(error, CallTimedOut):
                assert faults or (large and arrived)  # its reply is lost; what has not arrived leaves again

        fate = thread(world, suffer, world, broker, faults)
        callers = [thread(world, caller, name, pause, name) for name, pause in enumerate(pauses)]
        for each in callers:
            each.join(LIMIT)
            assert not each.is_alive()
        world.pause(timeout)  # callbacks run after whoever waits was told
        assert len(ends) == 9
        assert max(ends) <= timeout + 0.001
        fate.join()
        assert world.wait(lambda: client.connected, LIMIT)
        assert client.call("echo", b"well again") == b"well again"
        assert client.in_flight == 0
        client.close()

    simulate(world, main)


def publish(simulate, world, faults, resend, window):
    """Three publishers of pairs, each pair flushed."""
    futures = []

    def main(broker):
        broker.new_queue("q")
        publisher = Publisher(Settings(), window=window, patience=LIMIT, resend=resend)

        def caller(name):
            for number in range(3):
                futures.extend(publisher.publish("", "q", b"%s-%d-%d" % (name, number, n)) for n in range(2))
                assert publisher.flush(LIMIT)

        fate, callers = (
            thread(world, suffer, world, broker, faults),
            [thread(world, caller, name) for name in (b"a", b"b")],
        )
        for each in [*callers, fate]:
            each.join(LIMIT)
        publisher.close()
        assert len(futures) == 12
        for future in futures:
            assert future.done()
            error = future.exception(0)
            assert error is None or (isinstance(error, PublishFailed) and not resend)
            if error is None:
                assert broker.published[future.result(0).message.body] >= 1

    simulate(world, main)


def close(simulate, world, faults, away, moment):
    """Closes a publisher in the middle of it all, or of an outage."""
    futures = []

    def main(broker):
        broker.new_queue("q")
        publisher = Publisher(Settings(), window=3, patience=LIMIT)
        futures.extend(publisher.publish("", "q", b"%d" % number) for number in range(3))
        fate = thread(world, suffer, world, broker, [(0, "away"), (away * 1000, "back")] if away else faults)
        world.pause(moment / 1000 + away / 2)
        begin = world.now
        publisher.close(0.0)
        assert world.now - begin <= 2.0
        assert not publisher._link._thread.is_alive()
        assert all(future.done() for future in futures)
        fate.join()

    simulate(world, main)


CHECKS = {
    consume: {"faults": faults, "concurrency": st.integers(1, 3), "work": st.lists(st.integers(0, 20), max_size=8)},
    stop: {
        "concurrency": st.integers(1, 3),
        "work": st.lists(st.integers(0, 2), max_size=3),
        "moment": st.integers(0, 2),
        "inside": st.booleans(),
    },
    call: {"faults": faults, "pauses": st.lists(pauses, min_size=3, max_size=3)},
    call_too_large: {
        "faults": st.one_of(st.just([]), faults),
        "pauses": st.lists(pauses, min_size=3, max_size=3),
        "large": st.sets(st.integers(0, 8), min_size=1, max_size=3),
    },
    publish: {"faults": faults, "resend": st.booleans(), "window": st.integers(1, 5)},
    close: {"faults": faults, "moment": pauses, "away": st.sampled_from([0, 0, 60])},
}
