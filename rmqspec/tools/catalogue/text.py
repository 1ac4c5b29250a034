"""The catalogue as a person reads it, within 80 columns, and as JSON for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby

from rmqspec.tools.catalogue.collected import BY_CASE, Case, Spec
from rmqspec.tools.catalogue.lookup import Found
from rmqspec.tools.catalogue.unheld import concept_of, concepts

__all__ = ["as_json", "as_text"]

WIDTH, LABEL = 80, 10  # columns


def as_text(found: Found) -> str:
    """A list by file and class, or everything about the ids that were named."""
    return "\n".join(_in_detail(found) if found.by_name else _listed(found))


def as_json(found: Found) -> str:
    """One object, in ASCII."""
    return json.dumps(
        {
            "specs": [_spec(spec) for spec in found.specs],
            "open": [
                {"id": name, "concept": concepts()[concept_of(name)], "sentence": sentence}
                for name, sentence in found.unheld.items()
            ],
            "differences": [row.as_plain() for row in found.differences],
        },
        indent=2,
    )


def _spec(spec: Spec) -> dict[str, object]:
    return {
        "node": spec.node,
        "title": spec.title,
        "subject": spec.subject,
        "sentence": spec.sentence,
        "why": spec.why,
        "behaviours": spec.behaviours,
        "cases": [
            {"case": case.name, "behaviours": case.behaviours, "since": case.since, "before": case.before}
            for case in spec.cases
        ],
    }


def _listed(found: Found) -> Iterator[str]:
    yield _counted(found)
    for (path, title), of_file in groupby(found.specs, key=lambda spec: (spec.path, spec.title)):
        yield from ("", path, *_wrapped(title))
        for subject, specs in groupby(of_file, key=lambda spec: spec.subject):
            yield from _wrapped(subject, 2)
            for spec in specs:
                remarks = "; ".join(filter(None, (", ".join(spec.behaviours), spec.versions)))
                yield from _wrapped(f"{spec.fact} ({remarks})" if remarks else spec.fact, 4)
    if found.unheld:
        yield from ("", "No spec yet")
    for concept, names in groupby(found.unheld, key=concept_of):
        yield from _wrapped(f"{concept}: {concepts()[concept]}", 2)
        for name in names:
            yield from _wrapped(f"{name}: {found.unheld[name]}", 4)


def _counted(found: Found) -> str:
    held = {name for spec in found.specs for name in spec.behaviours}
    cases = sum(len(spec.cases) for spec in found.specs)
    return (
        f"{_number(len(held), 'behaviour')} in {_number(len(found.specs), 'spec')} ({_number(cases, 'case')}); "
        f"{len(found.unheld)} without a spec yet"
    )


def _number(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _in_detail(found: Found) -> Iterator[str]:
    yield _counted(found)
    for concept, names in groupby(sorted(found.ids), key=concept_of):
        heading = f"{concept}: {concepts().get(concept, 'no concept of this name')}"
        yield from ("", *_wrapped(heading))
        for name in names:
            yield from _behaviour(name, found)
    for row in found.differences:
        yield from ("", *_wrapped(f"Difference {row.id} {' '.join(row.behaviours)}: {row.does}"))
        yield from _labelled("before", row.before)
        yield from _labelled("after", row.after)
        yield from _labelled("since", f"{row.since} ({row.kind.value})")
        yield from _labelled("do", row.remedy)


def _behaviour(name: str, found: Found) -> Iterator[str]:
    if name in found.unheld:
        yield from ("", *_wrapped(f"{name}  {found.unheld[name]}", 2))
        yield from _labelled("spec", "no spec yet")
    for spec in found.specs:
        cases = [case for case in spec.cases if name in case.behaviours]
        if not cases:
            continue
        yield from ("", *_wrapped(f"{name}  {spec.sentence}", 2))
        yield from _labelled("why", spec.why)
        if spec.versions and spec.versions != BY_CASE:
            yield from _labelled("versions", spec.versions)
        if any(case.name for case in cases):
            yield from _labelled("cases", ", ".join(case.name + _versions(case, spec) for case in cases))
        yield from _labelled("spec", spec.node)


def _versions(case: Case, spec: Spec) -> str:
    """Those of a case, where they are not those of the whole spec."""
    return f" ({case.versions})" if case.versions and case.versions != spec.versions else ""


def _labelled(label: str, words: str) -> list[str]:
    return textwrap.wrap(
        " ".join(words.split()), WIDTH - 1, initial_indent=f"      {label:<{LABEL}}",
        subsequent_indent=" " * (6 + LABEL), break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _wrapped(words: str, indent: int = 0) -> Iterable[str]:
    return textwrap.wrap(
        words, WIDTH - 1, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
