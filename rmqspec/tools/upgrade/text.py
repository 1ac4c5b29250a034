"""A report as a person reads it: plain text, Markdown, and JSON for programs."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from rmqspec.tools.upgrade.differences import Difference, Kind
from rmqspec.tools.upgrade.releases import KNOWN, WAY_SOURCE
from rmqspec.tools.upgrade.report import Finding, Report
from rmqspec.tools.upgrade.sources import SOURCES
from rmqspec.tools.upgrade.sources import Kind as SourceKind

__all__ = ["as_json", "as_markdown", "as_text"]

AT_MOST = 10  # names that are listed of one finding
WIDTH, LABEL = 118, 10  # columns

HEADINGS = {
    Kind.BREAKS: "BREAKS",
    Kind.LOSES: "LOSES MESSAGES",
    Kind.SILENT: "CHANGES SILENTLY",
    Kind.MILDER: "MILDER, OR MENDED",
    Kind.NEW: "NEW",
}
COUNTED = {
    Kind.BREAKS: "break",
    Kind.LOSES: "lose messages",
    Kind.SILENT: "change silently",
    Kind.MILDER: "are milder or mended",
    Kind.NEW: "are new",
}
NO_PROOF = "~"


def as_text(report: Report) -> str:
    """The report as plain text, with one line for each field."""
    lines = [*_head(report), ""]
    for kind, findings in _sections(report):
        lines += [f"{HEADINGS[kind]} ({len(findings)})", ""]
        for finding in findings:
            lines += [*_row(finding), ""]
    return "\n".join([*lines, *_unread(report, _wrapped)])


def as_markdown(report: Report) -> str:
    """The report in Markdown. Names are code, so that none of them is markup."""
    first, *rest = _head(report)
    lines = [f"# {_escaped(first)}", "", *(f"- {_escaped(line)}" for line in rest), ""]
    for kind, findings in _sections(report):
        lines += [f"## {HEADINGS[kind].capitalize()} ({len(findings)})", ""]
        for finding in findings:
            row = finding.difference
            lines += [f"### {_title(row)}", "", f"{_escaped(row.does)}", ""]
            lines += [f"- **{label}**: {_escaped(words)}" for label, words in _fields(row)]
            lines += [f"- **proof**: {_code(proof)}" for proof in _proofs(row)]
            lines += [f"- **concerns**: {_code(name)}" for name in _first(finding.concerned)]
            lines.append("")
    return "\n".join([*lines, "## What was not read", "", *(f"- {_escaped(line)}" for line in _unread(report, _plain))])


def as_json(report: Report) -> str:
    """The report for programs: one object, in ASCII. Names are not cut there."""
    return json.dumps(
        {
            "old": str(report.old),
            "new": str(report.new),
            "way": [{"from": step.old, "to": step.new, "before": step.before} for step in report.steps],
            "way_source": WAY_SOURCE,
            "differences": len(report.rows),
            "counts": {kind.value: report.count(kind) for kind in Kind},
            "unproved": report.unproved,
            "again_as_before": [row.id for row in report.again],
            "read": report.sources,
            "rows": [_as_object(finding) for finding in report.shown],
            "not_seen": [row.id for row in report.unseen],
            "gaps": report.gaps,
            "harmful": report.harmful,
        },
        indent=2,
    )


def _as_object(finding: Finding) -> dict[str, object]:
    return {**finding.difference.as_plain(), "concerned": finding.concerned}


def _head(report: Report) -> Iterator[str]:
    counts = ", ".join(f"{report.count(kind)} {words}" for kind, words in COUNTED.items())
    yield (
        f"RabbitMQ {report.old} to {report.new}: {len(report.rows)} difference{'' if len(report.rows) == 1 else 's'}, "
        f"{counts}; "
        f"{report.unproved} of them have no spec on both sides"
    )
    for what, release, read_as in (("old", report.old, ".0"), ("new", report.new, "its newest release")):
        if release.patch is None:
            as_ = f"{release}{read_as}" if what == "old" else read_as
            yield f"{release} is read as {as_}: name a patch release to be exact"
    if not report.steps:
        yield f"Way: within {report.new.series}, any patch release to a newer one"
    for number, step in enumerate(report.steps, 1):
        yield f"Way, step {number}: {step.old} to {step.new}; before it, {step.before}"
    yield f"Way: {WAY_SOURCE}"
    for row in report.again:
        yield f"In {report.new} again as before: {row.id}: {row.does} {row.before}"
    for source in report.sources:
        yield f"Read: {_on_one_line(source)}"


def _sections(report: Report) -> Iterator[tuple[Kind, list[Finding]]]:
    for kind in Kind:
        findings = [finding for finding in report.shown if finding.difference.kind is kind]
        if findings:
            yield kind, findings


def _title(row: Difference) -> str:
    return " ".join((row.id, *row.behaviours))


def _fields(row: Difference) -> Iterator[tuple[str, str]]:
    yield "before", row.before
    yield "after", row.after
    yield "since", ", ".join(map(str, (row.since, *row.backports))) + (f" until {row.until}" if row.until else "")
    yield "do", row.remedy
    yield "evidence", row.evidence


def _proofs(row: Difference) -> Iterator[str]:
    for side, ids in (("before", row.proofs.before), ("after", row.proofs.after)):
        if row.proofs.before or row.proofs.after:
            yield from (f"{side}: {one}" for one in ids or (NO_PROOF,))
    if not (row.proofs.before or row.proofs.after):
        yield NO_PROOF


def _row(finding: Finding) -> Iterator[str]:
    row = finding.difference
    yield from _wrapped(row.does, f"  {_title(row)}: ", "      ")
    for label, words in _fields(row):
        yield from _labelled(label, words)
    for proof in _proofs(row):
        yield f"      {'proof':<{LABEL}}{proof}"
    for name in _first(finding.concerned):
        yield f"      {'concerns':<{LABEL}}{name}"


def _labelled(label: str, words: str) -> list[str]:
    return _wrapped(words, f"      {label:<{LABEL}}", " " * (6 + LABEL))


def _first(names: Sequence[str]) -> Iterator[str]:
    yield from map(_on_one_line, names[:AT_MOST])
    if len(names) > AT_MOST:
        yield f"and {len(names) - AT_MOST} more"


def _on_one_line(words: str) -> str:
    """Words of somebody else: a line that begins within a name would pass for one of the report."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in words)


def _wrapped(words: str, first: str = "", rest: str = "    ") -> list[str]:
    return textwrap.wrap(
        words, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _plain(words: str) -> list[str]:
    return [words.strip()]


def _unread(report: Report, form: Callable[[str], list[str]]) -> list[str]:
    return list(chain.from_iterable(form(words) for words in _not_read(report)))


def _not_read(report: Report) -> Iterator[str]:
    """The end of each report: what nobody has looked at, and how to look."""
    if report.sources and not report.findings:
        yield "Nothing was found in what was read."
    elif report.sources and not report.harmful:
        yield "Nothing that breaks or loses messages was found in what was read."
    yield from (f"Not read: {_on_one_line(gap)}" for gap in report.gaps)
    rest = [row for row in report.unseen if row.kind in (Kind.BREAKS, Kind.LOSES, Kind.SILENT)]
    for kind in SOURCES:
        read = kind.shows in report.shown_by
        rows = [row for row in rest if getattr(row.recognised, kind.shows)]
        if not read:  # what a source lacks that was read stands there, and not at one that could have it too
            rows = [row for row in rows if not any(getattr(row.recognised, other) for other in report.shown_by)]
        rest = [row for row in rest if row not in rows]
        yield from _of_source(kind, rows, read=read, in_words=bool(report.sources))
    if hidden := [row for row in rest if row.recognised.reason]:
        yield "Not read: what no client and no export shows:"
        yield from (f"  {row.id}: {row.does} {row.recognised.reason}" for row in hidden)
    yield (
        f"Known are the releases {KNOWN[0]} to {KNOWN[-1]}. What was not read, or is not known here, may change too: "
        "try the new release with your own applications."
    )


def _of_source(kind: SourceKind, rows: Sequence[Difference], *, read: bool, in_words: bool) -> Iterator[str]:
    """What a source of this kind shows of rows that were not seen; ids alone where each row is listed above."""
    advice = kind.lacking if read else kind.how
    listed = in_words or advice is None
    if rows and listed:
        yield f"Not read: {kind.what}{'.' if advice else ''} {advice or ''}".rstrip()
        yield from (f"  {row.id}: {getattr(row.recognised, kind.shows)}" for row in rows)
    elif rows:
        yield f"Not read: {kind.what} ({_ids(rows)}). {advice}"
    if read:
        yield kind.limit


def _ids(rows: Iterable[Difference]) -> str:
    return ", ".join(row.id for row in rows)


def _escaped(words: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", words)


def _code(name: str) -> str:
    fence = "`" * (max((len(run) for run in re.findall("`+", name)), default=0) + 1)
    pad = " " if "`" in name else ""
    return f"{fence}{pad}{name}{pad}{fence}"
