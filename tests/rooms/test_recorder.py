"""The recorder: what a connection said, in words, while its bytes pass untouched.

Code: rmqspec/tools/wire/recorder.py, rmqspec/tools/wire/fields.py
"""

import json
import struct

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame, spec

from rmqspec.client.decoding import Properties
from rmqspec.tools.wire import Direction, Proxy
from rmqspec.tools.wire.fields import properties_of
from rmqspec.tools.wire.recorder import Recorder

from .wire_values import entry, read

CLIENT, BROKER = Direction.FROM_CLIENT, Direction.FROM_BROKER
HEARTBEAT = frame.Heartbeat().marshal()


def method(it, channel=1):
    return frame.Method(channel, it).marshal()


def publish(body, channel=1, pieces=1, **properties):
    header = frame.Header(channel, len(body), Properties(**properties)).marshal()
    size = max(1, -(-len(body) // pieces))
    parts = [frame.Body(channel, body[at : at + size]).marshal() for at in range(0, len(body), size)]
    return method(spec.Basic.Publish(exchange="e", routing_key="k"), channel) + header + b"".join(parts)


def heard(*talk, **options):
    """What a recorder noted of these bytes of a client."""
    recorder = Recorder(**options)
    tap = recorder.tap(1, CLIENT)
    for data in talk:
        assert tap(data) == data
    return recorder.recording()


def methods(recording):
    return [event.method for event in recording.events]


@pytest.fixture
def recorded(broker):
    """A recorder before the broker of this run: (recorder, url of a vhost -> url past it)."""
    recorder = Recorder()
    with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
        proxy.taps = recorder.tap
        yield recorder, proxy.url


class TestRecorder:
    """Between a client and a broker."""

    def test_notes_a_real_conversation(self, recorded, broker, vhost):
        """The drawing of a lesson is made of this: whoever said what, in which order, on which channel."""
        recorder, past = recorded
        parameters = pika.URLParameters(past(broker.endpoint.url(vhost)))
        parameters.client_properties = {"connection_name": "a learner"}

        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            channel.queue_declare("q", durable=True)
            channel.basic_publish("", "q", b"hello", pika.BasicProperties(headers={"x": 1}))
            channel.basic_get("q", auto_ack=True)

        said = [(event.sender, event.method) for event in recorder.recording().events]
        assert said[:2] == [("broker", "connection.start"), ("client", "connection.start-ok")]
        told = {event.method: event for event in recorder.recording().events}
        assert (told["basic.get-ok"].body, told["basic.get-ok"].channel) == ("hello", 1)
        assert told["basic.publish"].fields["properties"] == {"headers": {"x": 1}}
        assert {event.connection for event in told.values()} == {"a learner"}

    def test_never_notes_a_login(self, recorded, broker, vhost):
        """A record is shown to people who may not enter the broker."""
        recorder, past = recorded
        pika.BlockingConnection(pika.URLParameters(past(broker.endpoint.url(vhost)))).close()
        tap = recorder.tap(9, CLIENT)
        tap(method(spec.Connection.UpdateSecret(new_secret="sesame", reason="it expires"), 0))
        tap(method(spec.Connection.SecureOk(response="sesame"), 0))

        told = {event.method: event.fields for event in recorder.recording().events}

        assert (told["connection.start-ok"], told["connection.secure-ok"]) == ({"mechanism": "PLAIN"}, {})
        assert broker.endpoint.password not in repr(recorder.recording())
        assert "sesame" not in repr(recorder.recording())

    @given(st.integers(1, 4000), st.binary(max_size=3000))
    @settings(deadline=None, max_examples=50)
    def test_makes_one_event_of_a_message(self, step, body):
        """Frames are how it travels, and TCP cuts these again: a reader wants to see one publish."""
        stream = publish(body, pieces=3, priority=4) + method(spec.Basic.Ack(7))

        recording = heard(*(stream[at : at + step] for at in range(0, len(stream), step)))

        first, second = recording.events
        assert (first.method, first.size, first.fields["properties"]) == ("basic.publish", len(body), {"priority": 4})
        assert (second.method, second.fields) == ("basic.ack", {"delivery_tag": 7})

    def test_keeps_the_messages_of_two_channels_apart(self):
        """Their frames may alternate: the body of one is not the other's."""
        one, two = publish(b"one", 1), publish(b"two", 2)
        cut = len(method(spec.Basic.Publish(exchange="e", routing_key="k")))

        recording = heard(one[:cut] + two[:cut] + one[cut:] + two[cut:])

        assert [(event.channel, event.body) for event in recording.events] == [(1, "one"), (2, "two")]

    @pytest.mark.parametrize(
        ("body", "shown"),
        [
            pytest.param(b"", "", id="nothing"),
            pytest.param("Grüße\n".encode(), "Grüße\n", id="text"),
            pytest.param(b"\x00\xff", "0x00ff", id="bytes"),
            pytest.param(b"x" + "ü".encode() * 150, "x" + "ü" * 99, id="text_that_is_cut_within_a_letter"),
            pytest.param(b"\xff" * 300, "0x" + "ff" * 200, id="many_bytes"),
        ],
    )
    def test_shows_the_beginning_of_a_body(self, body, shown):
        """Ten megabytes in a book help nobody, and bytes that are no text break the page."""
        (event,) = heard(publish(body)).events

        assert (event.body, event.size) == (shown, len(body))

    @pytest.mark.parametrize(
        ("wire", "shown"),
        [
            (b"d" + struct.pack(">d", 9.99), 9.99),
            (b"d" + struct.pack(">d", float("inf")), "inf"),
            (b"T" + (1795733469638).to_bytes(8, "big"), "T 0x000001a21a0e39c6"),
            (b"S\x00\x00\x00\x02h\xe9", "0x68e9"),
            (b"A\x00\x00\x00\x03b\x01V", [1, None]),
            (b"Z1234", "Z 0x31323334"),
        ],
        ids=["float", "infinity", "milliseconds", "latin_1", "list", "unknown_type"],
    )
    def test_shows_the_headers_of_foreign_clients(self, wire, shown):
        """A message that pika cannot read was left out, and its price was drawn without the cents."""
        recording = heard(publish(b"order", headers=read(entry(wire))))

        assert [event.fields["properties"] for event in recording.events] == [{"headers": {"h": shown}}]
        assert json.loads(json.dumps(shown)) == shown

    def test_shows_names_that_are_no_text(self):
        """A record is UTF-8, and would not be written with one of them in it."""
        entries = entry(b"V", b"caf\xe9") + entry(b"V") + entry(b"t\x01") + b"\xffhalf"

        (event,) = heard(publish(b"", headers=read(entries))).events

        assert [*event.fields["properties"]["headers"]] == ["0x636166e9", "h", "0x01687401", "0xff68616c66"]

    def test_leaves_out_the_middle_of_much(self):
        """A spec that publishes a million times is drawn by how it begins and ends; what is missing is said."""
        recording = heard(*(method(spec.Basic.Ack(tag)) for tag in range(1, 101)), kept=2)

        assert [event.fields["delivery_tag"] for event in recording.events] == [1, 2, 99, 100]
        assert recording.left_out == 96

    def test_leaves_out_heartbeats(self):
        """They come by the clock, so no two records of one spec would be alike."""
        assert methods(heard(HEARTBEAT + method(spec.Channel.Open()) + HEARTBEAT)) == ["channel.open"]

    def test_forgets_at_a_new_beginning(self):
        """Each test has its own recording, also of a connection that was there before."""
        recorder = Recorder()
        tap = recorder.tap(1, CLIENT)
        tap(method(spec.Channel.Open()))

        recorder.begin()
        tap(method(spec.Channel.CloseOk()))

        assert methods(recorder.recording()) == ["channel.close-ok"]
        assert recorder.recording().events[0].at < 60

    def test_numbers_connections_of_one_name(self):
        """Two consumers of a test have its name both; in a drawing they are two lines."""
        recorder = Recorder()
        for number in (1, 2):
            tap, _ = recorder.tap(number, CLIENT), recorder.tap(number, BROKER)
            properties = {"connection_name": "worker"}
            tap(method(spec.Connection.StartOk(client_properties=properties, response="secret"), 0))

        assert [event.connection for event in recorder.recording().events] == ["worker", "worker (2)"]

    @pytest.mark.parametrize(
        "noise",
        [
            pytest.param(b"\x16\x03\x01" + bytes(500), id="TLS"),
            pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
            pytest.param(b"\x01\x00\x01\x00\x00\x00\x04\x00\x63\x00\x63\xce", id="an_unknown_method"),
            pytest.param(b"\x02\x00\x01\x00\x00\x00\x01\x00\xce", id="half_a_header"),
            pytest.param(b"\x03\x00\x01\x00\x00\x00\x01\x00\xce", id="a_body_that_nobody_announced"),
        ],
    )
    def test_passes_what_it_cannot_read(self, noise):
        """The spec that sends nonsense to see the broker refuse it must reach the broker with it."""
        assert heard(noise, noise, b"").events == ()

    @given(st.lists(st.binary(max_size=200)))
    @settings(deadline=None)
    def test_returns_any_bytes_as_they_are(self, pieces):
        """A recorder that changes the run that it records is worse than none."""
        heard(*pieces)

    def test_goes_deaf_at_a_defect_of_its_own(self, monkeypatch):
        """An error in a tap would end the connection, and the spec would fail for something that the broker kept."""
        monkeypatch.setattr("rmqspec.tools.wire.recorder.name_of", lambda _: 1 / 0)

        assert heard(method(spec.Channel.Open()), method(spec.Channel.Open())).events == ()

    def test_gives_fields_that_json_carries(self):
        """AMQP knows times, bytes and infinities; JSON knows none of them."""
        table = {"bytes": b"\xff", "infinite": float("inf"), "nested": [{"deep": 1.5}], "long": "x" * 1000}

        fields = properties_of(spec.BasicProperties(headers=table))

        shown = json.loads(json.dumps(fields, allow_nan=False))["properties"]["headers"]
        assert (shown["bytes"], shown["infinite"], shown["nested"]) == ("0xff", "inf", [{"deep": 1.5}])
        assert shown["long"] == "x" * 200
