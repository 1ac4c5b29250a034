"""The end of a publisher, and of a program that forgets it: nothing vanishes without a word.

Code: rmqspec/client/publisher.py, rmqspec/client/process.py
"""

import threading
import time

import pytest

from rmqspec.client import Publisher
from rmqspec.client.errors import ClientError, NotSent, OutcomeUnknown
from rmqspec.tools.wire import Proxy
from rmqspec.tools.wire.liar import Liar
from rmqspec.tools.wire.lies import LIES

from .holding import held
from .programs import ready, run_program

__all__ = ["run_program"]


PUBLISH = """
    import os
    from rmqspec.client import Publisher
    publisher = Publisher(os.environ["URL"], "forgotten", window=100_000)
    for number in range(5_000):
        publisher.publish("", "q", b"x" * 500)
"""


class TestProgramWithoutClose:
    """A program that ends without `close()`, as every script does that somebody wrote in a hurry."""

    def test_loses_nothing(self, run_program, url, channel):
        """Three thousand of five thousand messages were still on their way, and the exit code was 0."""
        code, words = run_program(url, PUBLISH)

        assert (code, words) == (0, "")
        assert ready(channel) == 5_000

    def test_loses_nothing_in_a_worker_that_was_forked(self, run_program, url, channel):
        """Children of `multiprocessing` end without what the standard library does at the end of a program."""
        code, words = run_program(
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

    def test_is_not_kept_from_its_end_by_threads_that_go_on(self, run_program, url):
        """A daemon thread publishes until the interpreter is gone; there is always one more without an answer."""
        code, words = run_program(
            url,
            """
            import atexit, os, sys, threading
            from rmqspec.client import Publisher
            told = threading.Event()
            atexit.register(told.wait, 10)  # called after the publisher has ended, as it was registered before
            publisher = Publisher(os.environ["URL"])

            def go_on():
                try:
                    while True:
                        publisher.publish("", "q", b"x")
                except Exception as error:
                    print(error, file=sys.stderr, flush=True)
                    told.set()

            threading.Thread(target=go_on, daemon=True).start()
            publisher.publish("", "q", b"x").result(10)
            """,
        )

        assert code == 0
        assert "the publisher has been closed" in words
        assert "the program ends without close()" not in words

    def test_is_warned_of_what_the_broker_does_not_confirm(self, run_program, broker, url):
        """A broker that is away must not keep a program from its end; but what it lost stands in the log."""
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            liar = Liar()
            liar.stand_in(proxy)
            liar.lie = LIES["confirm-swallowed"]
            code, words = run_program(
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

    def test_is_told_of_failures_that_nobody_looked_at(self, run_program, url):
        """Also of those whose futures are still in a list when the program ends."""
        code, words = run_program(
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


class TestInterrupt:
    """Ctrl-C in the middle of a publish: its exception may come between any two steps."""

    @pytest.mark.parametrize(
        ("part", "method", "before"),
        [("_window", "enter", False), ("_outbox", "put", True), ("_outbox", "put", False)],
        ids=["placed", "not_handed_over", "handed_over"],
    )
    def test_leaves_no_place_behind(self, url, channel, drain, monkeypatch, part, method, before):
        """A `with` block waited ten seconds for a message that was never sent, and blamed the broker."""
        channel.queue_declare("q", durable=True)
        publisher = Publisher(url)
        step = getattr(getattr(publisher, part), method)

        def interrupted(*arguments, **options):
            if not before:
                step(*arguments, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(getattr(publisher, part), method, interrupted)
            with pytest.raises(KeyboardInterrupt):
                publisher.publish("", "q", b"interrupted")

        assert publisher.flush(10)
        assert publisher.publish("", "q", b"next").exception(10) is None
        assert publisher.in_flight == 0
        publisher.close()
        assert drain("q") == [b"interrupted"] * (part == "_outbox" and not before) + [b"next"]

    def test_waits_for_no_broker_that_confirms_nothing(self, broker, url, channel):
        """An alarm may last for hours; who presses Ctrl-C in it was kept for ten seconds."""
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            publisher = Publisher(proxy.url(url))
            proxy.half_open()
            sent = publisher.publish("", "q", b"x")
            begin = time.monotonic()
            with pytest.raises(KeyboardInterrupt), publisher:
                raise KeyboardInterrupt
            seconds = time.monotonic() - begin

        assert isinstance(sent.exception(0), OutcomeUnknown)
        assert seconds < 6


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
            proxy.accept_no_connections()
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
