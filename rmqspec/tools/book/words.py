"""Names and words as a reader of the book sees them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from markupsafe import Markup, escape

__all__ = ["anchor", "lane_names", "marked", "paragraphs", "version_key"]

CODE = re.compile(r"`([^`]+)`")
NODE = re.compile(r"\S*\.py::\S+(?: \S+\])?")
UNNAMED = re.compile(r"connection \d+")


def marked(text: str) -> Markup:
    """The text, escaped; what stands between backticks is code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def paragraphs(text: str) -> list[str]:
    """What is parted by blank lines, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]


def anchor(name: str) -> str:
    """A name as it stands behind the ``#`` of a link: letters, digits, ``.``, ``_`` and ``-``."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def version_key(version: str) -> tuple[int, ...]:
    """By what versions are sorted: 3.10 comes behind 3.9."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def lane_names(connections: Iterable[str], node: str) -> dict[str, str]:
    """What each connection is called in a drawing: by its part in the order system, or "this test".

    Args:
        connections: Their names. Those of a test hold its node id, which says nothing here.
        node: That id.
    """
    names = {name: _lane(name, node) for name in dict.fromkeys(connections)}
    seen = Counter[str]()
    for name, lane in names.items():
        seen[lane] += 1
        names[name] = lane if seen[lane] == 1 else f"{lane} ({seen[lane]})"
    return names


def _lane(name: str, node: str) -> str:
    bare = NODE.sub("", name.replace(node, ""))
    bare = re.sub(r"\(\d+\)\s*$", "", bare)  # the number of a second one is counted here, behind what is left
    if UNNAMED.fullmatch(bare.strip()):
        return "a client"
    return bare.strip(" .:/()[]-") or "this test"
