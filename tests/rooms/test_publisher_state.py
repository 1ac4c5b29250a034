"""What a publisher says of itself and of its messages: log, state, settings, and headers that it leaves alone.

Code: rmqspec/client/publisher.py, rmqspec/client/unseen.py
"""

import gc
import logging
import threading

import pytest

from rmqspec.client import Publisher, persistent, unseen
from rmqspec.client.errors import (
    InvalidSetting,
    OutcomeUnknown,
    Returned,
    Unencodable,
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
            future = publisher.publish("", look, b"returned")
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
        unseen.report()

        assert [line for line in logged() if "nobody has looked" in line and f"with key {look!r}" in line] == []

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
            proxy.accept_no_connections()
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
                proxy.accept_no_connections()
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
