"""Callbacks of a publish: they run in the connection's thread, and must not stop it.

Code: rmqspec/client/publisher.py, rmqspec/client/sent.py, rmqspec/client/window.py
"""

import logging
import threading
from concurrent.futures import Future

import pytest

from rmqspec.client import Publisher
from rmqspec.client.errors import ClientError, Nacked, WindowFull, WrongThread

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


@pytest.fixture
def first(channel):
    """Publishes a message whose callback is still to come, as the link's thread is held: `first(publisher)`."""
    channel.queue_declare("q", durable=True)
    release = threading.Event()

    def publish(publisher):
        held = threading.Event()
        publisher.publish("", "q", b"hold").add_done_callback(lambda _: (held.set(), release.wait(10)))
        assert held.wait(10)
        return publisher.publish("", "q", b"first")

    publish.release = release.set
    yield publish
    release.set()


class TestCallback:
    """What a callback of a publish may do."""

    @pytest.mark.parametrize("wait", ["result", "result_with_timeout", "exception", "flush", "close"])
    def test_raises_instead_of_waiting_for_its_own_thread(self, url, first, wait):
        """It waited for ever, and with it each message, heartbeat and reconnection of that publisher."""
        publisher = Publisher(url)
        waits = {
            "result": lambda: publisher.publish("", "q", b"").result(),
            "result_with_timeout": lambda: publisher.publish("", "q", b"").result(5),
            "exception": lambda: publisher.publish("", "q", b"").exception(),
            "flush": publisher.flush,
            "close": publisher.close,
        }
        outcome = in_callback(first(publisher), waits[wait])
        first.release()

        with pytest.raises(WrongThread, match="in a callback"):
            outcome.result(10)
        assert publisher.publish("", "q", b"").exception(10) is None
        publisher.close()

    def test_may_ask_for_an_answer_that_is_there(self, url, first):
        """Nothing waits then."""
        with Publisher(url) as publisher:
            sent = first(publisher)
            outcome = in_callback(sent, lambda: sent.result().message.body)
            first.release()

            assert outcome.result(10) == b"first"

    def test_may_wait_for_another_publisher(self, url, first):
        """That one has a thread of its own."""
        with Publisher(url) as publisher, Publisher(url) as other:
            outcome = in_callback(first(publisher), lambda: other.publish("", "q", b"other").result(10))
            first.release()

            assert outcome.result(10).message.body == b"other"

    def test_takes_the_place_of_its_own_message(self, url, channel):
        """A chain in which each confirm publishes the next never has more than one message under way."""
        channel.queue_declare("q", durable=True)
        ended, seen = threading.Event(), []

        def publish_next(_):
            seen.append(publisher.in_flight)
            if len(seen) == 10:
                ended.set()
            else:
                publisher.publish("", "q", b"next").add_done_callback(publish_next)

        with Publisher(url, window=1) as publisher:
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
            for number in range(500):
                publisher.publish("", "full", b"%d" % number).add_done_callback(move)

        assert refused == []
        assert len(drain("spare")) == 499

    @pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), ValueError("a bug")], ids=repr)
    def test_that_raises_ends_nothing(self, url, first, caplog, error):
        """`sys.exit()` in there ended the connection's thread, not the program, and later messages waited for ever."""

        def fail(_):
            raise error

        with Publisher(url) as publisher:
            first(publisher).add_done_callback(fail)
            first.release()

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
