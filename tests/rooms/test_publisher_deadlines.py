"""A deadline for each publish, and what a publisher says of what has become of its messages.

Code: rmqspec/client/deadlines.py, rmqspec/client/unseen.py, rmqspec/client/publisher.py
"""

import gc
import logging
import threading
import time
from concurrent.futures import Future

import pytest

from rmqspec.client import Publisher, persistent
from rmqspec.client.deadlines import SWEEP, Deadlines
from rmqspec.client.errors import (
    InvalidSetting,
    NotSent,
    OutcomeUnknown,
    Returned,
    Unencodable,
    WindowFull,
    WrongThread,
)
from rmqspec.client.sent import Sent
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
            proxy.refuse()
            proxy.cut()
            eventually(lambda: publisher.connected, False)
            begin = time.monotonic()
            late = publisher.publish("", "q", b"late", timeout=0.3)
            with pytest.raises(NotSent, match="not sent before its deadline, as there is no connection"):
                late.result(10)
            assert 0.3 <= time.monotonic() - begin < 2
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

            assert 0.3 <= time.monotonic() - begin < 2
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

        assert time.monotonic() - begin < 2

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
    def test_is_a_number_of_seconds_above_zero(self, url, timeout):
        """A deadline that has passed before it begins is a mistake of the caller's, and not one of the broker's."""
        with Publisher(url) as publisher, pytest.raises(InvalidSetting, match="timeout is"):
            publisher.publish("", "q", b"", timeout=timeout)

    def test_refuses_to_wait_in_a_callback_of_its_own(self, url, proxy, eventually):
        """They run in the one thread that keeps all deadlines."""
        with Publisher(proxy.url(url)) as publisher:
            proxy.refuse()
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


class TestLog:
    """What an operator finds in the log."""

    def test_tells_of_failures_that_nobody_looked_at(self, url, logged, eventually):
        """Ten lost orders, no error, exit code 0."""
        with Publisher(url) as publisher:
            for _ in range(10):
                publisher.publish("", "nobody", b"lost")
        gc.collect()

        eventually(lambda: sum("nobody has looked at its future" in line for line in logged()) >= 1, True)
        line = next(line for line in logged() if "nobody has looked" in line)
        assert "Returned: no queue is bound for it" in line
        assert "exchange '' with key 'nobody'" in line

    @pytest.mark.parametrize("look", ["result", "exception", "callback"])
    def test_says_nothing_of_failures_that_somebody_looked_at(self, url, logged, look):
        """A warning for what the program has handled teaches to ignore warnings."""
        with Publisher(url) as publisher:
            future = publisher.publish("", "nobody", b"returned")
            if look == "callback":
                seen = []
                future.add_done_callback(lambda future: seen.append(future.exception()))
            elif look == "exception":
                assert isinstance(future.exception(10), Returned)
            else:
                with pytest.raises(Returned):
                    future.result(10)
            publisher.flush(10)
            del future
        gc.collect()
        unlooked = publisher.publish.__globals__["unseen"]._reporter
        unlooked.report()

        assert [line for line in logged() if "nobody has looked" in line] == []

    @pytest.mark.parametrize(
        ("resend", "words"),
        [(True, "2 unanswered messages are sent again"), (False, "of 2 unanswered messages the outcome is unknown")],
        ids=["resent", "not_resent"],
    )
    def test_tells_what_becomes_of_the_unanswered(self, url, channel, proxy, logged, resend, words):
        """Duplicates and gaps that show up tomorrow begin here."""
        channel.queue_declare("q", durable=True)

        with Publisher(proxy.url(url), "shop", resend=resend) as publisher:
            kept_back = threading.Event()
            futures = self.unanswered(publisher, proxy, kept_back)
            proxy.cut()
            proxy.heal()
            outcomes = [type(future.exception(20)) for future in futures]

        assert outcomes == [type(None) if resend else OutcomeUnknown] * 2
        assert f"shop: {words}" in logged()

    def unanswered(self, publisher, proxy, kept_back):
        """Two messages whose confirms do not come back."""
        proxy.half_open()
        futures = [publisher.publish("", "q", b"%d" % number) for number in range(2)]
        while len(publisher._unanswered) < 2:
            kept_back.wait(0.01)
        return futures


class TestState:
    """What a service can ask its publisher."""

    def test_shows_what_is_under_way(self, url, channel, proxy, eventually):
        """For a health check, and for a person who wonders why nothing moves."""
        channel.queue_declare("q", durable=True)
        away = []

        with Publisher(proxy.url(url), resend=True, on_reconnect=away.append) as publisher:
            assert (publisher.in_flight, publisher.blocked, publisher.connected) == (0, "", True)
            proxy.refuse()
            proxy.cut()
            eventually(lambda: publisher.connected, False)
            publisher.publish("", "q", b"1")
            assert publisher.in_flight == 1
            proxy.heal()
            assert publisher.flush(20)
            assert (publisher.in_flight, publisher.connected) == (0, True)
        assert len(away) == 1

    @pytest.mark.parametrize(
        "wrong", [{"window": 0}, {"window_bytes": 0}, {"patience": -1}, {"patience": float("nan")}], ids=str
    )
    def test_refuses_settings_that_make_no_sense(self, url, wrong):
        """A window of 0 would let nothing through, and say so at the first message at night."""
        with pytest.raises(InvalidSetting, match=next(iter(wrong))):
            Publisher(url, **wrong)


class TestHeaders:
    """Headers of others on their way through."""

    @pytest.mark.parametrize("resend", [False, True], ids=["sent_once", "resent"])
    def test_arrive_untouched(self, url, channel, proxy, resend):
        """A trace that loses its `traceparent` in one service ends there."""
        channel.queue_declare("q", durable=True)
        headers = {
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "x-foreign": [1, {"a": None}],
        }
        properties = persistent(headers=headers)

        with Publisher(proxy.url(url), resend=True) as publisher:
            if resend:
                proxy.refuse()
                proxy.cut()
            publisher.publish("", "q", b"", properties)
            proxy.heal()
            assert publisher.flush(20)

        _, came, _ = channel.basic_get("q", auto_ack=True)
        assert came.headers == headers
        assert properties.headers is headers

    def test_that_no_longer_fit_end_their_message_alone(self, url, channel, monkeypatch):
        """The next broker of a cluster may allow smaller frames; an exception there would end the publisher."""
        channel.queue_declare("q", durable=True)
        reshape = Sent.reshape

        def smaller(self, shape):
            if self.message.body == b"large headers":
                raise Unencodable("its headers need more than one frame", self.message)
            reshape(self, shape)

        monkeypatch.setattr(Sent, "reshape", smaller)
        with Publisher(url) as publisher:
            with held(publisher):
                futures = [publisher.publish("", "q", body) for body in (b"1", b"large headers", b"2")]
                publisher._shape = (1, 131_064)  # another one, as after a reconnection
            errors = [future.exception(10) for future in futures]

        assert [type(error) for error in errors] == [type(None), Unencodable, type(None)]
