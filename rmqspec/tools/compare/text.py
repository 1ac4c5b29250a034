"""A comparison as a person reads it: plain text, Markdown, and JSON for programs."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

from rmqspec.tools.book import Header, Spec
from rmqspec.tools.compare.comparison import Comparison, Shown

__all__ = ["as_json", "as_markdown", "as_text"]

WIDTH = 118  # columns
SECTIONS = (
    ("UNEXPLAINED", "fails here, did not fail there, and no spec says that it should"),
    ("CHANGED", "a spec holds there, another of the same behaviour holds here"),
    ("ONLY THERE", "held there alone, without a spec of the other side that passes"),
    ("ONLY HERE", "holds here alone, without a spec of the other side that passed"),
    ("NOT RUN", "on one side at least"),
)


def as_text(comparison: Comparison) -> str:
    """Plain text: a section for each kind of difference, also where it is empty."""
    lines = list(_head(comparison))
    for (name, meaning), entries in zip(SECTIONS, _sections(comparison), strict=True):
        lines += ["", f"{name} ({len(entries)})  {meaning}"]
        for entry in entries:
            lines += ["", *(line for indent, words in entry for line in _wrapped(words, indent))]
    return "\n".join(lines)


def as_markdown(comparison: Comparison) -> str:
    """Markdown, for a ticket or a page."""
    first, *rest = _head(comparison)
    lines = [f"# {_escaped(first)}", "", *(f"- {_escaped(line)}" for line in rest)]
    for (name, meaning), entries in zip(SECTIONS, _sections(comparison), strict=True):
        lines += ["", f"## {name.capitalize()} ({len(entries)})", "", f"{meaning.capitalize()}.", ""]
        for entry in entries:
            lines += [f"{' ' * (indent - 2)}- {_escaped(words)}" for indent, words in entry]
    return "\n".join(lines)


def as_json(comparison: Comparison) -> str:
    """One object for programs, in ASCII."""
    return json.dumps(
        {
            "there": _side(comparison.there),
            "here": _side(comparison.here),
            "passed_on_both": comparison.same,
            "failed_on_both": comparison.failing,
            "in_neither_version": comparison.in_neither,
            "unexplained": list(map(_object, comparison.unexplained)),
            "changed": [
                {
                    "row": change.row,
                    "behaviours": change.behaviours,
                    "there": list(map(_object, change.there)),
                    "here": list(map(_object, change.here)),
                }
                for change in comparison.changed
            ],
            "only_there": list(map(_object, comparison.only_there)),
            "only_here": list(map(_object, comparison.only_here)),
            "not_run": list(map(_object, comparison.not_run)),
        },
        indent=2,
    )


Entry = Sequence[tuple[int, str]]  # lines, each with its indent


def _head(comparison: Comparison) -> Iterator[str]:
    there, here = comparison.there, comparison.here
    yield f"{there.product} {there.version} compared with {here.product} {here.version}"
    for name, side in (("there", there), ("here", here)):
        yield f"{name}: {side.product} {side.version}, Erlang {side.erlang}, {side.description}, {side.started}"
    yield (
        f"{comparison.same} specs passed on both sides, {comparison.failing} failed on both, "
        f"{comparison.in_neither} in neither version"
    )


def _sections(comparison: Comparison) -> tuple[list[Entry], ...]:
    changed: list[Entry] = [
        [
            (2, " ".join(filter(None, (change.row, *change.behaviours)))),
            *((6, f"there  {_named(one)}") for one in change.there),
            *((6, f"here   {_named(one)}") for one in change.here),
        ]
        for change in comparison.changed
    ]
    return (
        _each(comparison.unexplained, _failure),
        changed,
        _each(comparison.only_there, _alone),
        _each(comparison.only_here, _alone),
        _each(comparison.not_run, _reason),
    )


def _each(shown: Sequence[Shown], lines: Callable[[Shown], Iterator[str]]) -> list[Entry]:
    return [[(2, _headline(one)), *((6, words) for words in lines(one)), (6, one.node)] for one in shown]


def _headline(one: Shown) -> str:
    return " ".join(filter(None, (", ".join(one.behaviours), _named(one))))


def _named(one: Shown) -> str:
    """The sentence, the versions and the cases."""
    remarks = "; ".join(filter(None, (one.bounds, _cases(one.cases))))
    return f"{one.sentence} ({remarks})" if remarks else one.sentence


def _cases(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{len(names)} cases"


def _failure(one: Shown) -> Iterator[str]:
    yield f"there: {one.outcomes[0]}; here: {one.outcomes[1]}: {_first_line(one.here[0].reason)}"


def _alone(one: Shown) -> Iterator[str]:
    if one.outcomes[0] not in ("passed", "not in this version"):
        yield f"there: {one.outcomes[0]}: {_first_line(one.there[0].reason)}"


def _reason(one: Shown) -> Iterator[str]:
    for name, spec in (("there", one.there[0]), ("here", one.here[0])):
        yield f"{name}: {spec.outcome}" + (f": {_first_line(spec.reason)}" if spec.reason else "")


def _first_line(reason: str) -> str:
    return reason.partition("\n")[0]


def _object(one: Shown) -> dict[str, object]:
    return {
        "node": one.node,
        "sentence": one.sentence,
        "behaviours": one.behaviours,
        "since": one.here[0].since,
        "before": one.here[0].before,
        "cases": one.cases,
        "there": _outcome(one.there[0]),
        "here": _outcome(one.here[0]),
    }


def _outcome(spec: Spec) -> dict[str, str]:
    return {"outcome": spec.outcome, "reason": spec.reason}


def _side(header: Header) -> dict[str, object]:
    return {
        "product": header.product,
        "version": header.version,
        "erlang": header.erlang,
        "source": header.source,
        "started": header.started,
    }


def _wrapped(words: str, indent: int) -> list[str]:
    return textwrap.wrap(
        words, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 7),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _escaped(words: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", words)
