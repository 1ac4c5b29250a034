"""Under ``-v`` each chapter opens with its title and its prose."""

from __future__ import annotations

import re

import pytest

CHAPTER = pytest.StashKey[object]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Under -v, opens each chapter with its title and its prose. Node ids stay as they are."""
    reporter = item.config.pluginmanager.get_plugin("terminalreporter")
    module = getattr(item, "module", None)
    if reporter is None or reporter.verbosity < 1 or item.config.stash.get(CHAPTER, None) is module:
        return
    item.config.stash[CHAPTER] = module
    number, title, prose = heading(item)
    reporter.ensure_newline()
    reporter.write_line("")
    reporter.write_line(f"{number}. {title}" if number else title, bold=True)
    for line in prose:
        reporter.write_line(f"   {line}" if line else "")


def heading(item: pytest.Item) -> tuple[int | None, str, list[str]]:
    """A chapter's number, if its file has one, its title, and the lines of its prose."""
    title, *prose = (getattr(getattr(item, "module", None), "__doc__", None) or item.path.name).strip().splitlines()
    number = re.match(r"test_(\d+)_", item.path.name)
    return int(number[1]) if number else None, title, prose
