"""Where the lies meet pytest: ``pytest --lies`` proves that each spec can fail.

``@pytest.mark.lie("prefetch-ignored")`` stands beside a spec and names what a broker would have to do to break its
promise. Under ``--lies`` each spec runs with a proxy in front of the broker that does just this. The spec is *proved*
if it fails by its own assertion: an ``AssertionError`` or ``pytest.fail`` in the spec, or in a wait that it called. A
set-up that fails, an answer that never came, a time-out and an exception of the client are no proofs: they may come
from anywhere.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import _pytest
import pytest

import rmqspec
from rmqspec.tools.plugin.fixtures import PATIENCE
from rmqspec.tools.plugin.leftovers import overlook
from rmqspec.tools.plugin.promises import Unkept
from rmqspec.tools.wire.liar import Liar
from rmqspec.tools.wire.lies import LIES, Lie

LIAR = pytest.StashKey[Liar]()
CALL = 20.0  # seconds that a spec may take under a lie
SET_UP = 120.0  # seconds that one fixture may take: a broker may start twice in it
PATIENCE_UNDER_LIES = 2.0  # seconds: what a lie holds back is waited for in hundreds of specs
PACKAGE = Path(rmqspec.__file__).parent
WAITS = Path(__file__).parent / "fixtures.py"  # its waits assert for the spec that calls them
NO_LIE = "it names no lie that breaks its promise: add @lie(…); `rmqspec lies` suggests one"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two ways to lie to specs, and a third for `rmqspec lies`."""
    group = parser.getgroup("rabbitmq")
    group.addoption(
        "--lies", action="store_true", help="prove the specs: run each under the lie that it names; it must fail"
    )
    group.addoption("--lie", metavar="NAME", help="tell this one lie to all specs, to see how they fail")
    group.addoption("--suggest-lies", action="store_true", help="tell all lies to each spec (see `rmqspec lies`)")


def pytest_configure(config: pytest.Config) -> None:
    """A liar stands by if one is wanted."""
    words = (
        "lie(name, cases=None, because=None): what a broker would do to break this promise; of these cases (their ids) "
        "only; lie(None, because=…) where none can be told"
    )
    config.addinivalue_line("markers", words)
    modes = [mode for mode in ("lies", "lie", "suggest_lies") if config.getoption(mode)]
    if not modes:
        return
    for other in ("record", "late"):
        if config.getoption(other, None) is not None:
            raise pytest.UsageError(f"--{other} and --{modes[0]} both stand in the wire: leave one of the options out")
    if len(modes) > 1:
        raise pytest.UsageError("--lies, --lie and --suggest-lies exclude each other")
    if (name := config.getoption("lie")) and name not in LIES:
        raise pytest.UsageError(f"there is no lie {name!r}: `rmqspec lies --list` shows them")
    overlook(config)
    config.stash[LIAR] = Liar()
    config.stash[PATIENCE] = PATIENCE_UNDER_LIES
    _hasten_hypothesis()
    if modes == ["lies"]:
        config.pluginmanager.register(_Proof(config.stash[LIAR]))
    elif modes == ["suggest_lies"]:
        from rmqspec.tools.plugin.suggest import Suggestions

        config.pluginmanager.register(Suggestions(config.stash[LIAR]))


def _hasten_hypothesis() -> None:
    """The first example that is wrong is enough: nobody wants to see the smallest."""
    with suppress(ImportError):
        from hypothesis import Phase, settings

        settings.register_profile("lies", phases=(Phase.explicit, Phase.generate), report_multiple_bugs=False)
        settings.load_profile("lies")


@pytest.fixture(autouse=True, scope="module")
def lie(request: pytest.FixtureRequest) -> Iterator[Lie | None]:
    """The lie that is told on every connection of this test; None in any ordinary run. It comes before all else."""
    name = getattr(request, "param", None)
    if name is None:
        yield None
        return
    liar = request.config.stash[LIAR]
    liar.lie = LIES.get(name)
    liar.would = () if liar.lie else tuple(LIES.values())
    yield liar.lie
    liar.lie, liar.would = None, ()


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test once for each lie; last, so that the name of the lie ends the node id."""
    config = metafunc.config
    if LIAR not in config.stash:
        return
    if config.getoption("lies"):
        markers = metafunc.definition.iter_markers("lie")
        names = list(dict.fromkeys(name for marker in markers for name in marker.args if name in LIES))
    elif config.getoption("lie"):
        names = [config.getoption("lie")]
    else:
        names = ["truth", *LIES]
    if names:
        metafunc.parametrize("lie", names, indirect=True, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps of each case the lies that were named for it; a case without one stays once, and fails."""
    if LIAR not in config.stash:
        return
    if config.getoption("lies"):
        asked = {base_of(item) for item in items if is_asked(item)}
        dropped = [item for item in items if not is_asked(item) and not _stands_for(item, asked)]
        items[:] = [item for item in items if item not in set(dropped)]
    for item in items:
        item.add_marker(pytest.mark.timeout(CALL, func_only=True))
        if has_own_broker(item) and config.pluginmanager.has_plugin("xdist"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))  # a broker for each worker would take its time


def _stands_for(item: pytest.Item, asked: set[str]) -> bool:
    """Whether it is the first of a case for which no lie was named; the others of that case go."""
    base = base_of(item)
    if base in asked:
        return False
    asked.add(base)
    return True


def lie_of(item: pytest.Item) -> str | None:
    """The name of the lie that a test is told in this run; None for none."""
    name = item.callspec.params.get("lie") if hasattr(item, "callspec") else None
    return name if isinstance(name, str) else None


def base_of(item: pytest.Item) -> str:
    """The node id that a test has in an ordinary run."""
    name = lie_of(item)
    if name is None:
        return item.nodeid
    spec = item.nodeid.removesuffix("]").removesuffix(name)
    return spec.removesuffix("[") if spec.endswith("[") else spec.removesuffix("-") + "]"


def is_asked(item: pytest.Item) -> bool:
    """Whether one of the item's markers names its lie for its case."""
    return any(
        lie_of(item) in marker.args and _is_of(_case_of(item), marker.kwargs.get("cases"))
        for marker in item.iter_markers("lie")
        if lie_of(item)
    )


def _case_of(item: pytest.Item) -> str:
    """The id of the case, as in an ordinary run; empty for a spec without cases."""
    return base_of(item).partition("[")[2].removesuffix("]")


def _is_of(case: str, cases: str | Sequence[str] | None) -> bool:
    """Whether the id of a case is one of these, or has one of them as a part between hyphens."""
    wanted = [cases] if isinstance(cases, str) else cases
    return wanted is None or any(f"-{one}-" in f"-{case}-" for one in wanted)


def has_own_broker(item: pytest.Item) -> bool:
    """Whether the spec speaks to a broker that was started for its module."""
    return "another_broker" in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What names no lie is not run under ``--lies``: with a reason it is not asked, without one it fails."""
    if not item.config.getoption("lies"):
        return
    item.config.stash[LIAR].begin()
    reasons = [
        marker.kwargs.get("because")
        for marker in item.iter_markers("lie")
        if marker.args == (None,) and _is_of(_case_of(item), marker.kwargs.get("cases"))
    ]
    if any(reasons):
        pytest.skip(f"not asked: {reasons[0]}")
    if lie_of(item) is None or not is_asked(item):
        pytest.fail(NO_LIE, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """A lie can make a set-up wait for ever. Only the fixture's own code is interrupted, never pytest's."""
    if LIAR not in request.config.stash:
        return (yield)

    def end(*_: object) -> None:
        pytest.fail(f"Timeout (>{SET_UP:g}s) in the set-up of {fixturedef.argname!r}")

    before = signal.signal(signal.SIGALRM, end)
    rest = signal.setitimer(signal.ITIMER_REAL, SET_UP, 2.0)  # again: it may wait once more on its way out
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *rest)
        signal.signal(signal.SIGALRM, before)


class _Proof:
    """Turns reports around: a spec that fails by its own assertion has passed."""

    def __init__(self, liar: Liar) -> None:
        self._liar = liar
        self._counts = Counter[str]()
        self._modules = set[tuple[Path, str | None]]()  # of files with a broker of their own: what they were told

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if not is_asked(item) or report.skipped:
            return report
        complaint = objection(item, report, call, told=self._is_told(item))
        if report.when == "teardown":  # of what a lie has left behind
            report.outcome, report.longrepr = "passed", None
        elif report.when == "call" or report.failed:
            vars(report)["rmqspec_proved"] = not complaint
            report.outcome = "failed" if complaint else "passed"
            report.longrepr = f"not proved by {lie_of(item)!r}: {complaint}" if complaint else None
        return report

    def _is_told(self, item: pytest.Item) -> bool:
        """Whether the lie was told to this spec, or to what is set up once for all specs of its file."""
        told = bool(self._liar.told)
        if has_own_broker(item):
            module = item.path, lie_of(item)
            if told:
                self._modules.add(module)
            return module in self._modules
        return told

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Counts where reports arrive, also from other processes."""
        if report.skipped and report.when == "setup":
            self._counts["not asked"] += 1
        elif report.failed:
            self._counts["not proved"] += 1
        elif report.when == "call":
            self._counts["proved"] += 1

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """The word for what has passed."""
        return ("proved", ".", "PROVED") if getattr(report, "rmqspec_proved", False) else None

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """One line: how many of which."""
        counts = ", ".join(f"{self._counts[word]} {word}" for word in ("proved", "not proved", "not asked"))
        terminalreporter.write_line(f"lies: {counts}")


def objection(item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None], *, told: bool) -> str:
    """Why a test that was lied to is not proved; nothing if it is."""
    if not told and not (report.failed and report.when == "setup"):
        return "the lie was never told: nothing that this spec says or hears has to do with it"
    if call.excinfo is None:
        return "the spec passed"
    words = (call.excinfo.exconly().strip() or "?").splitlines()[0][:200]
    if report.when != "call":
        return f"its {report.when} failed, and the spec was not run: {words}"
    if isinstance(call.excinfo.value, Unkept):
        return f"an answer never came, which the spec does not assert: {words}"
    if "Timeout (>" in words:
        return f"it ran out of time: {words}"
    if not isinstance(call.excinfo.value, (AssertionError, pytest.fail.Exception)):
        return f"it ended by an exception, not by an assertion: {words}"
    place = _place(call.excinfo.traceback)
    if not _is_of_suite(place, item.config.rootpath):
        return f"what failed is not an assertion of the spec, but of {place.name}: {words}"
    return ""


def _place(traceback: Iterable[Any]) -> Path:
    """The file in which an assertion failed; pytest's own frames, as of ``pytest.fail``, do not count."""
    own = Path(_pytest.__file__).parent
    places = [Path(entry.path) for entry in traceback]
    return next((place for place in reversed(places) if own not in place.parents), own)


def _is_of_suite(place: Path, root: Path) -> bool:
    """Whether a file holds specs or their helpers, or the waits that this plugin gives them."""
    libraries = "site-packages" in place.parts or PACKAGE in place.parents
    return place == WAITS or (place.is_relative_to(root) and not libraries)
