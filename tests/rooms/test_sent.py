"""The future of a message: it behaves as the standard library's, though it shares its lock with all others."""

import threading
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait

import pytest
from pika import BasicProperties

from rmqspec.client.encoding import frames
from rmqspec.client.errors import Nacked, Unencodable
from rmqspec.client.message import Confirmed, Message
from rmqspec.client.sent import Sent

MESSAGE = Message("", "work", b"an order", BasicProperties())


@pytest.fixture
def sent():
    return Sent(MESSAGE, (1, 4096))


class TestReshape:
    """`Sent.reshape`: the same message for another channel."""

    @pytest.mark.parametrize("size", [0, 1, 20_000])
    def test_makes_the_frames_of_that_channel(self, size):
        """A frame for the last channel is 504, and costs the connection of all others."""
        properties = BasicProperties(content_type="text/plain", headers={"a": 1})
        message = Message("x", "key", b"b" * size, properties)
        sent = Sent(message, (1, 4096))

        sent.reshape((7, 8192))

        assert b"".join(sent.frames) == b"".join(frames(message, 7, 8192))

    def test_keeps_what_was_published(self):
        """A caller who uses one properties object for all messages changes it before the connection is back."""
        properties = BasicProperties(headers={"number": 1})
        first = Message("x", "key", b"1", properties)
        sent, expected = Sent(first, (1, 4096)), b"".join(frames(first, 2, 4096))
        properties.headers = {"number": 2}

        sent.reshape((2, 4096))

        assert b"".join(sent.frames) == expected

    def test_raises_where_the_headers_do_not_fit(self):
        """Another broker of the cluster may allow smaller frames."""
        sent = Sent(Message("", "q", b"", BasicProperties(headers={"a": "x" * 5_000})), (1, 131_064))

        with pytest.raises(Unencodable, match="its headers need more than one frame"):
            sent.reshape((1, 4_088))


class TestSent:
    """Waiting for an answer, in each of the ways that there are."""

    def test_waits_as_long_as_it_was_told(self, sent):
        """No answer is not the answer that the message is lost."""
        for ask in (sent.result, sent.exception):
            with pytest.raises(TimeoutError):
                ask(timeout=0.01)

        assert not sent.done()

    @pytest.mark.parametrize("waiting", [1, 16], ids=["one_thread", "sixteen_threads"])
    def test_wakes_all_that_wait_for_it(self, sent, waiting):
        """Others that share the lock are answered meanwhile, and that must wake nobody here."""
        seen, other = [], Sent(MESSAGE, (1, 4096))
        threads = [threading.Thread(target=lambda: seen.append(sent.result(10))) for _ in range(waiting)]
        for thread in threads:
            thread.start()

        other.set_result(Confirmed(MESSAGE._replace(body=b"another")))
        sent.set_result(Confirmed(MESSAGE))
        for thread in threads:
            thread.join(10)

        assert seen == [Confirmed(MESSAGE)] * waiting

    def test_raises_what_became_of_it(self, sent):
        """Whoever asks late is told the same."""
        sent.set_exception(Nacked("a queue rejected it", MESSAGE))

        with pytest.raises(Nacked, match="a queue rejected it"):
            sent.result()
        assert isinstance(sent.exception(), Nacked)

    def test_may_be_waited_for_with_other_futures(self, sent):
        """The standard library's own functions take it for what it is, beside those with a lock of their own."""
        other, third = Future(), Sent(MESSAGE, (1, 4096))
        threading.Timer(0.01, lambda: sent.set_result(Confirmed(MESSAGE))).start()

        first = wait([other, sent, third], timeout=10, return_when=FIRST_COMPLETED).done
        other.set_result(None)
        third.set_result(Confirmed(MESSAGE))

        assert first == {sent}
        assert set(as_completed([other, sent, third], timeout=10)) == {other, sent, third}
