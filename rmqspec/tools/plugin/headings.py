"""Under ``-v`` a run reads as a course: parts, chapters with their prose, subjects, and the reason beneath each spec.

Node ids stay as they are, so that ``--lf``, ``-k`` and other plugins see nothing of it. Only where one process runs the
tests in order: under pytest-xdist chapters come mixed, and nothing is added.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

import pytest

INDENT = "   "
OTHER_VERSION = "not in this version: "
WIDEST = 100  # columns of prose: longer lines are hard to read
LISTS = re.compile(r"^(Spec|Code|Reference): (.+?)(?=\n(?:Spec|Code|Reference): |\n\s*\n|\Z)", re.M | re.S)


@dataclass(frozen=True)
class Heading:
    """What the docstring of a file of specs says.

    Attributes:
        number: Of the chapter, if its file has one.
        title: The first line, without a dot.
        prose: The paragraphs, each in one line.
        lists: What follows ``Spec:``, ``Code:`` and ``Reference:``, each to the next of them or to an empty line.
    """

    number: int | None
    title: str
    prose: tuple[str, ...]
    lists: dict[str, list[str]] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """Number and title."""
        return f"{self.number}. {self.title}" if self.number else self.title


def heading(item: pytest.Item) -> Heading:
    """The heading of the file of a test."""
    text = inspect.cleandoc(getattr(getattr(item, "module", None), "__doc__", None) or item.path.name)
    title, _, rest = text.partition("\n")
    number = re.match(r"test_(\d+)_", item.path.name)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", LISTS.sub("", rest)))
    lists = {found[1]: re.split(r",\s+", found[2].strip()) for found in LISTS.finditer(rest)}
    return Heading(int(number[1]) if number else None, title.rstrip("."), tuple(filter(None, paragraphs)), lists)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The parts of a course."""
    parser.addini(
        "rmqspec_parts", "parts of the course, each as `1 Title`: the first chapter, and the title", "linelist"
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Narrates where somebody reads."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    # Who has put another reporter in its place, as pytest-sugar does, has lines of his own, and redraws them.
    if type(reporter) is pytest.TerminalReporter and reporter.verbosity > 0 and not hasattr(config, "workerinput"):
        parts = dict(line.split(maxsplit=1) for line in config.getini("rmqspec_parts"))
        config.pluginmanager.register(_Course(reporter, config.get_terminal_writer(), parts))


class _Course:
    """Writes between the lines of the terminal reporter."""

    def __init__(self, reporter: pytest.TerminalReporter, writer: Any, parts: dict[str, str]) -> None:
        self._reporter, self._writer, self._parts = reporter, writer, parts
        self._item: Any = None
        self._next: Any = None
        self._module: Any = None
        self._subject: Any = None
        self._part = ""
        self._told: set[object] = set()  # the functions beneath which something has been written
        self._skipped = ""  # why the spec is not run; written when the line of its result is complete
        # Of the chapter: the functions that were run, that could not be, and that are about other versions.
        self._run: set[object] = set()
        self._not_run: set[object] = set()
        self._versions: dict[str, set[object]] = {}
        self._seconds = 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> None:
        """Before a spec: the headings that change with it."""
        module = getattr(item, "module", None)
        if module is not self._module:
            self._module, self._subject = module, None
            self._run, self._not_run, self._versions, self._seconds = set(), set(), {}, 0.0
            self._open_chapter(heading(item))
        owner = getattr(item, "cls", None)
        if owner is not None and owner is not self._subject and inspect.getdoc(owner):
            self._write("")
            self._wrap(" ".join((inspect.getdoc(owner) or "").split()), bold=True)
        self._subject, self._item, self._next, self._skipped = owner, item, nextitem, ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Adds up what the last line of the chapter says."""
        self._seconds += report.duration
        if self._item is None:
            return
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if reason.startswith(OTHER_VERSION):  # said once, at the end of the chapter
                reason = reason.removeprefix(OTHER_VERSION).partition(",")[0]
                self._versions.setdefault(reason, set()).add(self._function)
            else:
                self._not_run.add(self._function)
                self._skipped = reason
        elif report.when == "call" or report.failed:
            self._run.add(self._function)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """After a spec: its reason, and at the end of a chapter what comes next."""
        if self._item is None:
            return
        reason = self._skipped
        if self._function in self._run:
            reason = inspect.getdoc(self._item.function) or ""
        if reason and self._function not in self._told:
            self._told.add(self._function)
            self._wrap(" ".join(reason.split()), INDENT * 2, light=True)
        if getattr(self._next, "module", None) is not self._module:
            self._close_chapter()
        self._item = None

    @property
    def _function(self) -> object:
        return getattr(self._item, "cls", None), getattr(self._item, "originalname", None)

    def _open_chapter(self, head: Heading) -> None:
        part = next((title for first, title in reversed(self._parts.items()) if int(first) <= (head.number or 0)), "")
        if part and part != self._part:
            self._write("")
            self._write(part.upper(), bold=True)
        self._part = part or self._part
        self._write("")
        self._write(head.line, bold=True)
        for paragraph in head.prose:
            self._write("")
            self._wrap(paragraph)
        self._write("")
        for name, values in head.lists.items():
            self._wrap(f"{name}: {', '.join(values)}", light=True)

    def _close_chapter(self) -> None:
        count = len(self._run)
        line = f"{count} spec{'' if count == 1 else 's'}, {self._seconds:.1f} s"
        if self._not_run:
            line += f"; not run: {len(self._not_run)}"
        if self._versions:
            others = (f"{len(functions)} {reason}" for reason, functions in self._versions.items())
            line += f"; of other versions: {', '.join(others)}"
        if self._next is not None:
            line += f"; next: {heading(self._next).line}"
        self._write("")
        self._wrap(line)

    def _wrap(self, text: str, indent: str = INDENT, **markup: bool) -> None:
        width = min(self._writer.fullwidth - 1, WIDEST)
        for line in textwrap.wrap(
            text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ):
            self._write(line, **markup)

    def _write(self, line: str, **markup: bool) -> None:
        self._reporter.ensure_newline()
        self._reporter.write_line(line, **markup)
