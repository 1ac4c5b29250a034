"""Which message a refusal means: what the broker's text says of it, without a broker.

Code: rmqspec/client/refused_messages.py
"""

import pytest
from pika import BasicProperties

from rmqspec.client.message import Message
from rmqspec.client.refused_messages import suspects
from rmqspec.client.sent import Sent

SHAPE = (1, 131_064)


class TestSuspects:
    """`suspects`: what a text says of the messages."""

    def sent(self, exchange="", key="q", body=b"", **properties):
        return Sent(Message(exchange, key, body, BasicProperties(**properties)), SHAPE)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("NOT_FOUND - no exchange 'it's' in vhost 'v'", {"exchange": "it's"}),
            ("ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost 'v'", {"exchange": "x"}),
            ("ACCESS_REFUSED - access to exchange 'x' in vhost 'v' refused for user 'u'", {"exchange": "x"}),
            ("ACCESS_REFUSED - write access to exchange 'x' in vhost 'v' refused for user 'u'", {"exchange": "x"}),
            ("ACCESS_REFUSED - write access to exchange 'amq.default' in vhost 'v' refused for user 'u'", {}),
            (
                "ACCESS_REFUSED - write access to topic 'a.b' in exchange 'x' in vhost 'v' refused for user 'u'",
                {"exchange": "x", "key": "a.b"},
            ),
            ("PRECONDITION_FAILED - invalid expiration '5 ': {leftover_string,\" \"}", {"expiration": "5 "}),
            (
                "PRECONDITION_FAILED - user_id property set to 'al'ice' but authenticated user was 'guest'",
                {"user_id": "al'ice"},
            ),
            ("PRECONDITION_FAILED - message size 20 is larger than configured max size 10", {"body": bytes(20)}),
            ("PRECONDITION_FAILED - invalid message: {delivery_mode_unknown,7}", {"delivery_mode": 7}),
            ("PRECONDITION_FAILED - fast reply consumer does not exist", {"reply_to": "amq.rabbitmq.reply-to"}),
            (
                'PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}',
                {"headers": {"CC": "q"}},
            ),
        ],
    )
    def test_are_those_that_the_text_describes(self, text, message):
        """The texts are the broker's own, of 3.10, 4.0 and 4.3."""
        others = [
            self.sent("other", "other", b"other", expiration="5", user_id="guest", delivery_mode=2),
            self.sent("other", "other", bytes(200), headers={"CC": ["q"]}),
        ]

        assert suspects(text, [others[0], self.sent(**message), others[1], self.sent(**message)]) == [1, 3]

    def test_are_none_if_the_text_says_nothing(self):
        """Then it is not known, and a guess would end the wrong one."""
        assert suspects("INTERNAL_ERROR", [self.sent(), self.sent("x")]) == []

    def test_are_found_in_a_text_that_was_shortened(self):
        """A text has room for 255 bytes, and a long value fills it."""
        value = "x" * 250
        text = f"PRECONDITION_FAILED - invalid expiration '{value}"[:252] + "..."

        assert suspects(text, [self.sent(expiration="y" * 250), self.sent(expiration=value)]) == [1]

    def test_are_seen_as_they_were_published(self):
        """A caller who changes a properties object for the next message changes it in all that share it."""
        properties = BasicProperties(expiration="soon")
        sent = Sent(Message("", "q", b"", properties), SHAPE)
        properties.expiration = "5000"

        assert suspects("PRECONDITION_FAILED - invalid expiration 'soon': no_integer", [sent]) == [0]
