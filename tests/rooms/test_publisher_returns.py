"""Returned messages: a return names no delivery tag, so it is matched by all that distinguishes two messages.

Code: rmqspec/client/returns.py, rmqspec/client/publisher.py
"""

import pytest
from pika import BasicProperties, spec

from rmqspec.client import Publisher, persistent
from rmqspec.client.errors import Returned
from rmqspec.client.message import Message
from rmqspec.client.returns import returned_one
from rmqspec.client.sent import Sent

from .holding import held

SHAPE = (1, 131_064)


class TestReturn:
    """A message told confirmed that was returned is lost, and nobody knows."""

    @pytest.fixture(autouse=True)
    def topology(self, channel):
        channel.queue_declare("q", durable=True)
        channel.queue_bind("q", "amq.headers", "", {"x-match": "all", "kind": "wanted"})

    def test_belongs_to_the_message_with_its_headers(self, url, drain):
        """On a headers exchange the headers alone decide whether there is a queue."""
        kinds = ["wanted", "unknown", "unknown", "wanted"] * 25

        with Publisher(url) as publisher:
            futures = [
                publisher.publish("amq.headers", "", b"ping", persistent(headers={"kind": kind})) for kind in kinds
            ]
            assert publisher.flush(10)

        outcomes = [isinstance(future.exception(0), Returned) for future in futures]
        assert outcomes == [kind == "unknown" for kind in kinds]
        assert len(drain("q")) == 50

    def test_without_headers_belongs_to_the_oldest(self, url):
        """An empty table comes back from RabbitMQ 4.3 as none: then the return of one message was another one's."""
        with Publisher(url) as publisher:
            with held(publisher):
                futures = [
                    publisher.publish("amq.headers", "", b"ping", persistent(headers=headers, message_id=name))
                    for name in (None, "m-1")
                    for headers in ({}, None, {})
                ]
            assert [type(future.exception(10)) for future in futures] == [Returned] * 6

        frames = [Sent(Message("", "q", b"", persistent(headers=headers)), SHAPE).frames for headers in ({}, None)]
        assert frames[0] == frames[1]

    @pytest.mark.parametrize(
        ("one", "other"),
        [(0.25, 0.5), (1, 1.0), (b"\xff", b"\xfe"), ({"a": [1]}, {"a": [2]}), (None, False)],
        ids=["floats", "types", "bytes", "nested", "nothing"],
    )
    def test_belongs_to_the_message_with_that_very_value(self, url, one, other):
        """Of two values that a client's decoder makes equal, the broker has compared the bytes."""
        with Publisher(url) as publisher:
            with held(publisher):
                futures = [
                    publisher.publish("amq.headers", "", b"ping", persistent(headers={"kind": "wanted", "v": value}))
                    if value is one
                    else publisher.publish("amq.headers", "", b"ping", persistent(headers={"v": value}))
                    for value in (one, other)
                ]
            assert [type(future.exception(10)) for future in futures] == [type(None), Returned]

        sent = [Sent(Message("", "q", b"", persistent(headers={"v": value})), SHAPE) for value in (one, other)]
        answer = spec.Basic.Return(312, "NO_ROUTE", "", "q")
        assert returned_one(sent, answer, persistent(headers={"v": other}), b"") is sent[1]

    def test_never_belongs_to_a_message_that_was_not_mandatory(self, url):
        """The broker drops those in silence, and only the mandatory one comes back."""
        with Publisher(url) as publisher:
            pairs = [
                (
                    publisher.publish("", "nobody", b"ping", mandatory=False),
                    publisher.publish("", "nobody", b"ping", mandatory=True),
                )
                for _ in range(50)
            ]
            assert publisher.flush(10)

        for dropped, returned in pairs:
            assert dropped.exception(0) is None
            assert isinstance(returned.exception(0), Returned)

    def test_belongs_to_the_message_that_was_published_so(self, url):
        """A caller may use one properties object for all of its messages, and change it in between."""
        properties = BasicProperties(headers={"kind": "unknown"})

        with Publisher(url) as publisher:
            first = publisher.publish("amq.headers", "", b"ping", properties)
            properties.headers = {"kind": "wanted"}
            second = publisher.publish("amq.headers", "", b"ping", properties)
            assert publisher.flush(10)

        assert isinstance(first.exception(0), Returned)
        assert second.exception(0) is None

    @pytest.mark.parametrize("field", ["correlation_id", "reply_to", "type", "app_id", "content_type"])
    def test_belongs_to_the_message_with_its_properties(self, field):
        """Two requests with one body differ in nothing but their correlation id."""
        messages = [BasicProperties(**{field: value}) for value in ("a", "b")]
        sent = [Sent(Message("", "q", b"", properties), SHAPE) for properties in messages]

        assert returned_one(sent, spec.Basic.Return(312, "NO_ROUTE", "", "q"), messages[1], b"") is sent[1]

    def test_without_its_bcc_header_finds_its_message(self, url):
        """The broker strips BCC, which is secret; the message is no other for that."""
        with Publisher(url) as publisher:
            plain = publisher.publish("", "nobody", b"ping", persistent(headers={"a": 1}))
            secret = publisher.publish("", "nobody", b"ping", persistent(headers={"a": 2, "BCC": ["nobody either"]}))
            assert publisher.flush(10)

        assert [type(future.exception(0)) for future in (plain, secret)] == [Returned, Returned]

    def test_belongs_to_the_message_without_bcc(self, url):
        """What differs in BCC alone looks the same when it comes back; but BCC adds queues, and takes none away."""
        with Publisher(url) as publisher:
            for bcc in (["q"], ["nobody either"]):
                with held(publisher):
                    secret, plain = (
                        publisher.publish("", "nobody", b"ping", persistent(headers=headers))
                        for headers in ({"BCC": bcc}, None)
                    )
                assert type(plain.exception(10)) is Returned
                assert type(secret.exception(10)) is (type(None) if bcc == ["q"] else Returned)

    def test_belongs_to_the_message_with_its_bcc_by_an_id(self, url):
        """Two that differ in BCC alone cannot be told apart by what comes back, so each has a name."""
        with Publisher(url) as publisher, held(publisher):
            futures = [
                publisher.publish("", "nobody", b"ping", persistent(message_id=f"m-{bcc}", headers={"BCC": [bcc]}))
                for bcc in ("q", "nobody")
            ]

        assert [type(future.exception(10)) for future in futures] == [type(None), Returned]

    def test_passes_over_what_cannot_have_come_back(self):
        """One that was not mandatory, and one with a BCC header more than another."""
        answer = spec.Basic.Return(312, "NO_ROUTE", "", "q")
        dropped, mandatory = (Sent(Message("", "q", b"", BasicProperties(), flag), SHAPE) for flag in (False, True))
        plain = Sent(Message("", "q", b"", BasicProperties(headers={"a": 1})), SHAPE)
        secret = Sent(Message("", "q", b"", BasicProperties(headers={"a": 2, "BCC": ["x"]})), SHAPE)

        assert returned_one([dropped, mandatory], answer, BasicProperties(), b"") is mandatory
        assert returned_one([plain, secret], answer, BasicProperties(headers={"a": 2}), b"") is secret

    def test_is_never_dropped(self):
        """What a broker between here and there has added to the headers is no reason to call the message confirmed."""
        sent = [
            Sent(Message("", "q", b"", BasicProperties(headers={"a": number}, app_id="shop")), SHAPE)
            for number in (1, 2)
        ]
        routed = BasicProperties(headers={"a": 2, "x-routed-by": "node"}, app_id="shop")
        changed = BasicProperties(app_id="another")
        answer = spec.Basic.Return(312, "NO_ROUTE", "", "q")

        assert returned_one(sent, answer, routed, b"") is sent[1]
        assert returned_one(sent, answer, changed, b"") is sent[0]
        assert returned_one(sent, answer, changed, b"another body") is None

    def test_belongs_to_the_oldest_of_equal_messages(self):
        """Returns come in the order of publishing, and of equal ones each takes the next."""
        sent = [Sent(Message("", "q", b"", BasicProperties()), SHAPE) for _ in range(2)]
        answer = spec.Basic.Return(312, "NO_ROUTE", "", "q")

        first = returned_one(sent, answer, BasicProperties(), b"")
        first.returned = answer

        assert (first, returned_one(sent, answer, BasicProperties(), b"")) == (sent[0], sent[1])
