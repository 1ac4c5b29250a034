"""What a caller gives is looked at where it is given: each number, name and argument, before anything is opened.

Code: rmqspec/client/bounds.py
"""

import pytest

from rmqspec.client import (
    Binding,
    Consumer,
    Exchange,
    ExchangeBinding,
    Outcome,
    Publisher,
    Queue,
    RetryLadder,
    RpcClient,
    RpcServer,
    Topology,
    connect,
)
from rmqspec.client.errors import InvalidSetting
from rmqspec.orders import Inbox

NAN, INFINITE = float("nan"), float("inf")
LONG = "ü" * 128  # 256 bytes

NUMBERS_OF_A_CONSUMER = [
    *[("prefetch", number) for number in (-1, 65_536, 1.5, None)],
    *[("concurrency", number) for number in (0, -2, 1.5)],
    *[("ack_batch", number) for number in (0, -1)],
    *[("requeue_pause", seconds) for seconds in (-1.0, NAN, INFINITE, None)],
    *[("grace", seconds) for seconds in (-1.0, NAN, None)],
]


class TestConsumer:
    """A consumer, before it runs."""

    @pytest.mark.parametrize(("name", "value"), NUMBERS_OF_A_CONSUMER)
    def test_refuses_numbers_that_make_no_sense(self, url, name, value):
        """Without a helper nothing is ever handled; a pause without an end holds a message for ever."""
        with pytest.raises(InvalidSetting, match=f"^{name} is "):
            Consumer(url, "q", lambda _: Outcome.ACK, **{name: value})

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"queue": LONG}, "the name of the queue has 256 bytes"),
            ({"queue": None}, "the name of the queue is None"),
            ({"name": LONG}, "the name of the consumer has 256 bytes"),
            ({"name": "\udcff"}, "no form in UTF-8"),
            ({"arguments": {"x-priority": {1}}}, "the arguments of the subscription cannot be sent"),
            ({"arguments": {LONG: 1}}, "the arguments of the subscription cannot be sent"),
            ({"on_error": "reject"}, "on_error is 'reject'"),
        ],
        ids=["queue", "no_queue", "name", "half_a_letter", "argument", "argument_name", "policy"],
    )
    def test_refuses_names_that_amqp_cannot_carry(self, url, options, words):
        """Found out in the connection's thread they ended one connection after another, and nothing was said."""
        with pytest.raises(InvalidSetting, match=words):
            Consumer(url, **{"queue": "q", "handler": lambda _: Outcome.ACK, **options})

    @pytest.mark.parametrize("options", [{"prefetch": -1}, {"prefetch": 65_536}, {"concurrency": 0}, {"name": LONG}])
    def test_refuses_them_for_a_server_of_calls(self, url, options):
        """Its requests are deliveries of a consumer, and nobody would answer them."""
        with pytest.raises(InvalidSetting):
            RpcServer(url, "q", lambda request: request, **options)

    def test_takes_what_is_at_the_edge(self, url, channel, drain):
        """The protocol has two bytes for a prefetch, and 255 for a name."""
        channel.queue_declare("q" * 255, durable=True)
        channel.basic_publish("", "q" * 255, b"1")
        consumer = Consumer(
            url,
            "q" * 255,
            lambda _: consumer.stop() or Outcome.ACK,
            prefetch=65_535,
            name="c" * 255,
            requeue_pause=0,
            grace=INFINITE,
        )

        consumer.run()

        assert drain("q" * 255) == []


class TestTopology:
    """What is to be declared."""

    @pytest.mark.parametrize(
        "wrong",
        [
            {"queues": (Queue(LONG),)},
            {"queues": (Queue("q", {"x-max-length": NAN}),)},
            {"queues": (Queue("q", {"x": {1}}),)},
            {"exchanges": (Exchange(LONG, "fanout"),)},
            {"exchanges": (Exchange("e", LONG),)},
            {"exchanges": (Exchange("e", "fanout", {"alternate-exchange": object()}),)},
            {"queues": (Queue("q", None),)},
            {"bindings": (Binding("e", "q", LONG),)},
            {"bindings": (Binding("e", LONG),)},
            {"bindings": (Binding(LONG, "q"),)},
            {"bindings": (Binding(None, "q"),)},
            {"bindings": (Binding("e", "q", "", [("x-match", "all")]),)},
            {"bindings": (Binding("e", "q", "", {"x": 2**70}),)},
            {"exchange_bindings": (ExchangeBinding("e", "f", LONG),)},
            {"exchange_bindings": (ExchangeBinding(LONG, "f"),)},
            {"exchange_bindings": (ExchangeBinding("e", b"f"),)},
            {"exchange_bindings": (ExchangeBinding("e", "f", "", {"x": {1}}),)},
        ],
    )
    def test_refuses_what_amqp_cannot_carry(self, wrong):
        """It was called a lost connection, or a defect to be reported."""
        with pytest.raises(InvalidSetting):
            Topology(**wrong)


class TestTimes:
    """Seconds."""

    @pytest.mark.parametrize("wait", ["flush", "close"])
    def test_that_are_no_number_are_refused(self, url, channel, wait):
        """With NaN the wait never ends, and takes a processor."""
        channel.queue_declare("q", durable=True)
        with Publisher(url) as publisher:
            with pytest.raises(InvalidSetting, match="timeout is nan"):
                getattr(publisher, wait)(NAN)

            assert publisher.publish("", "q", b"").result(INFINITE).message.body == b""

    @pytest.mark.parametrize("delay", [NAN, INFINITE, -1.0, 1e300, "5"])
    def test_of_a_retry_are_those_of_a_queue(self, delay):
        """A number that is none was a ValueError in the middle of a declaration."""
        with pytest.raises(InvalidSetting, match="a delay is"):
            RetryLadder("q", "parking", (1.0, delay))

    @pytest.mark.parametrize(
        ("name", "value"), [("lease", NAN), ("lease", 0), ("lease", -1.0), ("keep", NAN), ("patience", NAN)]
    )
    def test_of_an_inbox_are_finite(self, name, value):
        """A lease of no time is renewed by a thread that never rests."""
        with pytest.raises(InvalidSetting, match=f"{name} is"):
            Inbox(**{name: value})

    @pytest.mark.parametrize("heartbeat", [NAN, -1, 65_536, "5", 2.5])
    def test_of_a_heartbeat_are_whole(self, url, heartbeat):
        """The protocol has two bytes for it; a broker was said to have hung up."""
        with pytest.raises(InvalidSetting, match="heartbeat is"):
            connect(url, "x", heartbeat=heartbeat)

    @pytest.mark.parametrize("options", [{"window": 0}, {"window": -1}, {"window_bytes": 0}, {"window_bytes": NAN}])
    def test_and_places_of_open_calls_are_above_zero(self, url, options):
        """A window with no place was one with one place."""
        with pytest.raises(InvalidSetting, match="window"):
            RpcClient(url, **options)
