"""A process that was forked after a publisher was opened, as a web server forks its workers.

Code: rmqspec/client/publisher.py, rmqspec/client/process.py, rmqspec/client/sent.py
"""

from .programs import ready, run_program

__all__ = ["run_program"]


class TestFork:
    """A process that was forked after the publisher was opened: neither its thread nor its locks are there."""

    def test_raises_at_the_first_use(self, run_program, url, channel):
        """Messages of the child vanished without a word, as in a web server that forks its workers."""
        code, words = run_program(
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

    def test_raises_while_other_threads_publish(self, run_program, url):
        """The lock of a window or a future may be held by one of them at that moment, and stays so in the child."""
        code, words = run_program(
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
            for _ in range(8):
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

    def test_finds_no_lock_of_the_parent_s_threads_in_its_futures(self, run_program, url):
        """All futures share one lock, and at the moment of the fork some thread may hold it."""
        code, words = run_program(
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

    def test_leaves_the_publisher_of_the_parent_alone(self, run_program, url):
        """The child's end must neither flush nor close what is not its own."""
        code, words = run_program(
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
