"""What ``pytest -k`` finds beside the names: a class in words with underscores, and the ids of the catalogue.

``-k max_length`` finds ``TestMaxLength``, and ``-k DLX-01`` whatever holds that promise.
"""

from __future__ import annotations

import re

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """Adds to what is searched; names and node ids stay as they are."""
    owner = getattr(item, "cls", None)
    if owner is not None:
        item.extra_keyword_matches.add(in_words(owner.__name__.removeprefix("Test")))
    item.extra_keyword_matches.update(str(name) for mark in item.iter_markers("behaviour") for name in mark.args)


def in_words(name: str) -> str:
    """The words of a class's name: ``BasicQosPrefetch`` is ``basic_qos_prefetch``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
