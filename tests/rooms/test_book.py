"""The lesson book: what stands in it, and that nothing which went over a wire can become markup."""

import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from rmqspec.cli.book import book_command
from rmqspec.tools.book import Writer
from rmqspec.tools.book.binder import bind
from rmqspec.tools.book.render import page

from .book_records import ACKS, DEATHS, NASTY, NODE, Reader, asked, event, record, spec, three


def read_book(*records):
    return Reader(page(bind(records)))


class TestBook:
    """A book of records."""

    def test_shows_each_spec_with_all_that_belongs_to_it(self):
        """Who reads the book without the repository beside it must find everything here."""
        text = read_book(record(spec("dead letters what is rejected"))).text

        assert "7. Dead letters: where a message goes that nobody could handle" in text
        assert "RabbitMQ dead letters what is rejected" in text
        assert "Without it, what dead letters what is rejected would be lost." in text
        assert "assert channel.is_open # always" in text
        assert f"pytest {NODE}" in text
        assert "“no such customer” ⇢ ack #1" in text

    def test_leads_every_link_to_a_place_of_its_own(self):
        """A link that leads nowhere, or to the first of two, is found by a reader only."""
        book = read_book(*three())

        targets = [link[1:] for link in book.links if link.startswith("#")]
        assert len(targets) > 15
        assert [target for target in targets if target not in book.ids] == []
        assert [name for name, count in book.ids.items() if count > 1] == []
        assert {link for link in book.links if not link.startswith("#")} == {"https://www.rabbitmq.com/docs/dlx"}

    def test_names_its_places_by_the_ids_of_specs(self):
        """A link in an issue still leads to the same spec in the book of the next release."""
        ids = read_book(*three()).ids

        assert "test_07_dead_letters" in ids
        assert "test_07_dead_letters.TestRabbitMQ.test_dead_letters_it" in ids
        assert "test_06_acks.TestRabbitMQ.test_keeps_both_kinds-quorum" in ids

    @pytest.mark.parametrize(
        "place",
        [
            {"frames": (event("basic.publish", exchange=NASTY, body=NASTY, properties={NASTY: NASTY}),)},
            {"frames": (event("basic.publish", connection=NASTY), event(NASTY, "broker", connection=NASTY))},
            {"frames": (*asked("queue.declare", queue=NASTY, arguments={NASTY: NASTY}),
                        *asked("queue.bind", queue=NASTY, exchange="amq.direct", routing_key=NASTY))},
            {"reason": NASTY, "outcome": "failed"},
            {"source": NASTY},
            {"sentence": NASTY, "why": NASTY, "behaviours": (NASTY,), "about": NASTY, "subject": NASTY},
            {"case": NASTY, "id": f"a[{NASTY}]", "node": f"a.py::b[{NASTY}]"},
        ],
        ids=["message", "connection", "topology", "failure", "source", "docstring", "case"],
    )  # fmt: skip
    def test_lets_no_text_become_markup(self, place):
        """A message body is anybody's; a book that runs it would run in the reader's browser."""
        plain = read_book(record(spec("is fine")))

        html = page(bind([record(replace(spec("is fine"), **place))]))

        assert Reader(html).tags.keys() <= plain.tags.keys() | {"ul", "h5", "pre", "marker", "defs", "rect"}
        assert "<img" not in html
        assert html.count("</script>") == html.count("<script") == 2
        assert "54439" not in html

    def test_lets_no_text_of_a_record_become_markup(self):
        """A broker's name of itself is what it says, and a title is what somebody wrote."""
        nasty = {
            "title": NASTY,
            "prose": NASTY,
            "spec": ("javascript:alert(1)", NASTY),
            "code": (NASTY,),
            "path": NASTY,
        }
        made = record(spec("is fine"), chapters=(replace(DEATHS, **nasty),))
        header = replace(made.header, product=NASTY, version=NASTY, description=NASTY, started=NASTY)

        html = page(bind([replace(made, header=header)]))

        assert "<img" not in html
        assert not [link for link in Reader(html).links if link.startswith("javascript")]

    def test_says_that_a_record_was_cut_off(self):
        """Who misses a chapter must not believe that it passed."""
        cut = read_book(record(spec("is fine"), cut_off=True), record(spec("is fine"), version="4.3.6")).text

        assert "The record of 4.0.5 was cut off." in cut
        assert "The record of 4.3.6" not in cut

    def test_says_in_words_what_it_draws(self):
        """A drawing without words is a hole for whoever listens to the page."""
        html = page(bind(three()))

        drawings = re.findall(r"<svg role=\"img\"[^>]* aria-labelledby=\"(\S+) (\S+)\">(.{400})", html, re.S)
        assert len(drawings) == html.count("<svg") > 5
        for title, words, begin in drawings:
            assert begin.startswith(f'<title id="{title}">')
            assert f'<desc id="{words}">' in begin

    def test_asks_no_server(self):
        """It opens from a disk, years from now, and tells nobody that it was read."""
        html = page(bind(three()))

        assert re.findall(r"(?:src|srcset|action|data|poster)=", html) == []
        assert "@import" not in html
        assert "url(" not in re.sub(r'marker-end="url\(#[\w.-]+\)"', "", html)
        assert "default-src 'none'" in html

    def test_stays_small_enough_to_be_mailed(self):
        """A suite of 600 specs on three brokers, and most people's mail takes ten megabytes."""
        names = [f"holds promise {number}" for number in range(600)]
        records = [record(*(spec(name) for name in names), version=version) for version in ("3.10.8", "4.0.5", "4.3.6")]

        assert len(page(bind(records)).encode()) < 7_000_000


class TestVersions:
    """Several records in one book."""

    def test_gives_each_broker_a_column_in_order_of_version(self):
        """3.10 is older than 4.0, and newer than 3.9, in whatever order the files were named."""
        old, middle, new = three()

        book = bind([new, replace(old, header=replace(old.header, version="3.9.1")), old, middle, middle])

        assert [run.label for run in book.runs] == ["3.9.1", "3.10.8", "4.0.5 (1)", "4.0.5 (2)", "4.3.6"]

    def test_marks_what_differs(self):
        """The operator before an upgrade reads this and nothing else."""
        book = bind(three())

        differing = {sentence.words for one in book.pages for sentence in one.sentences if sentence.differs}
        assert differing == {"RabbitMQ names the last death"}
        text = Reader(page(book)).text
        assert "≠ differs between versions" in text
        assert "3.10.8: not in this version: since RabbitMQ 4.0 4.3.6: failed" in text
        assert "4.3.6: failed: assert 1 == 2 The whole message assert 1 == 2 where 1 = f()" in text

    def test_draws_twice_only_what_went_differently(self):
        """Three times the same picture hides the one that is different, and trebles the file."""
        (deaths,) = [one for one in bind(three()).pages if one.chapter.number == 7]

        drawn = {sentence.words: [d.labels for d in sentence.cases[0].drawings] for sentence in deaths.sentences}
        assert drawn["RabbitMQ dead letters it"] == [("3.10.8", "4.0.5"), ("4.3.6",)]
        assert drawn["RabbitMQ names the last death"] == [("4.0.5", "4.3.6")]

    def test_knows_a_spec_that_one_record_lacks(self):
        """A new spec was not there when the old broker was asked: that is no failure."""
        text = read_book(record(version="4.0.5"), record(spec("is new"), version="4.3.6")).text

        assert "· 4.0.5 not in this record" in text

    def test_counts_outcomes_for_each_chapter(self):
        """The contents page is where one sees that something failed."""
        acks, deaths = bind(three()).pages

        assert acks.tallies["4.3.6"] == {"passed": 3}
        assert deaths.tallies["4.3.6"] == {"passed": 1, "failed": 1, "not run": 1}

    def test_stands_in_lesson_order(self):
        """Order is part of the lesson; what has no number comes behind, another part behind that."""
        numberless = replace(ACKS, name="test_exercises", number=None, title="Exercises: by hand.")
        other = replace(ACKS, name="test_acks", number=None, part="reference", title="Acks: all of them.")

        book = bind([record(spec("is fine"), chapters=(other, numberless, DEATHS, ACKS))])

        assert [part.title for part in book.parts] == ["Lessons", "Reference"]
        assert [one.chapter.name for one in book.pages] == [ACKS.name, DEATHS.name, "test_exercises", "test_acks"]


class TestCommand:
    """`rmqspec book`."""

    @pytest.fixture
    def recorded(self, tmp_path):
        made = record(spec("is fine"))
        writer = Writer(tmp_path / "run.jsonl")
        for line in (made.header, *made.chapters, *made.specs, made.footer):
            writer.write(line)
        writer.close()
        return tmp_path / "run.jsonl"

    def test_makes_a_file_of_records(self, recorded, tmp_path):
        """A record travels better than a broker: the book is made anywhere, without one."""
        result = CliRunner().invoke(book_command, [str(recorded), "-o", str(tmp_path / "book.html")])

        assert result.exit_code == 0, result.output
        assert "RabbitMQ is fine" in Reader((tmp_path / "book.html").read_text()).text

    def test_keeps_the_record_that_it_reads(self, recorded):
        """The run took minutes, and a slip of the hand would print its book over it."""
        before = recorded.read_text()

        result = CliRunner().invoke(book_command, [str(recorded), "-o", str(recorded)])

        assert (result.exit_code, recorded.read_text()) == (1, before)
        assert "would be lost: name another file" in result.output

    def test_says_what_is_no_record(self, tmp_path):
        """One sentence, and no file that looks like a book."""
        (tmp_path / "other.jsonl").write_text("{}\n")

        result = CliRunner().invoke(book_command, [str(tmp_path / "other.jsonl"), "-o", str(tmp_path / "book.html")])

        assert result.exit_code == 1
        assert "is no run record" in result.output
        assert not (tmp_path / "book.html").exists()
