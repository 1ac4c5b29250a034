"""Trying again later: the retry ladder, and what becomes of an order on it."""

import signal
import threading

import pytest
from pika import BasicProperties

from rmqspec.client import Consumer, Outcome, Publisher, RetryLadder
from rmqspec.client.retry import ATTEMPTS_HEADER, HISTORY_HEADER
from rmqspec.orders import replay, sample_orders
from rmqspec.orders.dead_letters import look


@pytest.fixture
def ladder(channel):
    """Two steps of a millisecond or two; after them a message is parked in `parked`."""
    ladder = RetryLadder("work", parking="parking", delays=(0.001, 0.002))
    channel.queue_declare("work", durable=True)
    channel.exchange_declare("parking", "fanout", durable=True)
    channel.queue_declare("parked", durable=True)
    channel.queue_bind("parked", "parking")
    return ladder


@pytest.fixture
def attempts(url, ladder):
    """The attempts of a consumer that never succeeds, as it makes them."""
    made = []

    def handler(delivery):
        made.append(delivery.body)
        return Outcome.RETRY

    with Publisher(url) as publisher:
        retry = lambda delivery: ladder.climb(publisher, delivery, f"attempt {len(made)}")  # noqa: E731
        consumer = Consumer(url, "work", handler, retry=retry, topology=ladder.topology())
        thread = threading.Thread(target=consumer.run)
        thread.start()
        yield made
        consumer.stop()
        thread.join()


class TestRetryLadder:
    """A delivery whose outcome is RETRY."""

    def test_comes_back_after_each_step_and_is_parked(self, channel, attempts, receive):
        """Each attempt leaves its reason, so that whoever looks at the parked message knows them all."""
        channel.basic_publish("", "work", b"a hard one")

        (parked,) = receive("parked")

        assert (attempts, parked.body) == ([b"a hard one"] * 3, b"a hard one")
        assert parked.properties.headers[ATTEMPTS_HEADER] == 3
        assert parked.properties.headers[HISTORY_HEADER] == ["attempt 1", "attempt 2", "attempt 3"]

    def test_waits_in_a_queue_of_its_delay(self, ladder):
        """In one queue for all delays, a message that waits a minute would hold up those behind it."""
        queues = {queue.name: queue.arguments["x-message-ttl"] for queue in ladder.topology().queues}

        assert queues == {"work.retry.0.001s": 1, "work.retry.0.002s": 2}

    def test_is_an_error_without_a_policy(self, url, channel, drain):
        """A retry that nobody carries out would be an ack for work that was not done."""
        channel.queue_declare("work", durable=True)
        channel.basic_publish("", "work", b"kept")

        with pytest.raises(ValueError, match="no policy"):
            Consumer(url, "work", lambda _: Outcome.RETRY).run()

        assert drain("work") == [b"kept"]

    @pytest.mark.parametrize(
        "count", [-3, "many", None, True, 2**63 - 1], ids=["negative", "word", "nothing", "boolean", "beyond_all"]
    )
    def test_counts_from_the_start_without_a_count(self, channel, attempts, receive, count):
        """Headers are written by strangers too: one that cannot be read must not end the consumer, again and again."""
        headers = {ATTEMPTS_HEADER: count, HISTORY_HEADER: [1, count]}
        channel.basic_publish("", "work", b"a strange one", BasicProperties(headers=headers))

        (parked,) = receive("parked")

        assert (len(attempts), parked.properties.headers[ATTEMPTS_HEADER]) == (3, 3)
        assert parked.properties.headers[HISTORY_HEADER] == ["attempt 1", "attempt 2", "attempt 3"]


class TestRetryOption:
    """`rmqspec demo worker --retry`, and what is seen of it in the dead letters."""

    @pytest.fixture
    def poison(self, orders, run):
        """An order that a worker has tried twice, on the command line, and parked."""
        orders.producer.publish(*sample_orders(1))
        worker = run("demo", "worker", "--failure-rate", "1", "--work-time", "0", "--retry", "0.02")
        worker.waits_for("parked it")
        assert worker.ends(signal.SIGTERM) == 0
        return worker

    def test_tells_what_becomes_of_an_order(self, poison):
        """Whoever watches a worker sees that an order is not lost while nobody has it."""
        assert [line.split(maxsplit=1)[1] for line in poison.lines if "try it" in line or "parked it" in line] == [
            "will try it again in 0.02 s",
            "parked it in orders.failed for a person",
        ]

    def test_shows_attempts_and_reasons_in_the_list(self, run, poison):
        """A person decides by them whether to send an order again; the header itself is 40 lines of JSON."""
        listed = run("dead-letters", "list")

        assert listed.ends() == 0
        (row,) = [line for line in listed.lines if "00-0001" in line]
        assert [cell.strip() for cell in row.split("│")[2:5]] == ["00-0001", "simulated failure (x2)", "2"]

    def test_begins_anew_after_a_replay(self, url, poison, receive):
        """Whoever sends an order again has removed the cause; with its old count one failure more would end it."""
        replay(url)

        (again,) = receive("orders")
        assert again.properties.headers == {
            "replays": 1,
            "original-exchange": "orders.direct",
            "original-routing-key": "order",
        }

    def test_tells_a_full_queue_from_the_last_step(self, url, channel, orders):
        """What the broker did to an order last is why it is there, also where it had been tried before."""
        headers = {ATTEMPTS_HEADER: 1, HISTORY_HEADER: ["simulated failure"]}
        channel.basic_publish("orders.direct", "order", b"tried before", BasicProperties(headers=headers))
        channel.basic_reject(channel.basic_get("orders")[0].delivery_tag, requeue=False)

        (letter,) = look(url)

        assert (letter.reason, letter.attempts) == ("rejected", 1)

    @pytest.mark.parametrize(
        ("words", "complaint"),
        [("1,soon", "'soon' is not a valid number"), ("0", "0.0 is not in the range")],
        ids=["no_number", "no_time"],
    )
    def test_takes_times_only(self, run, words, complaint):
        """A pause of nothing would be the spinning that the ladder is there to end."""
        worker = run("demo", "worker", "--retry", words)

        assert (worker.ends(), complaint in worker.output) == (2, True)
