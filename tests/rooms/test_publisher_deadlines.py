"""A deadline for each publish, and what a publisher says of what has become of its messages.

Code: rmqspec/client/deadlines.py, rmqspec/client/unseen.py, rmqspec/client/publisher.py
"""

import logging
import threading
import time
from concurrent.futures import Future

import pytest

from rmqspec.client import Publisher
from rmqspec.client.deadlines import SWEEP, Deadlines
from rmqspec.client.errors import (
    InvalidSetting,
    NotSent,
    OutcomeUnknown,
    WindowFull,
    WrongThread,
)
from rmqspec.tools.wire import Proxy

from .holding import held


@pytest.fixture
def proxy(broker):
    with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
        yield proxy


@pytest.fixture
def logged(caplog):
    """The lines that the client has logged so far."""
    caplog.set_level(logging.INFO, "rmqspec.client")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "rmqspec.client"]


class TestTimeout:
    """`publish(timeout=…)`: the future ends then, whatever the connection does."""

    @pytest.fixture(autouse=True)
    def queue(self, channel):
        channel.queue_declare("q", durable=True)

    @pytest.mark.parametrize("resend", [False, True], ids=["not_resent", "resent"])
    def test_ends_a_message_that_could_not_be_sent(self, url, proxy, drain, eventually, resend):
        """A caller who has given up must not find the message in the queue an hour later."""
        with Publisher(proxy.url(url), resend=resend) as publisher:
            proxy.accept_no_connections()
            proxy.cut()
            eventually(lambda: publisher.connected, False)
            begin = time.monotonic()
            late = publisher.publish("", "q", b"late", timeout=0.3)
            with pytest.raises(NotSent, match="not sent before its deadline, as there is no connection"):
                late.result(10)
            assert 0.3 <= time.monotonic() - begin < 5
            assert publisher.in_flight == 0
            proxy.heal()
            assert publisher.publish("", "q", b"next").exception(20) is None

        assert drain("q") == [b"next"]

    def test_ends_a_message_without_a_confirm(self, url, proxy):
        """It has left, so it may arrive: that is another answer than that it was not sent."""
        with Publisher(proxy.url(url)) as publisher:
            proxy.half_open()
            begin = time.monotonic()

            with pytest.raises(OutcomeUnknown, match="not confirmed before its deadline"):
                publisher.publish("", "q", b"on its way", timeout=0.3).result(10)

            assert 0.3 <= time.monotonic() - begin < 5
            assert publisher.in_flight == 1  # the broker may still answer, and until then it counts
            proxy.cut()
        assert publisher.in_flight == 0

    def test_ends_while_a_callback_holds_the_connection_s_thread(self, url):
        """Nothing else is done by that thread meanwhile; a deadline that it had to keep would be kept by nobody."""
        with Publisher(url) as publisher, held(publisher):
            error = publisher.publish("", "q", b"late", timeout=0.2).exception(5)

        assert isinstance(error, NotSent)

    def test_changes_nothing_for_what_is_confirmed_in_time(self, url, drain):
        """A confirm and a deadline are two threads; the first of them decides, and only it."""
        with Publisher(url) as publisher:
            futures = [publisher.publish("", "q", b"%d" % number, timeout=30) for number in range(3 * SWEEP)]
            assert publisher.flush(20)

        assert [future.exception(0) for future in futures] == [None] * (3 * SWEEP)
        assert len(drain("q")) == 3 * SWEEP

    def test_ends_each_message_once(self, url, drain):
        """Deadlines at the very time of the confirms: each future ends one way, and its place comes back once."""
        with Publisher(url, window=2_000) as publisher:
            futures = [publisher.publish("", "q", b"%d" % number, timeout=0.002) for number in range(2_000)]
            assert publisher.flush(20)
            errors = [future.exception(10) for future in futures]
            assert publisher.in_flight == 0

        assert {type(error) for error in errors} <= {type(None), NotSent, OutcomeUnknown}
        came = set(drain("q"))
        for number, error in enumerate(errors):
            assert error is not None or b"%d" % number in came
            assert not isinstance(error, NotSent) or b"%d" % number not in came

    def test_limits_the_wait_for_room(self, url):
        """A publish that may take half a second must not wait half a minute for the window."""
        with Publisher(url, window=1) as publisher, held(publisher):
            publisher.publish("", "q", b"")
            begin = time.monotonic()
            with pytest.raises(WindowFull, match=r"within 0\.2 s"):
                publisher.publish("", "q", b"", timeout=0.2)

        assert time.monotonic() - begin < 5

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
    def test_is_a_number_of_seconds_above_zero(self, url, timeout):
        """A deadline that has passed before it begins is a mistake of the caller's, and not one of the broker's."""
        with Publisher(url) as publisher, pytest.raises(InvalidSetting, match="timeout is"):
            publisher.publish("", "q", b"", timeout=timeout)

    def test_refuses_to_wait_in_a_callback_of_its_own(self, url, proxy, eventually):
        """They run in the one thread that keeps all deadlines."""
        with Publisher(proxy.url(url)) as publisher:
            proxy.accept_no_connections()
            proxy.cut()
            eventually(lambda: publisher.connected, False)
            outcome = Future()

            def wait_for_another(_):
                with pytest.raises(WrongThread, match="would hold up all other deadlines"):
                    publisher.publish("", "q", b"").result()
                outcome.set_result(True)

            publisher.publish("", "q", b"", timeout=0.1).add_done_callback(wait_for_another)
            assert outcome.result(10)
            proxy.heal()


class TestDeadlines:
    """`Deadlines`, without a broker."""

    def test_expires_in_the_order_of_time(self):
        """The nearest may be set last."""
        ended, order, futures = threading.Event(), [], [Future() for _ in range(3)]

        def expire(future):
            order.append(futures.index(future))
            if len(order) == 3:
                ended.set()

        deadlines, now = Deadlines("test", expire), time.monotonic()
        for future, seconds in zip(futures, (0.3, 0.2, 0.1), strict=True):
            deadlines.add(now + seconds, future)

        assert ended.wait(10)
        assert order == [2, 1, 0]
        deadlines.close()

    def test_goes_on_after_an_error(self):
        """One defect must not take the deadlines of all others along."""
        ended, expired = threading.Event(), []

        def expire(future):
            expired.append(future)
            if len(expired) == 2:
                ended.set()
            raise ZeroDivisionError

        deadlines, now = Deadlines("test", expire), time.monotonic()
        for seconds in (0.01, 0.02):
            deadlines.add(now + seconds, Future())

        assert ended.wait(10)
        deadlines.close()

    def test_keeps_few_of_those_that_have_ended(self):
        """Twenty thousand messages a second with a deadline of a minute are a million of them."""
        deadlines = Deadlines("test", print)
        for _ in range(5 * SWEEP):
            future = Future()
            deadlines.add(time.monotonic() + 600, future)
            future.set_result(None)

        assert len(deadlines._heap) <= SWEEP
        deadlines.close()
