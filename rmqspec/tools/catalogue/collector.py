"""A plugin for the pytest that collects the suite: writes each case that was found into a file, and runs none.

It is loaded by ``collected`` alone, in a process of its own.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

OPTION = "--write-catalogue"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to."""
    parser.addoption(OPTION, dest="write_catalogue", metavar="FILE", help="write what was collected into this file")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Writes one JSON list."""
    cases = [case_of(item) for item in session.items]
    Path(session.config.getoption("write_catalogue")).write_text(json.dumps(cases), encoding="utf-8")


def case_of(item: pytest.Item) -> dict[str, Any]:
    """One case of a spec."""
    # Here, not above: pytest rewrites the plugin's asserts when it is imported, and this module is imported before it.
    from rmqspec.tools.plugin.headings import heading
    from rmqspec.tools.plugin.keywords import in_words
    from rmqspec.tools.plugin.words import behaviours_of, sentence_of, subject_of, versions_of

    owner = getattr(item, "cls", None)
    since, before = versions_of(item)
    return {
        "node": item.nodeid.partition("[")[0],
        "case": item.callspec.id if hasattr(item, "callspec") else "",
        "title": heading(item).line,
        "subject": subject_of(owner),
        "about": inspect.getdoc(owner) or "" if owner else "",
        "sentence": sentence_of(item),
        "why": inspect.getdoc(getattr(item, "function", None)) or "",
        "behaviours": behaviours_of(item),
        "since": since,
        "before": before,
        "terms": [in_words(owner.__name__.removeprefix("Test"))] if owner else [],
    }
