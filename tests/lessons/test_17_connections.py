"""Connection reliability: what is left when a connection ends without a word.

A cable is pulled, a firewall forgets, a broker loses its power: nobody says goodbye. Each side may believe for a long
time that the other is there, so both send heartbeats, and whoever misses them gives up. What a client had not
acknowledged goes back to its queue; what the broker had not confirmed may have arrived, or not.

Our clients connect again by themselves. A producer of the order system hears of each order what became of it; a worker
sees some orders twice, and none is missing.

Spec: https://www.rabbitmq.com/docs/heartbeats
Code: rmqspec/client/link.py, rmqspec/client/publisher.py, rmqspec/client/consumer.py, rmqspec/tools/wire/proxy.py
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pika
import pytest
from pika import exceptions

from rmqspec.client import Consumer, Outcome, Publisher, Settings
from rmqspec.client.errors import OutcomeUnknown

from .lost_connections import WORK, before, client, killed_at_work, ready, silent_broker, silent_clients

behaviour = pytest.mark.behaviour
lie = pytest.mark.lie
pytestmark = pytest.mark.timeout(180)  # a broker of its own is killed and started again


@pytest.fixture
def proxy(url):
    with before(url) as proxy:
        yield proxy


@pytest.fixture
def harmed(proxy, url, channel):
    """The way to this test's vhost that can be harmed; `url` is the other one."""
    WORK.declare(channel)
    return proxy.url(url)


@pytest.fixture
def lost(harmed, proxy):
    """A client whose line is harmed, and who does not know it yet."""
    connection = client(harmed)
    yield connection
    proxy.cut()
    with suppress(exceptions.AMQPError):
        connection.close()


@pytest.fixture(scope="module")
def silent_url(broker, vhosts, route, lie):
    vhost = vhosts.take()
    yield route(broker.endpoint.url(vhost))
    vhosts.give_back(vhost)


@pytest.fixture(scope="module")
def missed(silent_url, patience):
    """In the background: others need not wait for it."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(silent_broker, silent_url, 6 * patience)


@pytest.fixture(scope="module")
def silence(silent_url, missed, patience):
    return silent_clients(silent_url, patience)


@pytest.fixture(scope="module")
def killed(disposable_broker, disposable_url, patience):
    return killed_at_work(disposable_broker, disposable_url, patience)


class TestRabbitMQ:
    """What the broker promises. Only pika is used here."""

    @behaviour("CHAN-10", "ORDER-10")
    @lie("redelivered-always")
    def test_hands_on_what_a_cut_client_held(self, lost, proxy, channel, receive, eventually):
        """What was acknowledged is done; the mark tells the next consumer that somebody may have begun."""
        loser = lost.channel()
        for body in (b"done", b"in hand", b"untouched"):
            channel.basic_publish("", "work", body)
        assert loser.basic_get("work")[2] == b"done"
        loser.basic_ack(1)
        assert loser.basic_get("work")[2] == b"in hand"  # and with this answer the ack has arrived
        proxy.cut()
        eventually(lambda: ready(channel), 2)  # a death is noticed later; until then the last would come first

        assert [(d.body, d.redelivered) for d in receive("work", 2)] == [(b"in hand", True), (b"untouched", False)]

    @behaviour("CHAN-10")
    @lie("redelivered-lost")
    def test_delivers_into_a_dead_line(self, lost, proxy, subscribe_without_ack, channel, receive, eventually):
        """Until it misses the client the broker sends on: what comes marked has perhaps been seen by nobody."""
        holder = subscribe_without_ack(lost.channel(), "work")
        proxy.half_open()
        channel.basic_publish("", "work", b"into the dark")
        eventually(lambda: ready(channel), 0)
        proxy.cut()

        assert [(d.body, d.redelivered) for d in receive("work")] == [(b"into the dark", True)]
        with pytest.raises(exceptions.StreamLostError):
            lost.process_data_events()
        assert holder.bodies == []

    @behaviour("EXCL-02", "EXCL-04")
    @lie("code-405-changed")
    def test_locks_what_a_lost_client_owned(self, lost, proxy, refusal, eventually):
        """A client that comes back finds its own queue locked, by itself, until the broker has missed it."""
        lost.channel().queue_declare("mine", exclusive=True)
        ask = partial(refusal, lambda careless: careless.queue_declare("mine", exclusive=True))
        proxy.half_open()
        locked = ask()
        proxy.cut()

        assert (locked.code, locked.closed) == (405, "channel")
        eventually(lambda: ask().code, 0)

    @behaviour("TUNE-02", "CHAN-10")
    @lie("redelivered-lost")
    def test_drops_a_silent_client(self, silence):
        """Two or three heartbeats of a second are missed, and a worker that is alive has the message."""
        came = [(body, method.redelivered) for method, _, body in silence.came]

        assert (came, silence.held) == ([(b"busy", True)], (0, True))
        assert isinstance(silence.error, exceptions.AMQPConnectionError)

    @behaviour("TUNE-01", "TUNE-04")
    @lie("acks-not-awaited")
    def test_keeps_an_idle_client(self, silence):
        """Nothing to say is no reason; and it hears heartbeats itself, twice in each interval."""
        assert (len(silence.came), silence.beats >= 2) == (1, True)

    @behaviour("TUNE-03")
    @lie("message-count-wrong")
    def test_waits_without_heartbeats(self, silence):
        """Zero switches them off: who is never missed keeps what he holds, dead or alive."""
        assert silence.held == (0, True)

    @behaviour("PROTO-16")
    @lie("heartbeat-refused")
    def test_says_goodbye_when_it_may(self, disposable_broker, disposable_url, patience):
        """An operator's reason reaches the log of each client; a power cut gives none."""
        with client(disposable_url) as connection:
            disposable_broker.control("close_all_connections", "maintenance")

            with pytest.raises(exceptions.ConnectionClosedByBroker) as error:
                connection.process_data_events(patience)

        assert (error.value.reply_code, error.value.reply_text) == (320, "CONNECTION_FORCED - maintenance")


class TestPublisher:
    """What our publisher adds: it connects again, and each message knows what became of it."""

    @pytest.mark.parametrize("resend", [False, True], ids=["told", "sent_again"])
    @lie("first-confirm-swallowed")
    def test_may_repeat_what_has_arrived(self, open_publisher, harmed, proxy, drain, eventually, patience, resend):
        """The broker has the message and its confirm is lost: to be told or to send it twice is all the choice."""
        publisher = open_publisher(harmed, resend=resend)
        proxy.refuse()
        proxy.drop_after(1)
        promise = publisher.publish("", "work", b"order")
        eventually(lambda: proxy.connections, 0)
        told = None if resend else promise.exception(patience)  # by now it knows of its loss
        proxy.heal()
        publisher.publish("", "work", b"next")

        assert (publisher.flush(patience), isinstance(told, OutcomeUnknown)) == (True, not resend)
        assert drain("work") == [b"order"] * (2 if resend else 1) + [b"next"]

    @lie("confirm-multiple-lost")
    def test_waits_while_it_is_refused(self, open_publisher, harmed, proxy, drain, patience):
        """A shop goes on selling while its broker is away; the orders leave in their order when it is back."""
        publisher = open_publisher(harmed, resend=True)
        proxy.refuse()
        proxy.cut()
        promises = [publisher.publish("", "work", b"%d" % number) for number in range(3)]
        assert [promise.done() for promise in promises] == [False] * 3
        proxy.heal()
        assert publisher.flush(patience)
        assert drain("work") == [b"0", b"1", b"2"]

    @lie("first-confirm-swallowed")
    def test_goes_to_the_next_host(self, open_publisher, harmed, proxy, url, drain, patience):
        """Of several addresses of one cluster any will do; the next one is tried first."""
        publisher = open_publisher(Settings(urls=(harmed, url)), resend=True)
        proxy.refuse()
        proxy.cut()
        publisher.publish("", "work", b"order")
        assert publisher.flush(patience)
        assert drain("work") == [b"order"]

    @lie("persistence-lost")
    def test_keeps_all_that_was_confirmed(self, killed):
        """The broker was killed in the middle: a confirm is a promise for this very case."""
        confirmed = {body for body, error in killed.told.items() if error is type(None)}

        assert (len(confirmed) > 100, confirmed - {body for body, _ in killed.seen}) == (True, set())
        assert set(killed.told.values()) <= {type(None), OutcomeUnknown}  # by chance all had their answers just then

    @lie("persistence-lost")
    def test_misses_nothing_that_it_resends(self, killed):
        """All is there, some of it twice: at most what was unconfirmed, and what the consumer had not acknowledged."""
        bodies = [body for body, _ in killed.seen if body in killed.resent]

        assert (set(killed.resent.values()), set(bodies)) == ({type(None)}, set(killed.resent))
        assert len(bodies) - len(set(bodies)) <= 100 + 100


class TestConsumer:
    """What our consumer adds: it goes on, and its topology with it."""

    @lie("consumer-count-wrong")
    def test_declares_again_what_is_gone(self, harmed, proxy, channel, eventually, patience):
        """Its queue is deleted while the line is down: to come back without a topology would be to end."""
        came, source = [], Settings(urls=(harmed,), answer_timeout=patience)
        consumer = Consumer(source, "work", lambda d: came.append(d.body) or Outcome.ACK, topology=WORK)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(consumer.run)
            try:
                eventually(lambda: channel.queue_declare("work", passive=True).method.consumer_count, 1)
                proxy.refuse(), proxy.cut()
                channel.queue_delete("work")
                proxy.heal()
                with Publisher(source) as publisher:
                    eventually(lambda: type(publisher.publish("", "work", b"order").exception(10)), type(None))
                eventually(lambda: came, [b"order"])
            finally:
                consumer.stop()
            running.result(10)

    @lie("redelivered-always")
    def test_goes_on_after_the_broker(self, killed):
        """The end was published after the kill; it was seen in the same call of `run`, and nobody had to restart it."""
        assert killed.seen[-1] == (b"end", False)

    @lie("redelivered-always")
    def test_sees_again_what_it_had_in_hand(self, killed):
        """Its ack had no connection to go by; by the mark a handler knows that this may be a repetition."""
        in_hand = killed.seen[99][0]

        assert [redelivered for body, redelivered in killed.seen if body == in_hand] == [False, True]


class TestPika:
    """What pika adds."""

    @behaviour("PROTO-05", "TUNE-03")
    @pytest.mark.parametrize(("asked", "agreed"), [("", 60), ("?heartbeat=600", 600), ("?heartbeat=0", 0)])
    @lie("heartbeat-refused")
    @lie(
        None,
        because="The client decides: pika answers with what it was asked for, whatever the broker proposes.",
    )
    @lie(
        None,
        because="The client decides: pika answers with what it was asked for, whatever the broker proposes.",
    )
    def test_has_the_last_word_on_heartbeats(self, url, asked, agreed):
        """The broker proposes a minute, and takes what the client answers: more as well, and none."""
        with pika.BlockingConnection(pika.URLParameters(url + asked)) as connection:
            assert connection._impl.params.heartbeat == agreed

    @behaviour("TUNE-04")
    @lie(None, because="pika gives up: nothing that a broker says before it falls silent changes that.")
    def test_misses_a_silent_broker(self, missed):
        """TCP itself would wait for a quarter of an hour; pika for the heartbeat and five seconds, at most twice."""
        assert isinstance(missed.result(60), exceptions.AMQPHeartbeatTimeout)
