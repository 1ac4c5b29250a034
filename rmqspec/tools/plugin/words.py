"""A test of pytest in the words of a record: its chapter, its sentence, and how it ended."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cache
from textwrap import dedent
from typing import Any

import pytest

from rmqspec.tools.book.record import Chapter, Outcome, Spec
from rmqspec.tools.broker import Broker
from rmqspec.tools.broker.endpoint import greet
from rmqspec.tools.plugin.headings import heading

__all__ = [
    "answers",
    "behaviours_of",
    "chapter_of",
    "judge",
    "not_empty",
    "reason_of",
    "sentence_of",
    "spec_of",
    "subject_of",
    "versions_of",
]

SKIPPED: Mapping[str, Outcome] = {"not in this version: ": "not in this version", "not run: ": "not run"}
NO_BROKER = "no disposable broker: "
ABBREVIATIONS = {
    **{word: word.upper() for word in ("amqp", "bcc", "cc", "dlx", "http", "rpc", "tls", "ttl")},
    "amqp10": "AMQP 1.0",
    "pika": "pika",
}
AMQ_NAMES = ("amq.default", "amq.gen", "amq.rabbitmq.reply-to", "amq.rabbitmq.trace")
METHODS = (
    r"basic_(?:recover_async|[a-z]+)|tx_(?:select|commit|rollback)|confirm_select"
    r"|connection_(?:start|blocked|unblocked)"
)
REASON = 2000  # characters of a reason; a comparison of two long values may be larger than all the rest


def not_empty(value: str) -> str:
    """The value of an option; an empty one, as of a variable that is not set, would be the same as no option at all."""
    if not value.strip():
        raise argparse.ArgumentTypeError("it is empty; leave the option out, or name something")
    return value


def chapter_of(item: pytest.Item) -> Chapter:
    """The file of a test, by its docstring."""
    head = heading(item)
    return Chapter(
        name=item.path.stem,
        path=_path(item),
        number=head.number,
        part=item.path.parent.name,
        title=head.title,
        prose="\n\n".join(head.prose),
        spec=head.lists.get("Spec", []),
        code=head.lists.get("Code", []),
    )


def spec_of(item: pytest.Item, **result: Any) -> Spec:
    """A test, with what its run has shown."""
    owner, function = getattr(item, "cls", None), getattr(item, "function", None)
    since, before = versions_of(item)
    parts = (item.path.stem, owner.__name__ if owner else "", item.name)
    return Spec(
        id=".".join(filter(None, parts)),
        node=item.nodeid,
        chapter=item.path.stem,
        subject=subject_of(owner),
        about=_doc(owner),
        sentence=sentence_of(item),
        case=item.callspec.id if hasattr(item, "callspec") else "",
        behaviours=behaviours_of(item),
        since=since,
        before=before,
        why=_doc(function),
        source=_source(function),
        **result,
    )


def behaviours_of(item: pytest.Item) -> list[str]:
    """The ids of the catalogue that a test holds."""
    return list(dict.fromkeys(name for mark in item.iter_markers("behaviour") for name in mark.args))


def versions_of(item: pytest.Item) -> tuple[str, str]:
    """Since which version a test's sentence is so, and before which; empty where there is no such bound."""
    given = [mark.kwargs for mark in item.iter_markers("rabbitmq")]
    since = max((str(one["since"]) for one in given if one.get("since")), key=_numbers, default="")
    before = min((str(one["before"]) for one in given if one.get("before")), key=_numbers, default="")
    return since, before


def sentence_of(item: pytest.Item) -> str:
    """Class and name as a sentence: `Dead letter exchange receives messages rejected without requeue`."""
    fact = (getattr(item, "originalname", None) or item.name).removeprefix("test_")
    fact = _dotted().sub(lambda found: _names_with_dots().get(found[0]) or _method(found[0]), fact)
    # A header keeps its hyphen, x-death, and a version its dot, since 4.0.
    fact = fact.replace("_x_", "_x-").replace("_", " ")
    fact = re.sub(r"\b(?:since|before) \d+(?: \d+)+\b", _with_dots, fact)
    fact = re.sub(r"[a-z]+", lambda word: ABBREVIATIONS.get(word[0], word[0]), fact)
    return f"{subject_of(getattr(item, 'cls', None))} {fact}".strip()


@cache
def _names_with_dots() -> Mapping[str, str]:
    """Those of the order system and of RabbitMQ; in the name of a function a dot is an underscore."""
    from rmqspec.orders.topology import order_system  # which loads much; not every run says sentences

    ours = order_system()
    names = [*(queue.name for queue in ours.queues), *(exchange.name for exchange in ours.exchanges)]
    return {re.sub(r"[.-]", "_", name): name for name in (*names, *AMQ_NAMES) if "." in name}


@cache
def _dotted() -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z])(?:{'|'.join(_names_with_dots())}|{METHODS})(?![a-z])")


def _method(name: str) -> str:
    """A method as the protocol has it: `basic_recover_async` is `basic.recover-async`."""
    return name.replace("_", ".", 1).replace("_", "-")


def _with_dots(version: re.Match[str]) -> str:
    word, _, numbers = version[0].partition(" ")
    return f"{word} {numbers.replace(' ', '.')}"


def subject_of(owner: type | None) -> str:
    """The name of a class in words: `TestDeadLetterExchange` is `Dead letter exchange`, `TestTls` is `TLS`."""
    name = owner.__name__.removeprefix("Test") if owner else ""
    if name in ("", "RabbitMQ"):
        return name
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]+|[a-z0-9]+", name)
    words = [words[0], *(word if word.isupper() else word.lower() for word in words[1:])]
    return " ".join(ABBREVIATIONS.get(word.lower(), word) for word in words)


def judge(reports: Sequence[pytest.TestReport], broker: Broker) -> tuple[Outcome, str]:
    """Which of the five outcomes a test had, by the reports of its phases, and the reason for any but the first."""
    for report in reports:
        if report.failed:
            reason = reason_of(report)
            reached = NO_BROKER not in reason and answers(broker)
            return ("failed" if reached else "broker not reached"), reason
    for report in reports:
        if report.skipped:
            return _of_skipped(report)
    return "passed", ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _of_skipped(report: pytest.TestReport) -> tuple[Outcome, str]:
    if hasattr(report, "wasxfail"):
        return "failed", f"as expected: {report.wasxfail}"
    reason = reason_of(report)
    for prefix, outcome in SKIPPED.items():
        if reason.startswith(prefix):
            return outcome, reason.removeprefix(prefix)
    return "not run", reason


def reason_of(report: pytest.TestReport) -> str:
    """Why a test has failed or was skipped, in the words of its exception."""
    told = report.longrepr
    if isinstance(told, tuple):  # of a skip: file, line, words
        return told[2].removeprefix("Skipped: ")
    crash = getattr(told, "reprcrash", None)
    return str(crash.message if crash else told)[:REASON]


def answers(broker: Broker) -> bool:
    """Whether the broker still greets whoever connects."""
    try:
        greet(broker.endpoint, timeout=2)
    except OSError:
        return False
    return True


def _path(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _doc(thing: object) -> str:
    return inspect.getdoc(thing) or "" if thing else ""


def _source(function: Any) -> str:
    try:
        return dedent(inspect.getsource(function)).strip("\n") if function else ""
    except (OSError, TypeError):  # it is not in a file
        return ""
