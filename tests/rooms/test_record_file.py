"""The file of a run record: written line by line, read without a broker and without pytest.

Code: rmqspec/tools/book/record.py, rmqspec/tools/book/writer.py
"""

import json
from dataclasses import replace

import pytest

from rmqspec.tools.book import Chapter, Footer, Header, NoRecord, Record, Spec, Writer, read
from rmqspec.tools.wire.recorder import Event

HEADER = Header(
    product="RabbitMQ",
    version="4.0.5",
    erlang="27",
    source="node",
    description="a private node",
    clients={"pika": "1.4.4"},
    python="3.11",
    started="2026-01-01T00:00:00Z",
)
CHAPTER = Chapter(name="test_a", path="tests/test_a.py", number=None, part="tests", title="A: b")
EVENT = Event(0.5, "a worker", 1, "client", "basic.publish", {"routing_key": "k"}, "body", 4)
SPEC = Spec(
    id="test_a.TestB.test_c",
    node="tests/test_a.py::TestB::test_c",
    chapter="test_a",
    subject="B",
    sentence="B c",
    outcome="failed",
    reason="it did not",
    seconds=0.1,
    frames=(EVENT,),
)
FOOTER = Footer(outcomes={"failed": 1}, seconds=1.5, finished="2026-01-01T00:00:02Z")


@pytest.fixture
def written(tmp_path):
    """Writes a record: `written(*lines)` is its file."""

    def write(*lines, secrets=()):
        writer = Writer(tmp_path / "run.jsonl", *secrets)
        for line in lines:
            writer.write(line)
        writer.close()
        return writer.path

    return write


class TestRecord:
    """The file, written and read."""

    def test_comes_back_as_it_was_written(self, written):
        """One description of the file, for whoever writes it and whoever reads it."""
        record = read(written(HEADER, CHAPTER, SPEC, FOOTER))

        assert record == Record(HEADER, (CHAPTER,), (SPEC,), FOOTER)
        assert not record.cut_off

    def test_follows_its_schema(self, written):
        """Others read it too, in other languages: the names are a promise."""
        lines = [json.loads(line) for line in written(HEADER, SPEC).read_text().splitlines()]

        assert [next(iter(line.items())) for line in lines] == [("kind", "header"), ("kind", "spec")]
        assert (lines[0]["schema"], lines[1]["frames"][0]["from"]) == (1, "client")
        assert "sender" not in lines[1]["frames"][0]

    @pytest.mark.parametrize("missing", [1, 20, 200])
    def test_is_read_up_to_where_it_is_whole(self, written, missing):
        """A power cut, a full disk: the last line is half a line, and those before it are true."""
        file = written(HEADER, CHAPTER, SPEC, SPEC)
        file.write_bytes(file.read_bytes()[:-missing])

        record = read(file)

        assert (len(record.specs), record.cut_off) == (1, True)

    def test_may_hold_what_this_version_does_not_know(self, written):
        """A later version writes more; what this one knows, it still reads."""
        file = written(HEADER, SPEC)
        spec = {**json.loads(file.read_text().splitlines()[1]), "mood": "good"}
        del spec["about"]  # and one that has a default need not be there
        more = {"kind": "weather", "rain": True}, spec
        file.write_text(file.read_text() + "".join(f"{json.dumps(line)}\n" for line in more))

        assert [spec.id for spec in read(file).specs] == [SPEC.id, SPEC.id]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            pytest.param(None, "cannot be read (No such file or directory)", id="nothing"),
            pytest.param("", "is no run record", id="empty"),
            pytest.param("a letter\n", "is no run record", id="text"),
            pytest.param((FOOTER,), "is no run record", id="no_header"),
            pytest.param("[1, 2]\n", "is no run record", id="other_json"),
            pytest.param(
                (replace(HEADER, schema=2),),
                "is a record of schema 2, and 1 is the last that is known here",
                id="newer",
            ),
        ],
    )
    def test_is_refused_in_one_sentence(self, written, tmp_path, content, words):
        """The wrong file of a directory is named all too easily."""
        if isinstance(content, tuple):
            written(*content)
        elif content is not None:
            (tmp_path / "run.jsonl").write_text(content)

        with pytest.raises(NoRecord, match=r": (name|install) ") as error:
            read(tmp_path / "run.jsonl")

        assert words in str(error.value)

    def test_hides_secrets_however_they_are_spelled(self, written):
        """A URL quotes what a password may hold; in a message it stands plain."""
        told = "amqp://me:p%2Fw@host/ refused p/w, and p%2Fw too"
        event = replace(EVENT, body="p/w", fields={"headers": {"to": ["amqp://a:b@c"]}})

        (spec,) = read(written(HEADER, replace(SPEC, reason=told, frames=(event,)), secrets=("p/w",))).specs

        assert spec.reason == "amqp://…@host/ refused …, and … too"
        assert (spec.frames[0].body, spec.frames[0].fields) == ("…", {"headers": {"to": ["amqp://…@c"]}})

    def test_is_on_disk_as_soon_as_it_is_written(self, tmp_path):
        """A run that is killed cannot close its files."""
        writer = Writer(tmp_path / "run.jsonl")
        writer.write(HEADER)

        assert read(tmp_path / "run.jsonl").cut_off
        writer.close()
