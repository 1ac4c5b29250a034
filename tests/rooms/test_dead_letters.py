"""Looking after failed orders: seen without being consumed, sent again without being lost, deleted when asked."""

import json

import pytest

from rmqspec.orders import REASON_HEADER, Failures, Worker, sample_orders
from rmqspec.orders.dead_letters import look, purge, replay


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


class TestReplay:
    """`replay`."""

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
