"""Messages of foreign programs: what pika's own reading fails at or changes, on its way through the clients.

Code: rmqspec/client/decoding.py, rmqspec/client/encoding.py
"""

import math
import threading
from contextlib import closing

import pika
import pytest
from pika import BasicProperties, frame, spec

from rmqspec.client import Consumer, Outcome, Publisher, RetryLadder
from rmqspec.client.decoding import decode_frame, ours
from rmqspec.client.errors import Unencodable
from rmqspec.client.tables import Integer, Undecoded, read_table, write_table
from rmqspec.tools.wire import Proxy

from .wire_values import UNDECODED, WIRES, entry, nested

LIST = nested(b"A", 1500)
HEADERS = {name: UNDECODED[name] for name in ("milliseconds", "before_1970", "year_10000", "text_that_is_not_utf_8")}
HEADERS["lists_1500_deep"] = (LIST[:5], LIST[5:])

# RabbitMQ closes the connection at the first two (541), and since 4.0 says l for L.
NOT_SENT = {"infinity", "short_of_the_specification", "long_by_the_other_letter"}
TABLE = {"weight": 2.5, "born": Undecoded(b"\xff" * 8, b"T")}
METHODS = [
    spec.Connection.Start(server_properties=TABLE),
    spec.Connection.StartOk(client_properties=TABLE, response="login"),
    spec.Exchange.Declare(exchange="e", arguments=TABLE),
    spec.Exchange.Bind(destination="e", source="f", arguments=TABLE),
    spec.Exchange.Unbind(destination="e", source="f", arguments=TABLE),
    spec.Queue.Declare(queue="q", arguments=TABLE),
    spec.Queue.Bind(queue="q", exchange="e", arguments=TABLE),
    spec.Queue.Unbind(queue="q", exchange="e", arguments=TABLE),
    spec.Basic.Consume(queue="q", arguments=TABLE),
]


@pytest.fixture
def consume(broker, url, eventually):
    """The deliveries of `q` up to a body, and how many connections that took: `consume(b"last")`."""

    def until(last):
        deliveries, connections = [], set()
        with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
            proxy.taps = lambda number, _: connections.add(number)
            consumer = Consumer(proxy.url(url), "q", lambda delivery: deliveries.append(delivery) or Outcome.ACK)
            thread = threading.Thread(target=consumer.run)
            thread.start()
            try:
                eventually(lambda: bool(deliveries) and deliveries[-1].body == last, True)
            finally:
                consumer.stop()
                thread.join(10)
        return deliveries, len(connections)

    return until


class TestConsumer:
    """Our consumer."""

    @pytest.mark.parametrize("case", HEADERS)
    def test_handles_headers_that_pika_cannot_decode(self, channel, consume, case):
        """One such message kept a consumer reconnecting for ever, and nothing behind it was handled."""
        head, content = HEADERS[case]
        channel.queue_declare("q")
        for body, headers in {b"first": None, b"odd": {"h": Undecoded(content, head)}, b"last": None}.items():
            channel.basic_publish("", "q", body, BasicProperties(headers=headers))

        deliveries, connections = consume(b"last")

        assert [one.body for one in deliveries] == [b"first", b"odd", b"last"]
        assert write_table(deliveries[1].headers)[4:] == entry(head + content)
        assert connections == 1

    def test_handles_odd_ids_and_timestamps(self, channel, consume):
        """A timestamp in nanoseconds, and an id in Latin-1: both have room on the wire."""
        channel.queue_declare("q")
        sent = BasicProperties(message_id=b"caf\xe9", correlation_id=b"\xff", timestamp=2**64 - 1, priority=255)
        channel.basic_publish("", "q", b"last", sent)

        ((delivery,), _) = consume(b"last")

        assert delivery.properties == sent

    def test_hands_headers_on_as_they_came(self, channel, consume, url):
        """A size or a sign that changes on the way is another value to a receiver with strict types."""
        headers = {name: Undecoded(wire[1:], wire[:1]) for name, (wire, _) in WIRES.items() if name not in NOT_SENT}
        channel.queue_declare("q")
        channel.queue_declare("next")
        channel.basic_publish("", "q", b"last", BasicProperties(headers=headers))

        ((delivery,), _) = consume(b"last")
        with Publisher(url) as publisher:
            publisher.publish("", "next", delivery.body, delivery.properties).result(10)

        assert delivery.headers == {name: value for name, (_, value) in WIRES.items() if name in headers}
        assert write_table(channel.basic_get("next", True)[1].headers) == write_table(delivery.headers)

    def test_keeps_a_price_through_a_retry(self, channel, consume, url):
        """19.99 came back as 19 from the retry ladder."""
        ladder = RetryLadder("q", "", (0.05,))
        channel.queue_declare("q", durable=True)
        ladder.topology().declare(channel)
        channel.basic_publish("", "q", b"order", BasicProperties(headers={"price": 19.99, "share": 0.25}))

        ((first,), _) = consume(b"order")
        with Publisher(url) as publisher:
            ladder.climb(publisher, first, "not now")
        ((second,), _) = consume(b"order")

        assert (second.headers["price"], second.headers["share"]) == (19.99, 0.25)


class TestPublisher:
    """Our publisher."""

    def test_sends_headers_that_pika_refuses(self, channel, url):
        """A float is not a rare thing to have, and its neighbours are of sizes that a program received."""
        channel.queue_declare("q")
        # In the order of their names: the broker sorts them since 4.0.
        headers = {"odd": [Undecoded(b"\xff" * 8, b"T")], "short": Integer(7, b"s\x00\x07"), "weight": 2.5}

        with Publisher(url) as publisher:
            publisher.publish("", "q", b"", BasicProperties(headers=headers)).result(10)

        _, properties, _ = channel.basic_get("q", auto_ack=True)
        assert (properties.headers, write_table(properties.headers)) == (headers, write_table(headers))

    def test_says_what_amqp_has_no_type_for(self, url):
        """A number that is not finite would end the connection, and with it what others are publishing."""
        with Publisher(url) as publisher, pytest.raises(Unencodable) as error:
            publisher.publish("", "q", b"", BasicProperties(headers={"weight": [math.nan]}))

        assert str(error.value).startswith("AMQP 0-9-1 cannot carry a float that is not finite: not sent: a message of")


class TestConnection:
    """Our connections, beside pika's."""

    def test_sends_floats_as_arguments_and_headers(self, channel, drain):
        """pika knows no float: a binding by a weight could not be made with it."""
        channel.exchange_declare("by-weight", "headers")
        channel.queue_declare("q")
        channel.queue_bind("q", "by-weight", arguments={"x-match": "all", "weight": 2.5})

        channel.basic_publish("by-weight", "", b"light", BasicProperties(headers={"weight": 2.25}))
        channel.basic_publish("by-weight", "", b"right", BasicProperties(headers={"weight": 2.5}))

        assert drain("q") == [b"right"]

    def test_leaves_those_of_pika_as_they_are(self, channel, url):
        """A program has others beside ours, and counts on what they do."""
        channel.queue_declare("q")
        channel.basic_publish("", "q", b"", BasicProperties(headers={"weight": 2.5}))

        with closing(pika.BlockingConnection(pika.URLParameters(url))) as plain:
            _, properties, _ = plain.channel().basic_get("q", auto_ack=True)

        assert properties.headers == {"weight": 2}
        assert type(properties) is BasicProperties


class TestDecodeFrame:
    """Frames as objects of pika's."""

    @pytest.mark.parametrize("method", METHODS, ids=lambda method: method.NAME)
    def test_reads_each_method_that_has_a_table(self, method):
        """A foreign client may declare a queue with any argument; a proxy in between must not fail at it."""
        raw = frame.Method(1, ours(method)).marshal()

        consumed, found = decode_frame(raw)

        assert (consumed, TABLE in vars(found.method).values()) == (len(raw), True)
        assert isinstance(found.method, type(method))
        assert found.marshal() == raw

    def test_has_a_case_for_each_such_method(self):
        """A method that is forgotten is read by pika, and raises at the first odd argument."""
        with_table = {kind for kind in spec.methods.values() if "decode_table" in kind.decode.__code__.co_names}

        assert {type(method) for method in METHODS} == with_table
        assert len(with_table) == 9

    def test_refuses_a_table_larger_than_its_frame(self):
        """Where such a frame ends is not known, so its connection has to end."""
        properties = b"\x20\x00" + b"\x00\x00\x00\x09" + entry(b"V")
        raw = b"\x02\x00\x01" + (12 + len(properties)).to_bytes(4, "big") + b"\x00\x3c" + bytes(10) + properties

        with pytest.raises(ValueError, match="larger than its frame"):
            decode_frame(raw + b"\xce")

    def test_reads_a_table_amid_other_bytes(self):
        """It begins and ends where it is said, not where the bytes do."""
        assert read_table(b"??" + entry(b"t\x01") + b"??", 2, 6) == {"h": True}
