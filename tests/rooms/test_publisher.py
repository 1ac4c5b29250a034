"""The publisher's edges: what cannot be sent is told at once, to whoever sent it, and harms nobody else."""

import pytest
from pika import BasicProperties

from rmqspec.client import Publisher
from rmqspec.client.errors import Unencodable


class TestPublish:
    """Handing a message over."""

    @pytest.mark.parametrize(
        ("key", "properties", "body", "words"),
        [
            ("k" * 256, {}, b"", "of more than 255 bytes"),
            ("key", {"message_id": 7}, b"", "non-string value was supplied for self.message_id"),
            ("key", {"priority": 256}, b"", "one of its properties"),
            ("key", {"headers": {"at": object()}}, b"", "a header of type object"),
            ("key", {"headers": {"note": "n" * 200_000}}, b"", "its headers need more than one frame"),
            ("key", {}, "text", "the body is of type str, not bytes"),
        ],
        ids=["long_key", "number_as_text", "large_priority", "foreign_header", "long_headers", "text_body"],
    )
    def test_tells_its_caller_what_amqp_cannot_carry(self, url, bound_queue, drain, key, properties, body, words):
        """Encoded in the I/O thread instead, one such message would end the connection under all the others."""
        queue = bound_queue("amq.direct", "order")

        with Publisher(url) as publisher:
            with pytest.raises(Unencodable, match=words) as error:
                publisher.publish("amq.direct", key, body, BasicProperties(**properties))
            publisher.publish("amq.direct", "order", b"the next").result(10)

        assert error.value.message.routing_key == key
        assert drain(queue) == [b"the next"]

    def test_cannot_be_called_back(self, url, bound_queue, drain):
        """A future that pretended to be cancelled would hide that the broker has the message."""
        queue = bound_queue("amq.direct", "order")

        with Publisher(url) as publisher:
            future = publisher.publish("amq.direct", "order", b"on its way")
            cancelled = future.cancel()

        assert (cancelled, future.result(0).message.body) == (False, b"on its way")
        assert drain(queue) == [b"on its way"]

    @pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 300_000], ids=["none", "one", "full", "more", "three"])
    def test_frames_a_body_of_any_size(self, url, bound_queue, drain, size):
        """The negotiated frame holds 131,064 bytes of body; one more byte begins a second frame."""
        queue, body = bound_queue("amq.direct", "order"), bytes(range(256)) * (size // 256) + b"x" * (size % 256)

        with Publisher(url) as publisher:
            publisher.publish("amq.direct", "order", body).result(10)

        assert drain(queue) == [body]
