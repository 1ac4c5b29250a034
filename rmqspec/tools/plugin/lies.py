"""Where the lies meet pytest: which spec would be told which, and what becomes of a spec that is told one.

`rmqspec lies` runs pytest twice with these options. The first run tells the truth, and notes for each spec the lies
that would have changed something. The second runs each spec once for each of these, and notes how it ended.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rmqspec.tools.plugin.broker import BROKER
from rmqspec.tools.plugin.fixtures import PATIENCE
from rmqspec.tools.plugin.promises import Unkept
from rmqspec.tools.wire.liar import Liar
from rmqspec.tools.wire.lies import LIES, Lie

LIAR = pytest.StashKey[Liar]()
TELLS = pytest.StashKey[dict[str, list[str]]]()
# Who notices them depends on what other specs have left in the one vhost, or on who is faster. No sample has them.
UNSTEADY = {"vhost-ignored", "confirm-early"}
SECONDS = 2.0  # of patience: what a lie holds back is waited for in hundreds of tests
SET_UP = 120.0  # seconds that one fixture may take: a broker may start twice in it; pytest-timeout limits calls alone


def pytest_addoption(parser: pytest.Parser) -> None:
    """Used by `rmqspec lies`."""
    group = parser.getgroup("rabbitmq")
    note = "tell the truth, and write down which lies each spec would be told (see `rmqspec lies`)"
    group.addoption("--note-lies", metavar="FILE", help=note)
    tell = "run each spec once for each of its lies in this file, or in that of the broker's version in this folder"
    group.addoption("--tell-lies", metavar="PATH", help=tell)
    group.addoption("--lies-sample", metavar="N:SEED", help="tell only so many pairs of spec and lie, chosen by chance")
    group.addoption("--lies-result", metavar="FILE", help="where to write how specs that were told lies have ended")


def pytest_configure(config: pytest.Config) -> None:
    """A liar stands by if one is wanted."""
    tells = config.getoption("tell_lies")
    if not tells and not config.getoption("note_lies"):
        return
    if config.getoption("record"):
        raise pytest.UsageError("--record keeps what brokers do, not lies: leave one of the options out")
    config.stash[LIAR] = Liar()
    _hasten_hypothesis()
    if tells:
        config.stash[PATIENCE] = SECONDS
    else:
        config.stash[LIAR].would = tuple(LIES.values())
    config.pluginmanager.register(_Witness(config.stash[LIAR]))
    if not hasattr(config, "workerinput"):
        place = config.getoption("lies_result") if tells else config.getoption("note_lies")
        config.pluginmanager.register(_Clerk(config, _place(config, str(place))))


def _hasten_hypothesis() -> None:
    """The first example that is wrong is enough: nobody wants to see the smallest."""
    with suppress(ImportError):
        from hypothesis import Phase, settings

        settings.register_profile("lies", phases=(Phase.explicit, Phase.generate))
        settings.load_profile("lies")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Reads which lies are to be told: that may depend on the broker."""
    config = session.config
    if path := config.getoption("tell_lies"):
        tells = _tells(config, _place(config, path))
        if sample := config.getoption("lies_sample"):
            tells = _sampled({spec: lies for spec, lies in tells.items() if _is_cheap(config, spec)}, sample)
        config.stash[TELLS] = tells


def _tells(config: pytest.Config, path: Path) -> dict[str, list[str]]:
    """For each spec the lies that it is to be told."""
    if path.is_dir():
        release = config.stash[BROKER].identity.release
        path /= f"{release[0]}.{release[1]}.json"
    try:
        specs = json.loads(path.read_text("utf-8"))["specs"]
    except OSError as error:
        raise pytest.UsageError(f"--tell-lies: {path} cannot be read ({error.strerror}): name another file") from None
    # Kept is what was noticed, and how: only a spec that says by itself what is wrong is asked again.
    named = {spec: lies["assertion"].split() for spec, lies in specs.items() if "assertion" in lies}
    return {spec: [name for name in lies if name in LIES] for spec, lies in named.items()}


def _is_cheap(config: pytest.Config, spec: str) -> bool:
    """Whether nothing has to be started for a lie. A file whose broker is killed and started again takes minutes."""
    path = config.rootpath / spec.partition("::")[0]
    return path.exists() and not any(word in path.read_text("utf-8") for word in ("another_broker", "disposable_"))


def _sampled(tells: dict[str, list[str]], sample: str) -> dict[str, list[str]]:
    count, _, seed = sample.partition(":")
    pairs = [(spec, lie) for spec, lies in tells.items() for lie in lies if lie not in UNSTEADY]
    chosen = random.Random(int(seed or 0)).sample(pairs, min(int(count), len(pairs)))  # noqa: S311
    return {spec: [lie for one, lie in chosen if one == spec] for spec in dict.fromkeys(spec for spec, _ in chosen)}


@pytest.fixture(autouse=True, scope="module")
def lie(request: pytest.FixtureRequest) -> Iterator[Lie | None]:
    """The lie that is told on every connection of this test; None in any ordinary run. It comes before all else."""
    name = getattr(request, "param", None)
    if name is None:
        yield None
        return
    liar = request.config.stash[LIAR]
    liar.lie = LIES[name]
    yield liar.lie
    liar.lie = None


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test once for each lie of any of its cases; what is too much goes when the cases are known."""
    tells = metafunc.config.stash.get(TELLS, None)
    if tells is None:
        return
    base = metafunc.definition.nodeid
    names = [name for name in LIES if any(name in tells[case] for case in tells if case.partition("[")[0] == base)]
    metafunc.parametrize("lie", names, indirect=True, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the pairs of spec and lie that were asked for."""
    tells = config.stash.get(TELLS, None)
    if tells is not None:
        wanted = [item for item in items if (pair := pair_of(item)) and pair[1] in tells.get(pair[0], ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(wanted)])
        items[:] = wanted
        for item in items:
            if has_its_broker(item) and config.pluginmanager.has_plugin("xdist"):
                item.add_marker(pytest.mark.xdist_group(item.path.stem))  # the rest may go to any worker


def pair_of(item: pytest.Item) -> tuple[str, str] | None:
    """The node id that a spec has in any ordinary run, and the lie that it is told in this one."""
    name = item.callspec.params.get("lie") if hasattr(item, "callspec") else None
    if not isinstance(name, str):
        return None
    spec = item.nodeid.removesuffix("]").removesuffix(name)
    return (spec.removesuffix("[") if spec.endswith("[") else spec.removesuffix("-") + "]"), name


def has_its_broker(item: pytest.Item) -> bool:
    """Whether the spec speaks to a broker that was started for its module."""
    return "another_broker" in getattr(item, "fixturenames", ())


class _Witness:
    """Where tests run: puts what the liar did, and what the test said of it, into the report."""

    def __init__(self, liar: Liar) -> None:
        self._liar = liar
        self._module: dict[str, set[str]] = {}  # by file, what its specs with a broker of their own would be told

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        self._liar.begin()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """A lie can make a set-up wait for ever. Only the fixture's own code is interrupted, never pytest's."""

        def end(*_: object) -> None:
            pytest.fail(f"Timeout (>{SET_UP:g}s) in the set-up of {fixturedef.argname!r}")

        before = signal.signal(signal.SIGALRM, end)
        rest = signal.setitimer(signal.ITIMER_REAL, SET_UP, SECONDS)  # again: it may wait once more on its way out
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, *rest)
            signal.signal(signal.SIGALRM, before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if pair := pair_of(item):
            if report.when == "call" or report.failed:
                vars(report)["rmqspec_lie"] = [*pair, *_end(report, call), bool(self._liar.told)]
            if report.failed:  # it is what was wanted
                report.outcome = "skipped"  # of a set-up too: what comes behind it is not run
        elif report.when == "teardown" and (self._liar.heard or has_its_broker(item)):
            vars(report)["rmqspec_would"] = [item.nodeid, *self._would(item)]
        return report

    def _would(self, item: pytest.Item) -> list[str]:
        told = self._liar.told
        if has_its_broker(item):  # what is set up for the module is lied to as well
            told = self._module.setdefault(item.nodeid.partition("::")[0], set())
            told |= self._liar.told
        return [name for name in LIES if name in told]


class _Clerk:
    """Where reports arrive: writes down what they say of lies."""

    def __init__(self, config: pytest.Config, path: Path) -> None:
        self._config, self._path, self._rows = config, path, list[list[Any]]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._rows += [getattr(report, name) for name in ("rmqspec_lie", "rmqspec_would") if hasattr(report, name)]

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        row = getattr(report, "rmqspec_lie", None)
        if row is None:
            return ("", "", ("", {})) if report.passed and report.when != "call" else None
        noticed = row[2] != "unnoticed"
        return ("noticed", "!", ("NOTICED", {"green": True})) if noticed else ("unnoticed", ".", ("UNNOTICED", {}))

    def pytest_sessionfinish(self) -> None:
        if self._config.getoption("tell_lies"):
            kept: dict[str, Any] = {"rows": self._rows}
        else:
            kept = {"specs": {spec: {"assertion": " ".join(lies)} for spec, *lies in self._rows}}
        kept = {"broker": str(self._config.stash[BROKER].identity)} | kept
        self._path.write_text(json.dumps(kept), "utf-8")


def _end(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[str, str, float]:
    """How a spec that was told a lie has ended, in which words, and after how many seconds."""
    if not report.failed or call.excinfo is None:
        return "unnoticed", "", round(report.duration, 2)
    words = call.excinfo.exconly().strip().splitlines()
    asserts = isinstance(call.excinfo.value, (AssertionError, pytest.fail.Exception))
    kind = "timeout" if "Timeout (>" in words[0] else "assertion" if asserts else "error"
    if isinstance(call.excinfo.value, Unkept):
        kind = "unanswered"
    if report.when != "call":
        kind = f"{kind} in {report.when}"
    return kind, words[0][:200], round(report.duration, 2)


def _place(config: pytest.Config, name: str) -> Path:
    return config.invocation_params.dir / name
