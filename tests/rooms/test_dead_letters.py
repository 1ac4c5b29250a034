"""Looking after failed orders: seen without being consumed, sent again without being lost, deleted when asked."""

import json
import time

import pytest
from pika import BasicProperties

from rmqspec.client.tables import Undecoded
from rmqspec.orders import REASON_HEADER, Failures, Worker, sample_orders
from rmqspec.orders.dead_letters import look, purge, replay
from rmqspec.tools.broker.endpoint import Endpoint
from rmqspec.tools.wire import Proxy


@pytest.fixture
def failed(orders, eventually):
    """Two orders that failed, and something that is no order, in `orders.failed`."""
    for order in sample_orders(2):
        orders.producer.publish(order)
    orders.channel.basic_publish("orders.direct", "order", b"nonsense")
    worker = orders.start(lambda source: Worker(source, failures=Failures(rate=1)))
    eventually(lambda: orders.depth("orders.failed"), 3)
    orders.halt(worker)
    return orders


class TestLook:
    """`look` and `rmqspec dead-letters list` and `show`."""

    def test_tells_order_and_reason(self, url, failed):
        """Ours where the message could not be read, the broker's where a worker rejected an order."""
        letters = look(url)

        assert [letter.order_id for letter in letters] == ["00-0001", "00-0002", "?"]
        assert [letter.reason for letter in letters][:2] == ["rejected", "rejected"]
        assert "Invalid JSON" in letters[2].reason == letters[2].properties.headers[REASON_HEADER]

    def test_leaves_everything_in_its_place(self, url, failed, eventually, drain):
        """Whoever only wants to know what is there must not change it."""
        first = look(url, limit=1)
        eventually(lambda: failed.depth("orders.failed"), 3)

        assert [letter.order_id for letter in first] == ["00-0001"]
        assert drain("orders.failed") == [*(order.to_json() for order in sample_orders(2)), b"nonsense"]

    def test_is_printed_as_a_list(self, run, failed):
        """Numbers are what the other commands take."""
        command = run("dead-letters", "list")

        assert command.ends() == 0
        assert "3 dead letters" in command.output
        assert [line.split("│")[2].strip() for line in command.output.splitlines() if "rejected" in line] == [
            "00-0001",
            "00-0002",
        ]

    def test_shows_one_with_its_history(self, run, failed):
        """Where it died, how often, and what was in it: all that is needed to find the cause."""
        command = run("dead-letters", "show", "2")

        assert command.ends() == 0
        shown = json.loads(command.output)
        assert (shown["order"], shown["headers"]["x-death"][0]["queue"]) == ("00-0002", "orders")

    def test_tells_the_cause_beside_the_brokers_rejected(self, run, failed):
        """A reject carries no reason. Our worker rejects an order that it can read for one cause alone."""
        listed = run("dead-letters", "list")

        assert listed.ends() == 0
        assert [line.split("│")[3].strip() for line in listed.lines if "rejected" in line] == [
            "rejected: simulated failure"
        ] * 2

    def test_reads_in_a_narrow_terminal(self, run, failed):
        """In 40 columns a table of six is a heap of syllables."""
        listed = run("dead-letters", "list", COLUMNS="40")

        assert listed.ends() == 0
        assert listed.lines[:2] == [" 1  00-0001", "    rejected: simulated failure"]
        assert listed.lines[3] == f"    {len(next(sample_orders(1)).to_json())} bytes"


class TestReplay:
    """`replay`."""

    def test_fails_for_a_number_that_is_not_there(self, run, failed, eventually):
        """A script that replays one order must hear that there was none."""
        command = run("dead-letters", "replay", "2", "999")

        assert command.ends() == 1
        assert command.lines == [
            "rmqspec: there is no dead letter number 999, or none within the limit", "1 sent again",
        ]  # fmt: skip
        eventually(lambda: failed.depth("orders.failed"), 2)

    def test_sends_only_the_chosen_again(self, url, failed, eventually):
        """One order can be tried before all are."""
        assert replay(url, numbers={2}) == 1

        eventually(lambda: (failed.depth("orders"), failed.depth("orders.failed")), (1, 2))
        assert [letter.order_id for letter in look(url)] == ["00-0001", "?"]

    def test_counts_how_often(self, url, failed, receive):
        """An order that comes back for the fifth time will not succeed at the sixth."""
        replay(url, limit=1)
        replay(url, limit=0)

        (again,) = receive("orders")

        assert again.properties.headers["replays"] == 1
        assert "x-death" not in again.properties.headers

    def test_is_a_command_too(self, run, failed):
        """With no number it takes all that are there."""
        command = run("dead-letters", "replay")

        assert command.ends() == 0
        assert "3 sent again" in command.output


class TestOddDeadLetter:
    """A dead letter as a foreign program may have written it, and an ordinary one behind it."""

    @pytest.fixture(
        params=[
            {"headers": {"x-death": "twice", "replays": "two", "attempts": "many", "attempt-reasons": [1, 2]}},
            {"headers": {"x-death": ["once", {"queue": "orders", "time": "yesterday", "reason": 7}]}},
            {"headers": {"rejection-reason": ["a", {"list": None}], "weight": 1.5, b"caf\xe9": b"\xff"}},
            {"message_id": b"caf\xe9"},
            {"headers": {"sent": Undecoded((1_700_000_000_000).to_bytes(8, "big"), b"T")}},
            {"headers": {"trace": "x" * 131_000}},
        ],
        ids=["texts", "entries", "other_types", "id_in_latin_1", "milliseconds", "full_headers"],
    )
    def odd(self, request, orders, channel):
        for body, properties in ((b"odd", request.param), (b"ordinary", {})):
            channel.basic_publish("orders.dlx", "", body, BasicProperties(**properties))

    def test_is_listed_and_shown_with_the_others(self, run, orders, odd, eventually):
        """One such message ended list, show and replay with a traceback, and nobody could look at any other."""
        listed = run("dead-letters", "list")
        assert listed.ends() == 0
        eventually(lambda: orders.depth("orders.failed"), 2)
        shown = run("dead-letters", "show", "1")

        assert shown.ends() == 0
        assert "2 dead letters" in listed.output
        assert json.loads(shown.output)["body"] == "odd"

    def test_holds_up_no_replay(self, run, url, odd, receive):
        """What cannot be published again stays among the dead letters, and is told with its number."""
        replayed = run("dead-letters", "replay")

        code = replayed.ends()

        assert [delivery.body for delivery in receive("orders", 1 if code else 2)][-1] == b"ordinary"
        left = len(look(url))
        assert (code, left) in ((0, 0), (1, 1)), replayed.output
        assert ("number 1 stays where it is" in replayed.output) == bool(left)


class TestPrintedText:
    """What somebody else has written, in a terminal."""

    def test_is_no_markup(self, run, channel, orders):
        """An order named `[/A1]` was a traceback, and one named `[red]A2` was shown as A2."""
        for order_id in ("[/A1]", "[red]A2", "A3\x1b[2J\u202e"):
            order = next(sample_orders(1)).model_copy(update={"order_id": order_id})
            channel.basic_publish("orders.dlx", "", order.to_json())

        listed = run("dead-letters", "list")

        assert listed.ends() == 0
        shown = [line.split("│")[2].strip() for line in listed.lines if line.startswith("│")]
        assert shown == ["[/A1]", "[red]A2", "A3\\x1b[2J\\u202e"]

    def test_moves_no_cursor_in_json(self, run, channel, orders):
        """JSON escapes the first 32 characters only: C1 controls and those that turn the text round it leaves."""
        headers = {"\x9bname": "Zoë\x9b31m\u202e", "list": [b"\x1b[2J"]}
        channel.basic_publish("orders.dlx", "", b"\xc2\x9b", BasicProperties(headers=headers))

        shown = run("dead-letters", "show", "1")

        assert shown.ends() == 0
        assert json.loads(shown.output)["headers"] == {"\\x9bname": "Zoë\\x9b31m\\u202e", "list": ["\\x1b[2J"]}
        assert json.loads(shown.output)["body"] == "\\x9b"


class TestLostConnection:
    """The broker goes while dead letters are read."""

    def test_is_one_sentence(self, url, orders, channel, run):
        """A traceback about closing what is closed already hid what had happened."""
        for _ in range(100):
            channel.basic_publish("orders.dlx", "", b"x" * 100)
        at = Endpoint.parse(url)
        with Proxy(at.host, at.port) as proxy:
            proxy.drop_after(5000)
            listed = run("dead-letters", "list", RABBITMQ_URL=proxy.url(url))

            assert listed.ends() == 1

        assert listed.lines == [
            "rmqspec: reading 'orders.failed': the connection to the broker was lost; is it still running?"
        ]

    def test_holds_up_no_ctrl_c(self, url, failed):
        """For half a minute it waited for an answer to its goodbye, and then said that instead."""
        at = Endpoint.parse(url)

        class Interrupted:
            def __contains__(self, _):
                proxy.half_open()
                raise KeyboardInterrupt

        with Proxy(at.host, at.port) as proxy:
            begin = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                replay(proxy.url(url), numbers=Interrupted())

        assert time.monotonic() - begin < 10


class TestPurge:
    """`purge`."""

    def test_deletes_what_is_there(self, url, failed):
        """And says how many, so that nobody wonders."""
        assert purge(url) == 3

        assert failed.depth("orders.failed") == 0

    def test_asks_before_it_deletes(self, run, failed):
        """There is no way back: without an answer nothing happens."""
        command = run("dead-letters", "purge")

        assert command.ends() == 1
        assert failed.depth("orders.failed") == 3
        assert run("dead-letters", "purge", "--yes").ends() == 0
