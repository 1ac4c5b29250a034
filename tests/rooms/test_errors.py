"""The errors of the client: which of them are worth another attempt.

Code: rmqspec/client/errors.py
"""

import pickle
from copy import copy

import pytest
from pika import BasicProperties

from rmqspec.client import errors
from rmqspec.client.errors import ChannelClosed, ClientError, ConnectionLost, OutcomeUnknown, PublishFailed
from rmqspec.client.message import Message

MESSAGE = Message("", "work", b"an order", BasicProperties())


class TestPermanent:
    """`ClientError.permanent`: a service that tries a permanent failure again does so for ever."""

    @pytest.mark.parametrize("code", [403, 404, 406])
    def test_is_true_for_a_refusal(self, code):
        """The broker compares the same request with the same rules; only a person changes one of them."""
        assert ChannelClosed("refused", code, "the broker's words").permanent

    @pytest.mark.parametrize("code", [0, 320, 405, 506, 541])
    def test_is_false_for_what_passes(self, code):
        """A restart, a lock or trouble inside the broker ends by itself."""
        assert not ClientError("passes", code, "the broker's words").permanent

    def test_is_false_for_a_lost_connection_whatever_its_code(self):
        """The code says which message the broker did not like, and that may have been another one."""
        assert not ConnectionLost("lost", 501, "FRAME_ERROR").permanent
        assert not OutcomeUnknown("unknown", MESSAGE, 406, "PRECONDITION_FAILED").permanent

    @pytest.mark.parametrize(
        ("name", "permanent"),
        [
            ("Unencodable", True),
            ("Nacked", False),
            ("NotSent", False),
            ("WindowFull", False),
            ("OutcomeUnknown", False),
        ],
    )
    def test_is_said_of_each_failed_publish(self, name, permanent):
        """A message that cannot be sent at all must not be kept for later; one that met a full queue must be."""
        assert getattr(errors, name)("failed", MESSAGE).permanent is permanent

    def test_is_true_for_a_returned_message(self):
        """Nobody has bound a queue for it, and the next attempt finds none either."""
        assert errors.Returned("no queue", MESSAGE, 312, "NO_ROUTE").permanent

    @pytest.mark.parametrize(("text", "permanent"), [("vhost x not found", True), ("connection limit (2) is", False)])
    def test_is_false_at_a_limit_of_connections(self, text, permanent):
        """530 is said of a missing vhost and of a limit: of the two only the limit passes."""
        assert errors.VhostRefused("refused", 530, text).permanent is permanent


class TestCopy:
    """An error that goes on: to one more caller, or to another process."""

    @pytest.mark.parametrize("again", [copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
    @pytest.mark.parametrize("name", ["PublishRefused", "Nacked", "OutcomeUnknown", "Unencodable"])
    def test_is_the_same_error(self, name, again):
        """A worker of `multiprocessing` whose error cannot be read at the other end takes the whole pool with it."""
        twin = again(getattr(errors, name)("failed", MESSAGE, 404, "NOT_FOUND"))

        assert (type(twin).__name__, twin.message.body, twin.reply_code) == (name, b"an order", 404)
        assert str(twin).startswith("failed: a message of 8 bytes")


class TestPublishRefused:
    """The error of a message that the broker refused."""

    def test_is_a_failed_publish_and_a_closed_channel(self):
        """Code that waits for either of them goes on to work."""
        error = errors.PublishRefused("the broker refused it", MESSAGE, 404, "NOT_FOUND")

        assert (isinstance(error, PublishFailed), isinstance(error, ChannelClosed)) == (True, True)
        assert (error.message, error.reply_code, error.reply_text) == (MESSAGE, 404, "NOT_FOUND")
