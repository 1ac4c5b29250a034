"""A failure teaches: beneath the failing line stand the sentence that broke, why it matters, and where to read on."""

from __future__ import annotations

import inspect
from collections.abc import Generator

import pytest

from rmqspec.tools.plugin.headings import heading

RED = pytest.StashKey[set[object]]()  # the files in which a spec has failed already
SHORT = 2.0  # seconds that a wait may take in such a file: what is missing is mostly missing again


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds a section to the report of a spec that failed, and remembers its file."""
    report = yield
    if report.failed and report.when != "teardown":
        item.config.stash.setdefault(RED, set()).add(getattr(item, "module", None))
        if text := lesson_of(item):
            report.sections.append(("What this spec says", text))
    return report


def lesson_of(item: pytest.Item) -> str:
    """Chapter, sentence, reason and pages of a spec; nothing for a test without a class or a docstring."""
    owner, reason = getattr(item, "cls", None), inspect.getdoc(getattr(item, "function", None))
    if owner is None or not reason:
        return ""
    from rmqspec.tools.plugin.words import sentence_of

    head = heading(item)
    lines = [head.line, f"   {sentence_of(item)}", f"   {' '.join(reason.split())}"]
    lines += [f"   {name}: {', '.join(values)}" for name, values in head.lists.items() if name != "Reference"]
    return "\n".join(lines)


def is_red(item: pytest.Item) -> bool:
    """Whether another spec of the same file has failed already."""
    return getattr(item, "module", None) in item.config.stash.get(RED, set())
