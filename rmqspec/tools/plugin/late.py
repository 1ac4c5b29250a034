"""Where lateness meets pytest: `--late 0.05` makes each spec fail that counts on an order which nobody has promised."""

from __future__ import annotations

import pytest

from rmqspec.tools.wire.late import Late

LATE = pytest.StashKey[Late]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How late."""
    words = "let come this late whatever AMQP lets come late, so that races are lost each time (such as 0.05)"
    parser.getgroup("rabbitmq").addoption("--late", metavar="SECONDS", type=float, help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Somebody stands by who lets things come late, if that is wanted."""
    seconds = config.getoption("late")
    if seconds is None:
        return
    for other in ("record", "lies", "lie", "suggest_lies"):
        if config.getoption(other):
            words = (
                f"--late and --{other.replace('_', '-')} both want to stand in the wire: leave one of the options out"
            )
            raise pytest.UsageError(words)
    try:
        config.stash[LATE] = Late(seconds)
    except ValueError as error:
        raise pytest.UsageError(f"--late: {error}") from None
