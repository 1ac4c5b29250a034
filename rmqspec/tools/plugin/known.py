"""``pytest --known FILE``: what a broker is known to do otherwise, each with its reason.

The file is TOML: on the left the id of a behaviour, or a node id (of a file, a class, a spec, or one case of it), on
the right the reason. What is listed and fails is "differs as known" (xfail). An entry whose specs all hold is out of
date: it is reported, and fails the run where ``strict_xfail`` (or ``strict``) is set, as pytest has it for its own
xfail. So an entry may name an id of which some specs hold. One that names nothing is an error, with its line.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rmqspec.tools.plugin.leftovers import overlook
from rmqspec.tools.plugin.words import behaviours_of, not_empty

__all__ = ["KNOWN", "Entry", "Known", "of_others"]

ID = re.compile(r"[A-Z0-9]+-\d\d")
ERROR = "rmqspec_known_error"


class Entry(NamedTuple):
    """A difference.

    Attributes:
        key: An id or a node id.
        reason: Why the broker differs.
        line: Where it stands in its file.
    """

    key: str
    reason: str
    line: int


class Known:
    """The entries of a file.

    Args:
        path: The file.

    Raises:
        ValueError: It is no TOML, or an entry has no reason; with the line.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeError:
            raise ValueError("it is no text in UTF-8") from None
        lines = _lines(text)
        self.entries: dict[str, Entry] = {}
        for key, reason in tomllib.loads(text).items():
            if isinstance(reason, dict):
                raise ValueError(f"{key} is a heading, or the begin of a name with a dot: put the whole name in quotes")
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(f'line {lines.get(key, 0)}: {key} has no reason: write {key} = "why"')
            self.entries[key] = Entry(key, reason, lines.get(key, 0))

    def of(self, item: pytest.Item) -> list[Entry]:
        """The entries that a test falls under."""
        names = {*behaviours_of(item), *_prefixes(item.nodeid)}
        return [entry for key, entry in self.entries.items() if key in names]


KNOWN = pytest.StashKey[Known]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The file."""
    words = (
        'differences of this broker that are known: a TOML file of lines such as TX-01 = "reason"; a spec that is '
        "listed, by an id or by its node id, may fail; an entry whose specs all hold is reported, and fails the run "
        "where strict_xfail or strict is set"
    )
    parser.getgroup("rabbitmq").addoption("--known", metavar="FILE", type=not_empty, help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Reads the file before any broker is started."""
    name = config.getoption("known")
    if not name:
        return
    try:
        config.stash[KNOWN] = Known(config.invocation_params.dir / name)
    except OSError as error:
        raise pytest.UsageError(f"--known {name}: it cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise pytest.UsageError(f"--known {name}: {error}") from None
    overlook(config)
    config.pluginmanager.register(_Marks(config.stash[KNOWN]))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Messages())


class _Marks:
    """Where tests are collected and run."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._totals: dict[str, int] = {}  # how many tests fall under an entry, those that are deselected too

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Marks what may fail; before others deselect."""
        for item in items:
            for entry in self._known.of(item):
                self._totals[entry.key] = self._totals.get(entry.key, 0) + 1
                item.add_marker(pytest.mark.xfail(reason=entry.reason, strict=False))
        missing = [entry for key, entry in self._known.entries.items() if key not in self._totals]
        elsewhere = of_others(config.rootpath, {item.path for item in items}, [entry.key for entry in missing])
        unknown = [entry for entry in missing if entry.key not in elsewhere]
        if unknown:
            words = "\n".join(
                f"--known {self._known.path}, line {entry.line}: no spec has {entry.key!r}: correct it, or leave it out"
                for entry in unknown
            )
            if not hasattr(config, "workerinput"):
                raise pytest.UsageError(words)
            getattr(config, "workeroutput")[ERROR] = words  # noqa: B009 - of pytest-xdist
            items.clear()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tells whoever counts what a test falls under. One that holds has passed: others of its entry may fail."""
        report = yield
        entries = self._known.of(item)
        if report.passed and entries and hasattr(report, "wasxfail"):
            del report.wasxfail
        vars(report)["rmqspec_known"] = [[entry.key, self._totals.get(entry.key, 0)] for entry in entries]
        return report


class _Messages:
    """Where the workers of pytest-xdist end: they cannot say a word of their own."""

    def __init__(self) -> None:
        self._words = ""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._words = getattr(node, "workeroutput", {}).get(ERROR, self._words)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._words:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._words:
            terminalreporter.write_line(f"ERROR: {self._words}", red=True)


def _lines(text: str) -> dict[str, int]:
    """The line of each key; TOML's own reader does not tell."""
    key = re.compile(r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[\w-]+))\s*=""")
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if found := key.match(line):
            lines.setdefault(next(group for group in found.groups() if group is not None), number)
    return lines


def _prefixes(nodeid: str) -> Iterator[str]:
    """Of ``a.py::B::c[d]``: ``a.py``, ``a.py::B``, ``a.py::B::c``, and itself."""
    whole, bracket, _ = nodeid.partition("[")
    parts = whole.split("::")
    for count in range(1, len(parts) + 1):
        yield "::".join(parts[:count])
    if bracket:
        yield nodeid


def of_others(root: Path, collected: set[Path], keys: Iterable[str]) -> set[str]:
    """Those that name something in test files which this run has not collected.

    A part of a suite is run with the list of the whole.

    Args:
        root: Where test files are.
        collected: Those that are known to have none of them.
        keys: Ids and node ids.
    """
    keys, found = list(keys), set[str]()
    if not keys:
        return found
    for path in _test_files(root):
        if path in collected:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        here = path.relative_to(root).as_posix()
        for key in keys:
            file, *names = key.partition("[")[0].split("::")
            if ID.fullmatch(key) and f'"{key}"' in text:
                found.add(key)
            if file == here and all(re.search(rf"\b(?:def|class) {re.escape(name)}\b", text) for name in names):
                found.add(key)
    return found


def _test_files(root: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(root):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        yield from (Path(place, file) for file in files if file.startswith("test_") and file.endswith(".py"))
