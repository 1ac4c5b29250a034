"""Which lies a spec notices: what `rmqspec lies` shows to whoever writes one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator
from typing import Any, NamedTuple

import pytest

from rmqspec.tools.plugin.lies import base_of, has_own_broker, lie_of, objection
from rmqspec.tools.wire.liar import Liar
from rmqspec.tools.wire.lies import LIES

TRUTH = "truth"  # the first of the runs of each spec: it shows which lies have anything to do with it


class Noticed(NamedTuple):
    """A spec has failed under a lie, by its own assertion."""

    seconds: float
    lie: str
    words: str


class Suggestions:
    """Runs each spec once with the truth, and then under each lie that would have changed something.

    In one process: the first run of a spec decides about the others.
    """

    def __init__(self, liar: Liar) -> None:
        self._liar = liar
        self._would: dict[str, set[str]] = defaultdict(set)  # by spec
        self._module: dict[str, set[str]] = defaultdict(set)  # by file: what is set up once may be lied to as well
        self._noticed: dict[str, list[Noticed]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A lie that has nothing to do with this spec is not told."""
        if lie_of(item) not in (TRUTH, None) and lie_of(item) not in self._would[base_of(item)]:
            pytest.skip("has nothing to do with this spec")
        self._liar.begin()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Notes how a run has ended; none of them fails."""
        report = yield
        spec, lie = base_of(item), lie_of(item)
        if lie == TRUTH:
            self._note(item)
            if report.when == "call" and report.passed:
                self._noticed.setdefault(spec, [])
        elif lie is not None and not report.skipped:
            if report.when == "call" and not objection(item, report, call, told=True):
                words = call.excinfo.exconly().splitlines()[0] if call.excinfo else ""
                self._noticed[spec].append(Noticed(round(report.duration, 2), lie, words))
            report.outcome, report.longrepr = "passed", None  # it may end as it likes
        return report

    def _note(self, item: pytest.Item) -> None:
        told = self._would[base_of(item)]
        told |= self._liar.told
        if has_own_broker(item):
            module = self._module[item.nodeid.partition("::")[0]]
            module |= told
            told |= module

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Nothing is counted, and no line is written for each of thousands of runs; a failing truth is shown."""
        return ("", "", "") if not report.failed else None

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """For each spec the lies that it notices."""
        specs = Counter(one.lie for found in self._noticed.values() for one in found)
        for spec, found in self._noticed.items():
            terminalreporter.write_line("")
            terminalreporter.write_line(spec, bold=True)
            if not found:
                terminalreporter.write_line(
                    "   no lie turns it red: it asserts nothing, or the lie is still to be written"
                )
            for one in sorted(found):
                terminalreporter.write_line(
                    f"   {one.seconds:5.2f} s  {one.lie}: {LIES[one.lie].sentence} (of {len(self._noticed)} specs "
                    f"noticed by {specs[one.lie]})"
                )
                terminalreporter.write_line(f"            {one.words[:150]}")
