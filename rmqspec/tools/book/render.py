"""Prints a book as one HTML file: style, script and search index are inside, and nothing is asked of a server.

Whatever a record holds, bodies of messages above all, is text and stays text: templates escape it, the index escapes
``<``, and the page's own policy runs no script but the one that is printed here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rmqspec import __version__
from rmqspec.tools.book.pages import ABSENT, Book, Case, Sentence
from rmqspec.tools.book.svg import cut
from rmqspec.tools.book.words import anchor, marked, paragraphs

__all__ = ["page"]

SYMBOLS: Mapping[str, str] = {
    "passed": "✓",
    "failed": "✗",
    "not in this version": "–",  # noqa: RUF001 - a dash is meant
    "not run": "○",
    "broker not reached": "!",
    ABSENT: "·",
}
THIS = re.compile(r", this is \S+$")  # the version stands before it already
LINE = 300  # characters of what is said without being asked
LONGEST = 6000  # characters of a failure
CUT_OUT = "\n[…]\n"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a spec did not pass, in the runs of these labels."""

    labels: list[str]
    outcome: str
    line: str
    text: str

    @property
    def longer(self) -> bool:
        """Whether the line is not all of it."""
        return "\n" in self.text or len(self.text) > LINE


def page(book: Book) -> str:
    """The file's text."""
    style, script = _shipped("style.css"), _shipped("search.js")
    differing = [(sentence, case) for sentence, case in _cases(book) if case.differs]
    return _environment().get_template("book.html.j2").render(
        book=book,
        product=book.runs[0].header.product,
        symbols=SYMBOLS,
        used={result.outcome for _, case in _cases(book) for result in case.results},
        differing=differing,
        clients=_clients(book),
        version=__version__,
        index=Markup(_json(list(_index(book)))),  # noqa: S704 - no < in it
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )  # fmt: skip


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rmqspec.tools.book", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "anchor": anchor,
        "bytes": _bytes,
        "cut": cut,
        "encoded": lambda text: len(text.encode(errors="replace")),
        "marked": marked,
        "moment": _moment,
        "paragraphs": paragraphs,
        "quoted": shlex.quote,
        "reasons": _reasons,
        "slug": lambda outcome: outcome.replace(" ", "-"),
    }
    return environment


def _shipped(name: str) -> Markup:
    return Markup(files("rmqspec.tools.book").joinpath(name).read_text(encoding="utf-8"))  # noqa: S704 - our own file


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _cases(book: Book) -> Iterator[tuple[Sentence, Case]]:
    for page in book.pages:
        for sentence in page.sentences:
            for case in sentence.cases:
                yield sentence, case


def _index(book: Book) -> Iterator[tuple[str, str, str]]:
    """What search looks through: where it is, its name, and more words that find it."""
    for page in book.pages:
        yield page.anchor, page.title, page.chapter.path
        for sentence in page.sentences:
            cases = " ".join(case.name for case in sentence.cases)
            more = f"{sentence.why} {' '.join(sentence.behaviours)} {cases} {page.short}"
            yield sentence.anchor, sentence.words, more


def _json(value: Any) -> str:
    """JSON that stays within its script element whatever is in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _reasons(case: Case) -> list[Reason]:
    """Each once, with all runs that it is true of."""
    reasons: dict[tuple[str, str], Reason] = {}
    for result in case.results:
        if result.reason.strip():
            line = _line(result.reason)
            same = reasons.setdefault((result.outcome, line), Reason([], result.outcome, line, _short(result.reason)))
            same.labels.append(result.label)
    return list(reasons.values())


def _line(reason: str) -> str:
    """The one line that says it: in a report of pytest, the first that it marks with an E."""
    lines = [line.strip() for line in reason.strip().splitlines()]
    marked_lines = [line[1:].strip() for line in lines if line.startswith("E  ")]
    return cut(THIS.sub("", (marked_lines or lines)[0]), LINE)


def _short(reason: str) -> str:
    """A long failure without its middle."""
    text = reason.strip()
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2]}{CUT_OUT}{text[-LONGEST // 2 :]}"


def _clients(book: Book) -> str:
    clients: dict[str, str] = {}
    for run in book.runs:
        clients |= {**run.header.clients, "Python": run.header.python}
    return ", ".join(f"{name} {version}" for name, version in clients.items())


def _moment(text: str) -> str:
    """A time without its seconds, or what stands there instead of one."""
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"
    except ValueError:
        return text


def _bytes(size: int) -> str:
    return f"{size:,} byte{'' if size == 1 else 's'}"
