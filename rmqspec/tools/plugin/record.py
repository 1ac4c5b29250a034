"""``pytest --record FILE``: what each spec says, how it ended and what went over the wire."""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from rmqspec import __version__
from rmqspec.tools.book.record import Chapter, Footer, Header, NoRecord, Outcome, Spec, from_plain, to_plain
from rmqspec.tools.book.writer import Writer, check_place
from rmqspec.tools.broker import Broker
from rmqspec.tools.broker.errors import ManagementError, NoManagement
from rmqspec.tools.plugin.broker import BROKER
from rmqspec.tools.plugin.words import chapter_of, judge, not_empty, spec_of
from rmqspec.tools.wire.recorder import Recorder

RECORDER = pytest.StashKey[Recorder]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that turns all of this on."""
    words = "write a record of this run: each spec with its outcome and with the frames that went over the wire"
    parser.getgroup("rabbitmq").addoption("--record", metavar="FILE", type=not_empty, help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Says at once if the file is not to be had: nobody wants to hear that after the broker has booted."""
    if config.getoption("record") and not _is_worker(config):
        try:
            check_place(_place(config))
        except NoRecord as error:
            raise pytest.UsageError(f"--record: {error}") from None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begins to note, where a broker was found; the file is written by one process alone."""
    config = session.config
    if not config.getoption("record") or BROKER not in config.stash:
        return
    config.stash[RECORDER] = Recorder()
    config.pluginmanager.register(_Notes(config.stash[RECORDER], config.stash[BROKER]))
    if not _is_worker(config):
        try:
            config.pluginmanager.register(_Book(_place(config), config.stash[BROKER]))
        except NoRecord as error:
            raise pytest.UsageError(f"--record: {error}") from None


class _Notes:
    """Where tests run: puts what is known of a test into the report of its teardown, which reaches whoever writes."""

    def __init__(self, recorder: Recorder, broker: Broker) -> None:
        self._recorder, self._broker = recorder, broker
        self._reports: list[pytest.TestReport] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        self._reports.clear()
        self._recorder.begin()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._reports.append(report)
        if report.when == "teardown":
            outcome, reason = judge(self._reports, self._broker)
            seconds = sum(one.duration for one in self._reports if one.when == "call")
            events, left_out = self._recorder.recording()
            spec = spec_of(item, outcome=outcome, reason=reason, seconds=seconds, frames=events, left_out=left_out)
            # Text: pytest-xdist carries plain data only from a worker to its controller, and no kind of int but int.
            vars(report)["rmqspec_record"] = [json.dumps(to_plain(line)) for line in (chapter_of(item), spec)]
        return report


class _Book:
    """Where reports arrive: writes what they bring along as they come."""

    def __init__(self, path: Path, broker: Broker) -> None:
        self._chapters: set[str] = set()
        self._outcomes, self._frames, self._lost = Counter[Outcome](), 0, False
        self._begun = time.monotonic()
        self._writer = Writer(path, broker.endpoint.password)
        self._writer.write(_header(broker))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for text in getattr(report, "rmqspec_record", ()):
            line = from_plain(json.loads(text))
            if isinstance(line, Spec):
                self._write_spec(line)
            elif isinstance(line, Chapter) and line.name not in self._chapters:
                self._chapters.add(line.name)
                self._writer.write(line)
        self._lost |= report.when not in ("setup", "call", "teardown")  # a worker has crashed, its test told nothing

    def _write_spec(self, spec: Spec) -> None:
        self._outcomes[spec.outcome] += 1
        self._frames += len(spec.frames)
        self._writer.write(spec)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """A run that was broken off gets no footer: whoever reads it is told."""
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not self._lost:
            seconds = round(time.monotonic() - self._begun, 3)
            self._writer.write(Footer(outcomes=dict(self._outcomes), seconds=seconds, finished=_now()))
        self._writer.close()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        specs = self._outcomes.total()
        terminalreporter.write_line(f"record: {self._writer.path}, {specs} specs, {self._frames} frames")


def _header(broker: Broker) -> Header:
    identity = broker.identity
    return Header(
        product=identity.product,
        version=identity.version,
        erlang=identity.platform.removeprefix("Erlang/OTP").strip(),
        source=broker.source,
        description=broker.description,
        features=_listed(broker.management.feature_flags),
        plugins=_listed(broker.management.plugins),
        clients={"rmqspec": __version__, "pika": version("pika"), "pytest": pytest.__version__},
        python=platform.python_version(),
        started=_now(),
    )


def _listed(ask: Callable[[], set[str]]) -> tuple[str, ...]:
    try:
        return tuple(sorted(ask()))
    except (ManagementError, NoManagement):  # this broker has no such list, or nobody knows where to ask
        return ()


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _place(config: pytest.Config) -> Path:
    return config.invocation_params.dir / str(config.getoption("record"))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
