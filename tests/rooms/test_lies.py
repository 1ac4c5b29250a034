"""The lies: each is one broken promise, told of one method, and everything else passes as it was.

Code: rmqspec/tools/wire/liar.py, rmqspec/tools/wire/lies/lie.py
"""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import BasicProperties, spec

from rmqspec.client import connect as open_connection
from rmqspec.tools.wire import Proxy
from rmqspec.tools.wire.fields import name_of
from rmqspec.tools.wire.liar import Liar
from rmqspec.tools.wire.lies import LIES
from rmqspec.tools.wire.lies.lie import Lie, Talk, ignored
from rmqspec.tools.wire.said import Said

ORDER = Said(
    1, spec.Basic.Publish(exchange="orders.direct", routing_key="order"), BasicProperties(delivery_mode=2), b"o" * 9000
)
LETTER = Said(
    3,
    spec.Basic.Deliver("tag", 7, False, "", "orders"),
    BasicProperties(headers={"x-death": [{"count": 1, "reason": "expired", "queue": "orders"}]}, correlation_id="c"),
    b"letter",
)


def told(name, said, talk=None):
    """What becomes of one thing that was said."""
    result = LIES[name].tell(said, talk or Talk([].append, [].append))
    return [] if result is None else [result] if isinstance(result, Said) else list(result)


METHODS = {
    "queue.declare": spec.Queue.Declare(queue="q", durable=True, exclusive=True, auto_delete=True, arguments={"a": 1}),
    "queue.declare-ok": spec.Queue.DeclareOk("q", 1, 1),
    "queue.bind": spec.Queue.Bind(
        queue="q", exchange="x", routing_key="a.*.#", arguments={"x-match": "any-with-x", "x-a": 1}
    ),
    "exchange.bind": spec.Exchange.Bind(destination="d", source="s", routing_key="#", arguments={"a": 1}),
    "exchange.declare": spec.Exchange.Declare(exchange="x", type="topic", durable=True),
    "basic.consume": spec.Basic.Consume(queue="q", consumer_tag="t", arguments={"x-priority": 1}),
    "basic.qos": spec.Basic.Qos(prefetch_count=3),
    "basic.return": spec.Basic.Return(312, "NO_ROUTE", "x", "k"),
    "channel.close": spec.Channel.Close(403, "ACCESS_REFUSED", 50, 10),
    "connection.close": spec.Connection.Close(320, "CONNECTION_FORCED", 0, 0),
    "connection.start": spec.Connection.Start(server_properties={"product": "RabbitMQ"}, mechanisms="PLAIN"),
    "connection.start-ok": spec.Connection.StartOk(client_properties={"product": "pika"}, response="login"),
    "connection.blocked": spec.Connection.Blocked("memory"),
    "connection.open": spec.Connection.Open("vhost"),
    "basic.publish": ORDER.method,
    "basic.deliver": LETTER.method,
    "basic.get-ok": spec.Basic.GetOk(1, False, "x", "k", 3),
}
NAMES = {name_of(kind) for kind in spec.methods.values()}
WORDS = {"queue": "q", "exchange": "x", "destination": "d", "source": "s", "routing_key": "k", "consumer_tag": "t"}
NUMBERS = {
    "message_count": 1,
    "consumer_count": 1,
    "delivery_tag": 1,
    "reply_code": 406,
    "class_id": 50,
    "method_id": 10,
}


def some(name):
    """A method of this name whose arguments can be sent."""
    if name in METHODS:
        return METHODS[name]
    (kind,) = [kind for kind in spec.methods.values() if name_of(kind) == name]
    method = kind()
    for argument, value in (WORDS | NUMBERS).items():
        if getattr(method, argument, "") is None:
            setattr(method, argument, value)
    return method


HEADERS = st.none() | st.dictionaries(
    st.sampled_from(["CC", "BCC", "x-death", "x-delivery-count", "x-match", "other"]),
    st.none() | st.integers(0, 9) | st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=2),
)


class TestLies:
    """The tables."""

    def test_are_more_than_sixty_and_no_two_say_the_same(self):
        """Whoever reads the matrix tells them apart by their sentences."""
        assert len(LIES) >= 60
        assert len({lie.sentence for lie in LIES.values()}) == len(LIES)

    @pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
    def test_want_methods_that_there_are(self, lie):
        """One that waits for a misspelt name is never told."""
        assert lie.methods <= NAMES
        assert lie.sentence[0].isupper()
        assert lie.sentence.endswith(".")

    @given(st.data())
    @settings(deadline=None, max_examples=15)
    @pytest.mark.parametrize("lie", [pytest.param(lie, id=lie.name) for lie in LIES.values() if lie.methods])
    def test_bear_whatever_is_said(self, lie, data):
        """Also tables that no broker would make, as clients may: a defect in a lie would look like one of the spec."""
        says = []
        talk = Talk(says.append, says.append)
        for _ in range(4):
            name = data.draw(st.sampled_from(sorted(lie.methods)))
            properties = BasicProperties(headers=data.draw(HEADERS), correlation_id="c", delivery_mode=2)
            method = some(name)
            carries = name in {"basic.publish", "basic.deliver", "basic.return", "basic.get-ok"}
            body = data.draw(st.binary(max_size=3)) if carries else b""
            said = Said(1, method, properties if carries else None, body, by_broker=data.draw(st.booleans()))
            result = lie.tell(said, talk)
            says += [] if result is None else [result] if isinstance(result, Said) else result
        for said in says:
            assert said.frames(4096)

    def test_change_one_thing_and_leave_what_was_said_alone(self):
        """A red spec names its promise only if nothing else was broken."""
        (changed,) = told("persistence-lost", ORDER)

        assert (changed.properties.delivery_mode, ORDER.properties.delivery_mode) == (1, 2)
        assert (changed.method, changed.body) == (ORDER.method, ORDER.body)

    def test_have_nothing_against_what_does_not_concern_them(self):
        """Only the very same object counts as the truth, and passes byte for byte."""
        assert told("expiration-lost", ORDER) == [ORDER]
        assert LIES["expiration-lost"].tell(ORDER, Talk([].append, [].append)) is ORDER

    def test_count_one_death_more(self):
        """The rest of an entry stays as the broker has written it."""
        (changed,) = told("x-death-count-wrong", LETTER)

        assert changed.headers["x-death"] == [{"count": 2, "reason": "expired", "queue": "orders"}]

    def test_answer_for_the_broker(self):
        """Else every ignored request would be noticed by its silence."""
        answers = []
        unbind = Said(1, spec.Queue.Unbind(queue="q", exchange="x", routing_key="k"))

        assert told("unbind-ignored", unbind, Talk(answers.append, [].append)) == []
        assert [answer.name for answer in answers] == ["queue.unbind-ok"]

    def test_swap_two_messages_and_keep_the_tags_in_order(self):
        """Tags out of order would be an error of the protocol, noticed by any client."""
        second = dataclasses.replace(LETTER.but(delivery_tag=8), body=b"second")
        talk = Talk([].append, [].append)

        assert told("deliveries-swapped", LETTER, talk) == []
        assert [(one.method.delivery_tag, one.body) for one in told("deliveries-swapped", second, talk)] == [
            (7, b"second"),
            (8, b"letter"),
        ]


@pytest.fixture
def liar(broker):
    """In front of the broker of this run."""
    with Proxy(broker.endpoint.host, broker.endpoint.port) as proxy:
        liar = Liar()
        liar.stand_in(proxy)
        liar.port = proxy
        yield liar


class TestLiar:
    """In a proxy, on real connections."""

    def test_tells_the_truth_where_no_lie_is_set(self, liar, url):
        """All that a matrix shows rests on this: red comes from the lie, not from the proxy."""
        with open_connection(liar.port.url(url), "truth") as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare("q")
            channel.basic_publish("", "q", body := b"x" * 300_000)

            assert channel.basic_get("q", auto_ack=True)[2] == body
        assert (liar.told, liar.heard) == (set(), True)

    def test_tells_one_lie(self, liar, url):
        """The last bit of 0 is that of 1."""
        liar.lie = LIES["body-falsified"]
        with open_connection(liar.port.url(url), "lie") as connection:
            channel = connection.channel()
            channel.queue_declare("q")
            channel.basic_publish("", "q", b"order 0")

            assert channel.basic_get("q", auto_ack=True)[2] == b"order 1"
        assert liar.told == {"body-falsified"}

    def test_notes_what_it_would_tell_and_does_not_tell_it(self, liar, url):
        """So a lie need not be told to the hundreds of specs that it cannot touch."""
        liar.would = LIES.values()
        with open_connection(liar.port.url(url), "would") as connection:
            channel = connection.channel()
            channel.queue_declare("q", auto_delete=True)

        assert {"queue-auto-delete-lost", "vhost-ignored"} <= liar.told
        assert "length-limit-lost" not in liar.told

    def test_speaks_for_the_broker(self, liar, url):
        """The client is answered, and the broker has never heard of it."""
        liar.lie = Lie.of("queue-not-made", "A queue is not made.", "queue.declare", ignored)
        with open_connection(liar.port.url(url), "ignored") as connection:
            channel = connection.channel()

            assert channel.queue_declare("q").method.queue == "q"
            liar.lie = None
            with open_connection(url, "witness") as witness, pytest.raises(Exception, match="no queue 'q'"):
                witness.channel().queue_declare("q", passive=True)

    def test_has_noted_a_lie_before_anybody_can_hear_it(self, liar, url, monkeypatch):
        """A spec that fails by the first bytes is judged at once, in another thread."""
        noted, inject = [], liar.port.inject

        def note_and_inject(*injected):
            noted.append(set(liar.told))
            inject(*injected)

        monkeypatch.setattr(liar.port, "inject", note_and_inject)
        liar.lie = Lie.of("queue-not-made", "A queue is not made.", "queue.declare", ignored)
        with open_connection(liar.port.url(url), "ignored") as connection:
            connection.channel().queue_declare("q")

        assert noted == [{"queue-not-made"}]

    def test_hides_an_error_and_keeps_the_channel(self, liar, url):
        """The broker has closed it; it is opened again behind the client's back."""
        liar.lie = LIES["absence-hidden"]
        with open_connection(liar.port.url(url), "hidden") as connection:
            channel = connection.channel()
            channel.queue_declare("nowhere", passive=True)
            channel.queue_declare("somewhere")

            assert channel.is_open

    def test_keeps_its_memory_of_each_connection_apart(self, liar, url):
        """What one client said must not change what another is told."""
        liar.lie = Lie.of("second", "The second method.", "queue.declare", lambda said, talk: (
            said if talk.memory.setdefault("first", said) is said else said.but(durable=True)))  # fmt: skip
        for name in ("one", "other"):
            with open_connection(liar.port.url(url), name) as connection:
                connection.channel().queue_declare(name)
        assert liar.told == set()
