"""The end of a publisher, of its program, and of a fork of it: nothing vanishes without a word.

Code: rmqspec/client/publisher.py, rmqspec/client/process.py
"""

import os
import subprocess
import sys
import threading
from textwrap import dedent

import pytest

from rmqspec.client import Publisher
from rmqspec.client.errors import ClientError, NotSent
from rmqspec.tools.wire import Proxy
from rmqspec.tools.wire.liar import Liar
from rmqspec.tools.wire.lies import LIES

from .holding import held


@pytest.fixture
def program(channel):
    """Runs a program that has a `url`; returns its exit code and what it wrote to stderr."""
    channel.queue_declare("q", durable=True)

    def run(url, code):
        done = subprocess.run(
            [sys.executable, "-c", dedent(code)],
            env={**os.environ, "URL": url},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        return done.returncode, done.stderr

    return run


PUBLISH = """
    import os
    from rmqspec.client import Publisher
    publisher = Publisher(os.environ["URL"], "forgotten", window=100_000)
    for number in range(5_000):
        publisher.publish("", "q", b"x" * 500)
"""


class TestProgramWithoutClose:
    """A program that ends without `close()`, as every script does that somebody wrote in a hurry."""

    def test_loses_nothing(self, program, url, channel):
        """Three thousand of five thousand messages were still on their way, and the exit code was 0."""
        code, words = program(url, PUBLISH)

        assert (code, words) == (0, "")
        assert ready(channel) == 5_000

    def test_loses_nothing_in_a_worker_that_was_forked(self, program, url, channel):
        """Children of `multiprocessing` end without what the standard library does at the end of a program."""
        code, words = program(
            url,
            """
            import multiprocessing, os
            from rmqspec.client import Publisher

            def work():
                publisher = Publisher(os.environ["URL"], window=100_000)
                for number in range(2_000):
                    publisher.publish("", "q", b"x")

            worker = multiprocessing.get_context("fork").Process(target=work)
            worker.start()
            worker.join()
            """,
        )

        assert (code, words) == (0, "")
        assert ready(channel) == 2_000

    def test_is_warned_of_what_the_broker_does_not_confirm(self, program, broker, url):
        """A broker that is away must not keep a program from its end; but what it lost stands in the log."""
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            liar = Liar()
            liar.stand_in(proxy)
            liar.lie = LIES["confirm-swallowed"]
            code, words = program(
                proxy.url(url),
                """
                import os, rmqspec.client.publisher as module
                from rmqspec.client import Publisher
                module.AT_EXIT = 0.2
                publisher = Publisher(os.environ["URL"], "forgotten")
                futures = [publisher.publish("", "q", b"x") for _ in range(3)]
                """,
            )

        assert code == 0
        assert "forgotten: the program ends without close(), and 3 messages have no answer" in words

    def test_is_told_of_failures_that_nobody_looked_at(self, program, url):
        """Also of those whose futures are still in a list when the program ends."""
        code, words = program(
            url,
            """
            import os
            from rmqspec.client import Publisher
            publisher = Publisher(os.environ["URL"])
            futures = [publisher.publish("", "nobody", b"lost") for _ in range(3)]
            """,
        )

        assert code == 0
        assert "nobody has looked at its future: Returned: no queue is bound for it" in words
        assert "(and 2 more)" in words


class TestFork:
    """A process that was forked after the publisher was opened: neither its thread nor its locks are there."""

    def test_raises_at_the_first_use(self, program, url, channel):
        """Messages of the child vanished without a word, as in a web server that forks its workers."""
        code, words = program(
            url,
            """
            import os
            from rmqspec.client import Publisher
            from rmqspec.client.errors import WrongProcess
            publisher = Publisher(os.environ["URL"])
            sent = publisher.publish("", "q", b"parent")
            sent.result(10)
            child = os.fork()
            if child == 0:
                uses = [lambda: publisher.publish("", "q", b"child"), lambda: publisher.flush(5)]
                wrong = 0
                for use in uses:
                    try:
                        use()
                    except WrongProcess:
                        wrong += 1
                publisher.close()
                os._exit(10 * wrong + (sent.result(1).message.body == b"parent"))
            raised = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            publisher.publish("", "q", b"parent").result(10)
            publisher.close()
            raise SystemExit(raised)
            """,
        )

        assert (code, words) == (21, "")
        assert ready(channel) == 2

    def test_raises_while_other_threads_publish(self, program, url):
        """The lock of a window or a future may be held by one of them at that moment, and stays so in the child."""
        code, words = program(
            url,
            """
            import os, signal, sys, threading, time
            from rmqspec.client import Publisher
            from rmqspec.client.errors import WrongProcess
            publisher = Publisher(os.environ["URL"], patience=5)
            stop = threading.Event()

            def publish():
                while not stop.is_set():
                    publisher.publish("", "q", b"x")

            for _ in range(4):
                threading.Thread(target=publish, daemon=True).start()
            hung = 0
            for _ in range(20):
                child = os.fork()
                if child == 0:
                    try:
                        publisher.publish("", "q", b"x")
                    except WrongProcess:
                        with Publisher(os.environ["URL"]) as own:
                            own.publish("", "q", b"x").result(10)
                        os._exit(0)
                    os._exit(1)
                until = time.monotonic() + 20
                while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < until:
                    time.sleep(0.005)
                if ended[0] == 0:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                hung += ended[0] == 0 or ended[1] != 0
            stop.set()
            publisher.close()
            sys.exit(hung)
            """,
        )

        assert code == 0, words

    def test_finds_no_lock_of_the_parent_s_threads_in_its_futures(self, program, url):
        """All futures share one lock, and at the moment of the fork some thread may hold it."""
        code, words = program(
            url,
            """
            import os, signal, sys, threading
            from rmqspec.client import Publisher, sent
            holding = threading.Event()

            def hold():
                with sent._shared:
                    holding.set()
                    threading.Event().wait()

            threading.Thread(target=hold, daemon=True).start()
            holding.wait()
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                with Publisher(os.environ["URL"]) as publisher:
                    publisher.publish("", "q", b"x").result(10)
                os._exit(0)
            os._exit(os.waitpid(child, 0)[1])
            """,
        )

        assert (code, words) == (0, "")

    def test_leaves_the_publisher_of_the_parent_alone(self, program, url):
        """The child's end must neither flush nor close what is not its own."""
        code, words = program(
            url,
            """
            import os, sys, threading
            from rmqspec.client import Publisher
            publisher, release = Publisher(os.environ["URL"]), threading.Event()
            publisher._loop.ioloop.add_callback_threadsafe(release.wait)
            unanswered = publisher.publish("", "q", b"x")
            child = os.fork()
            if child == 0:
                sys.exit(0)  # with all that is done at the end of a program
            os.waitpid(child, 0)
            release.set()
            unanswered.result(10)
            """,
        )

        assert (code, words) == (0, "")


class TestClose:
    """`Publisher.close`."""

    def test_is_not_kept_from_its_end_by_those_who_go_on(self, url, channel, drain):
        """Five threads that publish without a pause kept the flush busy, and a thousand messages were unknown."""
        channel.queue_declare("q", durable=True)
        publisher, futures = Publisher(url), []

        def go_on():
            try:
                while True:
                    futures.append(publisher.publish("", "q", b"x"))
            except ClientError:
                return

        threads = [threading.Thread(target=go_on) for _ in range(5)]
        for thread in threads:
            thread.start()
        while len(futures) < 2_000:
            threads[0].join(0.01)
        publisher.close()
        for thread in threads:
            thread.join(10)

        assert {type(future.exception(0)) for future in futures} == {type(None)}
        assert len(drain("q")) == len(futures)

    def test_lets_callbacks_publish_until_the_last_has_its_answer(self, url, channel, drain):
        """What a full queue has refused is moved by a callback, and that belongs to the flush."""
        channel.queue_declare("q", durable=True)

        with Publisher(url) as publisher:
            publisher.publish("", "q", b"1").add_done_callback(
                lambda _: publisher.publish("", "q", b"2").add_done_callback(lambda _: publisher.publish("", "q", b"3"))
            )

        assert drain("q") == [b"1", b"2", b"3"]

    def test_says_of_what_never_left_that_it_was_not_sent(self, url, broker, eventually):
        """It may be sent again without a doubt, and that is worth to know."""
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            publisher = Publisher(proxy.url(url), resend=True)
            proxy.refuse()
            proxy.cut()
            eventually(lambda: publisher.connected, False)
            future = publisher.publish("", "q", b"x")

            publisher.close(0.1)

        assert isinstance(future.exception(0), NotSent)

    def test_wakes_those_who_wait_for_room(self, url, channel, eventually):
        """They would wait for as long as their patience lasts, for a publisher that is gone."""
        channel.queue_declare("q", durable=True)
        publisher, errors = Publisher(url, window=1, patience=60), []

        def publish():
            with pytest.raises(ClientError, match="has been closed") as error:
                publisher.publish("", "q", b"")
            errors.append(error.value)

        waiting, closing = threading.Thread(target=publish), threading.Thread(target=publisher.close)
        with held(publisher):
            publisher.publish("", "q", b"")
            waiting.start()
            eventually(lambda: len(publisher._window._queue), 1)
            closing.start()
            eventually(lambda: publisher._closing, True)
        closing.join(20)
        waiting.join(20)

        assert len(errors) == 1


def ready(channel):
    return channel.queue_declare("q", passive=True).method.message_count
