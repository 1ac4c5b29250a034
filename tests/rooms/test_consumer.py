"""The consumer's edges: what handlers may do to it, how it ends, and how it goes on.

Code: rmqspec/client/consumer.py, rmqspec/client/subscription.py
"""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from rmqspec.client import Consumer, Outcome, Publisher, Queue, Settings, Topology, connect
from rmqspec.client.consumer import _Run
from rmqspec.client.errors import (
    CallFailed,
    ChannelClosed,
    ClientError,
    ConsumerCancelled,
    OutcomeUnknown,
    StillAtWork,
    WrongProcess,
)
from rmqspec.client.message import Message, persistent
from rmqspec.tools.wire import Proxy

from .programs import run_program

__all__ = ["run_program"]


@pytest.fixture
def queue(channel):
    """A durable queue, and a function that publishes bodies to it."""
    channel.queue_declare("q", durable=True)
    return lambda *bodies: [channel.basic_publish("", "q", body) for body in bodies]


@contextmanager
def running(consumer, patience):
    """Runs a consumer meanwhile; yields what its run has raised."""
    errors = []

    def run():
        try:
            consumer.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield errors
    finally:
        consumer.stop()
        thread.join(patience)
        assert not thread.is_alive()


class TestHandler:
    """What a handler returns or raises."""

    @pytest.mark.parametrize("value", [None, True, "ack", Outcome], ids=["none", "true", "text", "class"])
    def test_ends_run_with_a_type_error_if_it_returns_no_outcome(self, url, queue, drain, value):
        """Taken for a reject such a value deletes the message; taken for nothing it stalls the consumer."""
        queue(b"precious")

        def forgetful(_):
            return value

        with pytest.raises(TypeError, match=r"the handler .*forgetful of 'q' returned .*, which is no Outcome"):
            Consumer(url, "q", forgetful).run()

        assert drain("q") == [b"precious"]

    def test_ends_run_if_it_raises(self, url, queue, drain):
        """By default: only the application knows whether the message is to blame."""
        queue(b"precious")

        with pytest.raises(ZeroDivisionError):
            Consumer(url, "q", lambda _: 1 // 0).run()

        assert drain("q") == [b"precious"]

    @pytest.mark.parametrize(
        "policy", [Outcome.REJECT, lambda delivery, error: Outcome.REJECT], ids=["outcome", "function"]
    )
    def test_may_raise_where_a_policy_says_what_becomes_of_the_message(self, url, queue, eventually, patience, policy):
        """One odd message must not stop every worker in turn."""
        queue(b"odd", b"sound")

        def handler(delivery):
            return Outcome.ACK if delivery.body == b"sound" else 1 // 0

        consumer = Consumer(url, "q", handler, on_error=policy)
        with running(consumer, patience) as errors:
            eventually(lambda: consumer.outcomes, {Outcome.REJECT: 1, Outcome.ACK: 1})

        assert errors == []

    def test_is_tried_again_after_a_pause_if_the_broker_was_away(self, url, queue, patience):
        """A publisher's connection may die alone; the consumer's own stands, and would never give the message back."""
        times, twice = [], threading.Event()
        queue(b"order")

        def handler(delivery):
            times.append((time.monotonic(), delivery.redelivered))
            if len(times) == 2:
                twice.set()
                return Outcome.ACK
            raise OutcomeUnknown("the connection was lost", Message("", "events", b"", persistent()))

        with running(Consumer(url, "q", handler, requeue_pause=0.2), patience) as errors:
            assert twice.wait(patience)

        (first, was_redelivered), (second, is_redelivered) = times
        assert (was_redelivered, is_redelivered, errors) == (False, True, [])
        assert second - first >= 0.2

    def test_requeues_later_without_holding_up_its_thread(self, url, queue, patience):
        """The pause is the delivery's: with room in the prefetch others are handled meanwhile."""
        seen, done = [], threading.Event()
        queue(b"early", b"next")

        def handler(delivery):
            seen.append((delivery.body, delivery.redelivered))
            if delivery.body == b"early" and not delivery.redelivered:
                return Outcome.REQUEUE_LATER
            if len(seen) == 3:
                done.set()
            return Outcome.ACK

        with running(Consumer(url, "q", handler, prefetch=2, requeue_pause=0.3), patience):
            assert done.wait(patience)

        assert seen == [(b"early", False), (b"next", False), (b"early", True)]


class TestStop:
    """How a consumer ends."""

    @pytest.mark.parametrize("concurrency", [1, 8])
    def test_raises_after_the_grace_if_a_handler_does_not_finish(self, url, queue, drain, patience, concurrency):
        """One stuck handler of eight would make the service a zombie: alive, and never at work again."""
        stuck, at_work = threading.Event(), threading.Event()
        queue(b"precious")

        def handler(_):
            at_work.set()
            stuck.wait(patience)
            return Outcome.ACK

        consumer = Consumer(url, "q", handler, concurrency=concurrency, grace=0.3)
        with running(consumer, patience) as errors:
            assert at_work.wait(patience)
        stuck.set()

        assert [type(error) for error in errors] == [StillAtWork]
        assert f"1 of {concurrency} handlers of 'q' have not finished within 0.3 s" in str(errors[0])
        assert drain("q") == [b"precious"]

    def test_raises_the_first_error_though_another_handler_is_stuck(self, url, queue, patience):
        """The error says why the consumer ends; kept inside until the stuck one returns it says nothing."""
        stuck, at_work = threading.Event(), threading.Event()
        queue(b"stuck", b"odd")

        def handler(delivery):
            if delivery.body == b"odd":
                assert at_work.wait(patience)
                raise ZeroDivisionError
            at_work.set()
            stuck.wait(patience)
            return Outcome.ACK

        with pytest.raises(ZeroDivisionError):
            Consumer(url, "q", handler, prefetch=2, concurrency=2, grace=0.2).run()
        stuck.set()

    def test_gives_a_handler_at_work_its_grace(self, url, queue, drain, patience):
        """Its work is done; not to say so would have it done twice."""
        at_work, stopped = threading.Event(), threading.Event()
        queue(b"order")

        def handler(_):
            at_work.set()
            assert stopped.wait(patience)
            return Outcome.ACK

        consumer = Consumer(url, "q", handler)
        with running(consumer, patience) as errors:
            assert at_work.wait(patience)
            consumer.stop()
            stopped.set()

        assert (errors, drain("q")) == ([], [])

    def test_ends_within_two_seconds_while_the_broker_is_away(self, broker, url, queue, eventually, patience):
        """Whoever restarts a service during an outage must not wait for the outage to end."""
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            consumer = Consumer(proxy.url(url), "q", lambda _: Outcome.ACK, concurrency=4)
            with running(consumer, patience) as errors:
                eventually(lambda: consumer.connected, True)
                proxy.accept_no_connections()
                proxy.cut()
                eventually(lambda: consumer.connected, False)
                begin = time.monotonic()

        assert (errors, time.monotonic() - begin < 2) == ([], True)

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_ends_the_process_on_ctrl_c(self, url, queue, concurrency):
        """Helpers that outlive the main thread would keep the process, and go on consuming."""
        program = (
            "import signal, sys; from rmqspec.client import Consumer, Outcome\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"consumer = Consumer({url!r}, 'q', lambda _: (print('handled', flush=True), Outcome.ACK)[1],\n"
            f"    concurrency={concurrency})\n"
            "consumer.run()\n"
        )
        queue(b"one")
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "handled\n"

        process.send_signal(2)

        assert process.communicate(timeout=10)[1].endswith("KeyboardInterrupt\n")

    def test_ends_the_process_though_a_handler_never_returns(self, run_program, url, queue):
        """A thread that hangs in somebody's library would keep a process that is to be restarted."""
        queue(b"one")

        code, words = run_program(
            url,
            """
            import os, threading
            from rmqspec.client import Consumer

            def handler(_):
                consumer.stop()
                threading.Event().wait()

            consumer = Consumer(os.environ["URL"], "q", handler, concurrency=2, grace=0.1)
            consumer.run()
            """,
        )

        assert (code, words.splitlines()[-1].startswith("rmqspec.client.errors.StillAtWork: 1 of 2")) == (1, True)

    def test_raises_what_a_handler_has_raised_meanwhile(self, url, queue, drain, patience):
        """One of the client's own errors was taken for the end of the connection, and passed over in silence."""
        queue(b"precious")
        begun, stopped = threading.Event(), threading.Event()

        def handler(_):
            begun.set()
            stopped.wait(patience)
            raise CallFailed("no reply")

        consumer = Consumer(url, "q", handler)
        with running(consumer, patience) as errors:
            assert begun.wait(patience)
            consumer.stop()
            stopped.set()

        assert [str(error) for error in errors] == ["no reply"]
        assert drain("q") == [b"precious"]


class TestRun:
    """`Consumer.run`."""

    def test_may_be_called_again(self, url, queue, drain):
        """A service that pauses its work, or tries again after an error, needs no second object."""
        queue(b"one", b"two")

        def handler(_):
            consumer.stop()
            return Outcome.ACK

        consumer = Consumer(url, "q", handler)
        consumer.run()
        consumer.run()

        assert (consumer.outcomes, drain("q")) == ({Outcome.ACK: 2}, [])

    @pytest.fixture
    def hears_late(self, monkeypatch):
        """As on a busy machine: `run` hears of a stop, or of an error, when helpers could have done much meanwhile."""
        hear = _Run._await

        def hear_late(run, what, timeout):
            hear(run, what, timeout)
            threading.Event().wait(0.3)

        monkeypatch.setattr(_Run, "_await", hear_late)

    def test_begins_with_no_other_message_after_stop(self, url, queue, drain, hears_late):
        """Who has stopped a service counts on what it does not do any more."""
        queue(b"one", b"two")
        consumer = Consumer(url, "q", lambda _: consumer.stop() or Outcome.ACK)
        consumer.run()

        assert (consumer.outcomes, drain("q")) == ({Outcome.ACK: 1}, [b"two"])

    def test_begins_with_no_other_message_after_an_error_of_another_handler(
        self, url, queue, drain, hears_late, patience
    ):
        """What has ended one handler for good may be wrong for the next message too."""
        queue(b"bad", b"good", b"not begun")
        at_work, raising = threading.Event(), []

        def handler(delivery):
            if delivery.body == b"bad":
                raising.append(threading.current_thread())
                at_work.wait(patience)
                raise LookupError
            at_work.set()
            raising[0].join(patience)
            return Outcome.ACK

        consumer = Consumer(url, "q", handler, prefetch=3, concurrency=2)
        with pytest.raises(LookupError):
            consumer.run()

        assert drain("q") == [b"bad", b"not begun"]

    def test_returns_at_once_if_stop_came_before_it(self, url):
        """A signal may come while a service starts; it must not be lost."""
        consumer = Consumer(url, "there is no such queue", lambda _: Outcome.ACK)
        consumer.stop()

        consumer.run()

    def test_does_not_run_twice_at_once(self, url, queue, eventually, patience):
        """Two runs would settle each other's deliveries."""
        consumer = Consumer(url, "q", lambda _: Outcome.ACK)
        with running(consumer, patience):
            eventually(lambda: consumer.connected, True)
            with pytest.raises(ClientError, match="runs already"):
                consumer.run()

    def test_is_an_error_in_a_forked_process(self, url, queue, eventually, patience, monkeypatch):
        """Connection and threads stayed behind; what is handed over there would vanish without a word."""
        consumer = Consumer(url, "q", lambda _: Outcome.ACK)
        with running(consumer, patience):
            eventually(lambda: consumer.connected, True)
            with monkeypatch.context() as child:
                child.setattr("rmqspec.client.process._here", object())
                with pytest.raises(WrongProcess, match="forked"):
                    consumer.run()
                with pytest.raises(WrongProcess, match="open one of its own in each process"):
                    consumer.send(Message("", "q", b"", persistent()))


class TestQueue:
    """A queue that is not there."""

    def test_is_waited_for_if_that_is_wanted(self, url, connect, eventually, patience):
        """Who deploys consumers before queues, or replaces a queue, wants no crash loop."""
        seen, tried_again = [], threading.Event()
        consumer = Consumer(
            Settings(urls=(url,), max_backoff=0.2),
            "late",
            lambda d: seen.append(d.body) or Outcome.ACK,
            wait_for_queue=True,
            on_reconnect=lambda _seconds: tried_again.set(),
        )
        channel = connect().channel()
        with running(consumer, patience) as errors:
            assert tried_again.wait(patience)  # it was refused once; between two refusals it is connected for a moment
            for body in (b"first", b"second"):
                channel.queue_declare("late", durable=True)
                channel.basic_publish("", "late", body)
                eventually(lambda body=body: body in seen, True)
                channel.queue_delete("late")

        assert (seen, errors) == ([b"first", b"second"], [])

    def test_is_declared_again_if_it_stands_in_the_topology(self, url, channel, eventually, patience):
        """Deleted by mistake it is back at once, though without its messages."""
        topology = Topology(queues=(Queue("q"),))
        consumer = Consumer(url, "q", lambda _: Outcome.ACK, topology=topology, wait_for_queue=True)
        with running(consumer, patience):
            eventually(lambda: consumer.connected, True)
            eventually(lambda: _consumers(url), 1)
            channel.queue_delete("q")
            eventually(lambda: _consumers(url), 1)

    def test_is_waited_for_while_the_lost_connection_locks_it(self, broker, url, eventually, patience):
        """A broker that has not noticed the loss refuses an exclusive queue (405), for two heartbeats."""
        topology, seen = Topology(queues=(Queue("mine", exclusive=True),)), []

        def handled():
            publisher.publish("", "mine", b"x").exception(patience)
            return bool(seen)

        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy, Publisher(url) as publisher:
            settings = Settings(urls=(proxy.url(url),), max_backoff=0.2)
            consumer = Consumer(settings, "mine", lambda d: seen.append(d.body) or Outcome.ACK, topology=topology)
            with running(consumer, patience) as errors:
                eventually(handled, True)
                proxy.linger(1.0)
                loop = consumer._run.subscription.link._loop
                loop.ioloop.add_callback_threadsafe(loop.cut)
                eventually(lambda: consumer.lost is not None and consumer.lost.reply_code, 405)
                seen.clear()
                eventually(handled, True)

        assert errors == []

    def test_is_somebody_else_s_where_it_is_locked_at_first(self, url, connect):
        """Nothing says that this one would ever become free."""
        connect().channel().queue_declare("theirs", exclusive=True)

        with pytest.raises(ChannelClosed) as error:
            Consumer(url, "theirs", lambda _: Outcome.ACK).run()

        assert error.value.reply_code == 405

    def test_ends_run_otherwise(self, url, channel, queue, eventually, patience):
        """A subscription that ended without a word would wait for ever."""
        consumer = Consumer(url, "q", lambda _: Outcome.ACK)
        with running(consumer, patience) as errors:
            eventually(lambda: _consumers(url), 1)
            channel.queue_delete("q")
            eventually(lambda: [type(error) for error in errors], [ConsumerCancelled])


class TestReconnection:
    """`Consumer`: cuts."""

    @pytest.mark.parametrize("concurrency", [1, 8])
    def test_handles_every_message_through_many_cuts(self, broker, url, queue, eventually, patience, concurrency):
        """A wake-up that went to a loop which ended before it ran stalled the consumer for ever."""
        handled, more = set(), iter(range(1_000_000))

        def handler(delivery):
            threading.Event().wait(next(more) % 5 / 1000)  # the time that work takes is what is tested
            handled.add(delivery.body)
            return Outcome.ACK

        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            settings = Settings(urls=(proxy.url(url),), max_backoff=0.05)
            consumer = Consumer(settings, "q", handler, prefetch=20, concurrency=concurrency)
            with running(consumer, patience) as errors:
                for cut in range(20):
                    bodies = [b"%d-%d" % (cut, number) for number in range(20)]
                    queue(*bodies)
                    eventually(lambda body=bodies[cut % 20]: body in handled, True)
                    proxy.cut()
                eventually(lambda: len(handled), 400)

        assert errors == []


def _consumers(url):
    connection = connect(url, "looks")
    try:
        return connection.channel().queue_declare("q", durable=True).method.consumer_count
    finally:
        connection.close()
