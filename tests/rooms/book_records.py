"""Run records made by hand, for the tests of the book: three brokers, two chapters; and a strict reader of pages."""

from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

from rmqspec.tools.book import Chapter, Footer, Header, Record, Spec
from rmqspec.tools.wire.recorder import Event

NASTY = "</script></style></details><img src=x onerror=alert(1)>\"'&{{ 7*7777 }}]]>"
NODE = "tests/lessons/test_07_dead_letters.py::TestRabbitMQ::test_dead_letters_what_is_rejected"
DEATHS = Chapter(
    name="test_07_dead_letters",
    path="tests/lessons/test_07_dead_letters.py",
    number=7,
    part="lessons",
    title="Dead letters: where a message goes that nobody could handle.",
    prose="A queue may name a dead-letter exchange, and `x-death` tells what happened.\n\nA person looks at it.",
    spec=("https://www.rabbitmq.com/docs/dlx",),
    code=("rmqspec/orders/topology.py",),
)
ACKS = replace(DEATHS, name="test_06_acks", path="tests/lessons/test_06_acks.py", number=6, title="Acks: it is done.")


def header(version="4.0.5"):
    return Header(
        product="RabbitMQ", version=version, erlang="27.3", source="node", description="a private node",
        clients={"pika": "1.4.4"}, python="3.11.7", started="2026-11-25T12:00:00Z",
    )  # fmt: skip


def event(method, sender="client", connection=NODE, channel=1, body="", size=None, at=0.0, **fields):
    return Event(at, connection, channel, sender, method, fields, body, len(body) if size is None else size)


def asked(method, **fields):
    """A request and its answer."""
    counts = {"message_count": 0, "consumer_count": 0} if method == "queue.declare" else {}
    return event(method, **fields), event(f"{method}-ok", "broker", **counts)


def opened(connection):
    words = ("start", "start-ok", "tune", "tune-ok", "open", "open-ok")
    handshake = [
        event(f"connection.{word}", "client" if word in ("start-ok", "tune-ok", "open") else "broker", connection, 0)
        for word in words
    ]
    return (*handshake, event("channel.open", "client", connection), event("channel.open-ok", "broker", connection))


WIRE = (
    *opened(NODE),
    *asked("exchange.declare", exchange="orders.dlx", type="fanout"),
    *asked("queue.declare", queue="orders", arguments={"x-dead-letter-exchange": "orders.dlx", "x-max-length": 2}),
    *asked("queue.declare", queue="orders.failed"),
    *asked("queue.bind", exchange="orders.dlx", queue="orders.failed", routing_key="order"),
    event("basic.publish", exchange="", routing_key="orders", body="no such customer"),
    event("basic.ack", "broker", delivery_tag=1),
    *opened(f"{NODE} worker-1"),
    event("basic.deliver", "broker", f"{NODE} worker-1", delivery_tag=1, exchange="", routing_key="orders", body="no"),
    event("basic.reject", "client", f"{NODE} worker-1", delivery_tag=1, requeue=False),
)


def spec(name, chapter=DEATHS, *, outcome="passed", case="", frames=WIRE, **more):
    function, ending = f"test_{name.replace(' ', '_')}", f"[{case}]" if case else ""
    given = {
        "id": f"{chapter.name}.TestRabbitMQ.{function}{ending}",
        "node": f"{chapter.path}::TestRabbitMQ::{function}{ending}",
        "chapter": chapter.name,
        "subject": "RabbitMQ",
        "about": "What the broker promises.",
        "sentence": f"RabbitMQ {name}",
        "case": case,
        "behaviours": ("DLX-01",),
        "why": f"Without it, what {name} would be lost.",
        "outcome": outcome,
        "seconds": 0.01,
        "source": f'def {function}(channel):\n    """Why."""\n    assert channel.is_open  # always\n',
        "frames": frames if outcome in ("passed", "failed") else (),
    }
    return Spec(**given | more)


def record(*specs, version="4.0.5", chapters=(ACKS, DEATHS), cut_off=False):
    footer = None if cut_off else Footer(outcomes={}, seconds=1.0, finished="2026-11-25T12:00:01Z")
    return Record(header(version), chapters, specs, footer)


def three():
    """The same suite on three brokers."""
    redelivered = tuple(replace(one, fields={**one.fields, "redelivered": True}) for one in WIRE)
    absent = {"outcome": "not in this version", "reason": "since RabbitMQ 4.0, this is 3.10.8"}
    common = [
        spec("counts what is acked", ACKS, behaviours=("ACK-01",)),
        spec("keeps both kinds", ACKS, case="classic"),
        spec("keeps both kinds", ACKS, case="quorum"),
        spec("lasts for a restart", outcome="not run", reason="nobody may restart this broker"),
    ]
    return (
        record(*common, spec("dead letters it"), spec("names the last death", **absent), version="3.10.8"),
        record(*common, spec("dead letters it"), spec("names the last death"), version="4.0.5"),
        record(
            *common,
            spec("dead letters it", frames=redelivered),
            spec("names the last death", outcome="failed", reason="assert 1 == 2\n  where 1 = f()"),
            version="4.3.6",
        ),
    )


VOID = {"meta", "input", "br", "link", "img"}


class Reader(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.links, self.words, self._open = Counter(), Counter(), [], [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags[tag] += 1
        assert not [name for name in given if name.startswith("on")]
        if "id" in given:
            self.ids[given["id"]] += 1
        if "href" in given:
            self.links.append(given["href"])
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())
