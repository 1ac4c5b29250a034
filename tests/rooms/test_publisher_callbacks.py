"""Callbacks of a publish: they run in the connection's thread, and must not stop it.

Code: rmqspec/client/publisher.py, rmqspec/client/sent.py, rmqspec/client/window.py
"""

import logging
import threading
from concurrent.futures import Future, as_completed, wait

import pytest

from rmqspec.client import Publisher
from rmqspec.client.errors import ClientError, Nacked, WindowFull, WrongThread

from .holding import held

FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


def in_callback(future, work):
    """The outcome of some work in the callback of a future."""
    outcome = Future()

    def call(_):
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    future.add_done_callback(call)
    return outcome


@pytest.fixture(autouse=True)
def queue(channel):
    channel.queue_declare("q", durable=True)


class TestCallback:
    """What a callback of a publish may do."""

    @pytest.mark.parametrize(
        "how", ["result", "result_with_timeout", "exception", "flush", "close", "wait", "as_completed"]
    )
    def test_raises_instead_of_waiting_for_its_own_thread(self, url, how):
        """It waited for ever, and with it each message, heartbeat and reconnection of that publisher."""
        publisher = Publisher(url)
        waits = {
            "result": lambda: publisher.publish("", "q", b"").result(),
            "result_with_timeout": lambda: publisher.publish("", "q", b"").result(5),
            "exception": lambda: publisher.publish("", "q", b"").exception(),
            "flush": publisher.flush,
            "close": publisher.close,
            "wait": lambda: wait([publisher.publish("", "q", b"")]),
            "as_completed": lambda: list(as_completed([publisher.publish("", "q", b"")])),
        }
        with held(publisher):
            outcome = in_callback(publisher.publish("", "q", b"first"), waits[how])

        with pytest.raises(WrongThread, match="in a callback"):
            outcome.result(10)
        assert publisher.publish("", "q", b"").exception(10) is None
        publisher.close()

    def test_may_ask_for_an_answer_that_is_there(self, url):
        """A future that has ended answers at once; only a wait would stop the very thread that it waits for."""
        with Publisher(url) as publisher:
            with held(publisher):
                sent = publisher.publish("", "q", b"first")
                outcome = in_callback(sent, lambda: sent.result().message.body)

            assert outcome.result(10) == b"first"

    def test_may_wait_for_another_publisher(self, url):
        """That one has a thread of its own."""
        with Publisher(url) as publisher, Publisher(url) as other:
            with held(publisher):
                first = publisher.publish("", "q", b"first")
                outcome = in_callback(first, lambda: other.publish("", "q", b"other").result(10))

            assert outcome.result(10).message.body == b"other"

    def test_takes_the_place_of_its_own_message(self, url):
        """A chain in which each confirm publishes the next never has more than one message under way."""
        ended, seen = threading.Event(), []

        def publish_next(_):
            seen.append(publisher.in_flight)
            if len(seen) == 10:
                ended.set()
            else:
                publisher.publish("", "q", b"next").add_done_callback(publish_next)

        with Publisher(url, window=1) as publisher:
            with held(publisher):
                publisher.publish("", "q", b"first").add_done_callback(publish_next)

            assert ended.wait(10)
        assert publisher.confirmed[""] == 10

    def test_moves_what_a_full_queue_refuses_while_others_wait_for_room(self, url, channel, drain):
        """The overflow of a queue goes to a spare one; those who wait outside must not take the places for it."""
        channel.queue_declare("full", durable=True, arguments=FULL)
        channel.queue_declare("spare", durable=True)
        refused = []

        def move(future):
            if isinstance(future.exception(), Nacked):
                try:
                    publisher.publish("", "spare", future.exception().message.body)
                except WindowFull as error:
                    refused.append(error)

        with Publisher(url, window=20) as publisher:
            for number in range(500):  # a nack that was first leaves its callback to this thread, which may wait
                publisher.publish("", "full", b"%d" % number).add_done_callback(move)

        assert refused == []
        assert len(drain("spare")) == 499

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), ValueError("a bug")], ids=repr)
    def test_that_raises_ends_nothing(self, url, caplog, error):
        """`sys.exit()` in there ended the connection's thread, not the program, and later messages waited for ever."""

        def fail(_):
            raise error

        with Publisher(url) as publisher:
            with held(publisher):
                publisher.publish("", "q", b"first").add_done_callback(fail)

            assert publisher.publish("", "q", b"next").exception(10) is None
        assert [record.levelno for record in caplog.records if "callback of a publish" in record.getMessage()] == [
            logging.ERROR
        ]


class TestError:
    """The exceptions that callers get."""

    def test_is_an_object_of_its_own_for_each_caller(self, url):
        """One object in a thousand hands gets a thousand tracebacks, with their frames and bodies: a leak."""
        publisher = Publisher(url)
        publisher.close()
        errors = []

        for _ in range(10):
            with pytest.raises(ClientError, match="has been closed") as error:
                publisher.publish("", "q", b"")
            errors.append(error.value)

        assert len({id(error) for error in errors}) == 10
        assert {depth(error) for error in errors} == {depth(errors[0])}

    def test_does_not_grow_with_each_question(self, url):
        """A caller that polls a failed future must not fill the memory."""
        with Publisher(url) as publisher:
            future = publisher.publish("", "nobody", b"")
            depths = []
            for _ in range(10):
                with pytest.raises(ClientError) as error:
                    future.result(10)
                depths.append(depth(error.value))

        assert depths[1:] == depths[:-1]


def depth(error):
    """How many entries a traceback has."""
    count, trace = 0, error.__traceback__
    while trace is not None:
        count, trace = count + 1, trace.tb_next
    return count
