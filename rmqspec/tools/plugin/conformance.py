"""``pytest --conformance FILE``: a verdict for each behaviour, with the reason and the specs that it comes from.

*holds*: specs of it have passed, and none has failed. *differs as known*: one has failed that ``--known`` lists.
*fails*: one has failed that it does not list. *not run*: none could be run, or all are about other versions; what is
missing is said. There is no percentage: behaviours do not weigh the same, and no number says which of them one can live
without.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from rmqspec import __version__
from rmqspec.tools.book.writer import without_secrets
from rmqspec.tools.broker import Broker
from rmqspec.tools.plugin.broker import BROKER
from rmqspec.tools.plugin.known import KNOWN, Entry, Known
from rmqspec.tools.plugin.one_vhost import ONE_VHOST, OneVhost
from rmqspec.tools.plugin.words import NO_BROKER, answers, behaviours_of, judge, not_empty, reason_of

__all__ = ["Verdict"]

Word = Literal["holds", "differs as known", "fails", "not run"]
WORDS: tuple[Word, ...] = get_args(Word)
GRAVEST: tuple[Word, ...] = ("fails", "differs as known", "holds", "not run")
OTHER_VERSION = "not in this version: "
RESTART = 20.0  # seconds in which somebody may start a broker again that has died
SHOWN = 160  # characters of a reason in the terminal; the file has it whole


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one spec has ended.

    Attributes:
        node: Its node id.
        verdict: One of four.
        reason: Why; empty if it holds.
        seen: How it failed; empty if it did not.
        ids: The behaviours that it is about.
        known: The entries of ``--known`` that it falls under, each with how many specs do.
        silent: Whether the broker has stopped answering in it.
    """

    node: str
    verdict: Word
    reason: str = ""
    seen: str = ""
    ids: list[str] = field(default_factory=list)
    known: list[tuple[str, int]] = field(default_factory=list)
    silent: bool = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """The file."""
    words = (
        "write a verdict for each behaviour id as JSON, and a summary to the terminal: holds, differs as known "
        "(--known), fails, not run"
    )
    parser.getgroup("rabbitmq").addoption("--conformance", metavar="FILE", type=not_empty, help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Says at once if the file cannot be written: nobody wants to hear that at the end."""
    place = _place(config)
    if place is None or place.is_fifo() or hasattr(config, "workerinput"):
        return
    for other in ("known", "record"):
        name = config.getoption(other)
        if name and (config.invocation_params.dir / name).resolve() == place.resolve():
            raise pytest.UsageError(f"--conformance {place}: this is the file of --{other}: name another one")
    if place.is_file() and place.stat().st_size and not _is_report(place):
        raise pytest.UsageError(f"--conformance {place}: it is there, and no such report: name another file")
    is_new = not place.exists()
    try:
        place.open("a").close()
        if is_new:
            place.unlink()
    except OSError as error:
        raise pytest.UsageError(
            f"--conformance {place}: it cannot be written there ({error.strerror}): name a file in a directory that is"
        ) from None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begins to judge, where a broker was found and somebody wants to know."""
    config = session.config
    if BROKER not in config.stash or not (config.getoption("conformance") or KNOWN in config.stash):
        return
    config.pluginmanager.register(_Judge(config))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Report(config))


class _Judge:
    """Where tests run: puts the verdict into the report of a test's teardown."""

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._broker = config, config.stash[BROKER]
        self._reports: list[pytest.TestReport] = []
        self._silent_since = ""  # the spec in which the broker has stopped answering
        self._waited = False  # for whoever starts it again

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """A broker that has died or hangs is asked no more; one that somebody has started again is."""
        self._reports.clear()
        if not self._silent_since:
            return
        deadline = time.monotonic() + (0.0 if self._waited else RESTART)
        while not self._is_alive():
            if time.monotonic() > deadline:
                self._waited = True
                pytest.skip(f"not run: the broker has not answered since {self._silent_since}")
            time.sleep(0.1)
        self._silent_since, self._waited = "", False
        if (shared := self._shared) is not None:
            shared.is_another()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._reports.append(report)
        if report.when == "teardown":
            verdict = self._judge(item)
            vars(report)["rmqspec_verdict"] = without_secrets(asdict(verdict), self._broker.endpoint.password)
        return report

    def _judge(self, item: pytest.Item) -> Verdict:
        reports = self._reports
        known = [(key, total) for key, total in getattr(reports[-1], "rmqspec_known", ())]
        word, reason, seen = _verdict(reports, self._broker)
        silent = not self._silent_since and not self._is_alive()
        if silent:
            self._silent_since = item.nodeid
        return Verdict(item.nodeid, word, reason, seen, behaviours_of(item), known, silent)

    @property
    def _shared(self) -> OneVhost | None:
        return self._config.stash.get(ONE_VHOST, None)

    def _is_alive(self) -> bool:
        shared = self._shared
        return answers(self._broker) and (shared is None or shared.is_alive())


def _verdict(reports: list[pytest.TestReport], broker: Broker) -> tuple[Word, str, str]:
    """The verdict, its reason, and what was seen."""
    for report in reports:
        if report.skipped and hasattr(report, "wasxfail"):
            return "differs as known", report.wasxfail.removeprefix("reason: "), reason_of(report)
    outcome, reason = judge(reports, broker)
    if outcome == "passed":
        return "holds", "", ""
    if outcome == "not in this version":
        return "not run", OTHER_VERSION + reason, ""
    if outcome == "not run" or NO_BROKER in reason:
        return "not run", reason, ""
    return "fails", reason, reason


class _Report:
    """Where reports arrive."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._broker, self._known = config.stash[BROKER], config.stash.get(KNOWN, None)
        self._verdicts: list[Verdict] = []
        self._lost, self._unwritten = False, ""
        self._started = time.time()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if plain := getattr(report, "rmqspec_verdict", None):
            self._verdicts.append(Verdict(**plain))
        elif report.when not in ("setup", "call", "teardown"):  # a worker of pytest-xdist has crashed
            self._lost = True
            self._verdicts.append(Verdict(report.nodeid, "fails", "the process that ran it has crashed"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Writes the file. An entry that is out of date fails the run as pytest's own xfail does."""
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if ended and self._out_of_date and _is_strict(self._config):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        place = _place(self._config)
        if place is not None and self._verdicts:
            report = self._plain(complete=bool(ended and not self._lost))
            try:
                place.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            except OSError as error:
                self._unwritten = f"THE REPORT COULD NOT BE WRITTEN: {place} ({error.strerror})"
                session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._verdicts:
            return
        terminalreporter.section("conformance")
        for line in self._lines():
            terminalreporter.write_line(line)

    @property
    def _behaviours(self) -> Mapping[str, list[Verdict]]:
        of: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in self._verdicts:
            for name in verdict.ids:
                of[name].append(verdict)
        return dict(sorted(of.items()))

    @property
    def _silences(self) -> list[str]:
        return [one.node for one in self._verdicts if one.silent]

    @property
    def _out_of_date(self) -> list[Entry]:
        return sorted(_out_of_date(self._verdicts, self._known), key=lambda one: one.line) if self._known else []

    def _plain(self, *, complete: bool) -> dict[str, Any]:
        identity = self._broker.identity
        behaviours = self._behaviours
        return {
            "schema": 1,
            "broker": asdict(identity) | {"read_as": self._config.getoption("like")},
            "suite": {"rmqspec": __version__, "pika": version("pika")},
            "started": datetime.fromtimestamp(self._started, UTC).isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "complete": complete,
            "verdicts": _counts(behaviours),
            "behaviours": {
                name: {"verdict": _gravest(specs), "specs": [_spec(one) for one in specs]}
                for name, specs in behaviours.items()
            },
            "without_id": [_spec(one) for one in self._verdicts if not one.ids],
            "stopped_answering_in": self._silences,
            "known_but_hold": [entry._asdict() for entry in self._out_of_date],
        }

    def _lines(self) -> Iterator[str]:
        behaviours, like = self._behaviours, self._config.getoption("like")
        yield f"{self._broker.identity}{f', read as RabbitMQ {like}' if like else ''}"
        yield ", ".join(f"{count} {word}" for word, count in _counts(behaviours).items()) + " (behaviours)"
        without = Counter(one.verdict for one in self._verdicts if not one.ids)
        if without:
            yield ", ".join(f"{without[word]} {word}" for word in WORDS) + " (specs without an id: our own clients)"
        if self._silences:
            yield from ("", "THE BROKER STOPPED ANSWERING IN:", *(f"      {node}" for node in self._silences))
        for word in ("fails", "differs as known", "not run"):
            yield from _grouped(word, behaviours, [one for one in self._verdicts if not one.ids])
        for entry in self._out_of_date:
            place = f"{self._known.path.name}, line {entry.line}" if self._known else ""
            yield f"KNOWN, BUT HOLDS: {entry.key} ({place}): take it out"
        if self._unwritten:
            yield self._unwritten


def _grouped(word: Word, behaviours: Mapping[str, list[Verdict]], others: Iterable[Verdict]) -> Iterator[str]:
    """What has this verdict, by its reasons."""
    of: dict[str, list[str]] = defaultdict(list)
    for name, specs in behaviours.items():
        if _gravest(specs) == word:
            one = next(one for one in specs if one.verdict == word)
            of[one.reason].append(f"{name} ({one.node})" if word == "fails" else name)
    if word == "fails":
        for one in others:
            if one.verdict == word:
                of[one.reason].append(one.node)
    if of:
        yield ""
        yield f"{word.upper()}:"
    for reason, names in of.items():
        first = reason.partition("\n")[0]
        yield f"  {first if len(first) <= SHOWN else first[:SHOWN] + '…'}"
        yield f"      {', '.join(names)}"


def _out_of_date(verdicts: Iterable[Verdict], known: Known) -> Iterator[Entry]:
    """Entries of which all specs were run, and hold; those of other versions do not count."""
    of: dict[str, list[Verdict]] = defaultdict(list)
    totals: dict[str, int] = {}
    for verdict in verdicts:
        for key, total in verdict.known:
            of[key].append(verdict)
            totals[key] = total
    for key, specs in of.items():
        asked = [one for one in specs if not one.reason.startswith(OTHER_VERSION)]
        if len(specs) == totals[key] and asked and all(one.verdict == "holds" for one in asked):
            yield known.entries[key]


def _gravest(specs: Iterable[Verdict]) -> Word:
    words = {one.verdict for one in specs}
    return next(word for word in GRAVEST if word in words)


def _counts(behaviours: Mapping[str, list[Verdict]]) -> dict[str, int]:
    counts = Counter(_gravest(specs) for specs in behaviours.values())
    return {word: counts[word] for word in WORDS}


def _spec(one: Verdict) -> dict[str, str]:
    told = {"reason": one.reason, "seen": one.seen if one.seen != one.reason else ""}
    return {"node": one.node, "verdict": one.verdict} | {name: words for name, words in told.items() if words}


def _is_report(place: Path) -> bool:
    try:
        report = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(report, dict) and {"schema", "behaviours"} <= report.keys()


def _is_strict(config: pytest.Config) -> bool:
    strict = config.getini("strict_xfail")
    return bool(config.getini("strict") if strict is None else strict)


def _place(config: pytest.Config) -> Path | None:
    name = config.getoption("conformance")
    return config.invocation_params.dir / name if name else None
