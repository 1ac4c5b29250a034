"""What the suite says, by asking pytest to collect it: nothing is run, and no broker is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import rmqspec

__all__ = ["Case", "NoSuite", "Spec", "collect", "suite_root"]

BY_CASE = "versions by case"
FOLDERS = ("tests/lessons", "tests/reference")


class NoSuite(Exception):
    """The suite is not here, or cannot be collected; the text is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a spec; a spec without parameters has one, whose name is empty.

    Attributes:
        name: Its id, as pytest shows it in brackets.
        behaviours: The ids that it holds.
        since: The version since which it is so; empty without such a bound.
        before: The version before which it is so.
    """

    name: str
    behaviours: tuple[str, ...]
    since: str
    before: str

    @property
    def versions(self) -> str:
        """In words: ``since 4.0``, ``before 4.3``, both, or nothing."""
        return ", ".join(f"{word} {bound}" for word, bound in (("since", self.since), ("before", self.before)) if bound)


@dataclass(frozen=True, slots=True)
class Spec:
    """One test function.

    Attributes:
        node: Its node id, without a case.
        title: The title of its file.
        subject: Its class, in words.
        about: What its class says of itself.
        sentence: Subject and fact.
        why: The reason: its docstring.
        cases: At least one.
        terms: What ``pytest -k`` finds beside the names.
    """

    node: str
    title: str
    subject: str
    about: str
    sentence: str
    why: str
    cases: tuple[Case, ...]
    terms: tuple[str, ...]

    @property
    def path(self) -> str:
        """Its file."""
        return self.node.partition("::")[0]

    @property
    def fact(self) -> str:
        """The sentence without its subject."""
        return self.sentence.removeprefix(self.subject).strip()

    @property
    def behaviours(self) -> tuple[str, ...]:
        """The ids that one of its cases holds."""
        return tuple(dict.fromkeys(name for case in self.cases for name in case.behaviours))

    @property
    def versions(self) -> str:
        """In which versions it is so; ``versions by case`` where its cases differ in that."""
        each = {case.versions for case in self.cases}
        return each.pop() if len(each) == 1 else BY_CASE


def suite_root(given: Path | None = None) -> Path:
    """The checkout that holds the suite: the one that is named, else the current directory, else that of this package.

    Raises:
        NoSuite: There is none; the tests are not part of a wheel.
    """
    places = [given] if given else [Path.cwd(), Path(rmqspec.__file__).parents[1]]
    for place in places:
        if all((place / folder).is_dir() for folder in FOLDERS):
            return place.resolve()
    where = f"not in {given}" if given else "neither here nor beside the package, which comes without it"
    raise NoSuite(f"the suite is {where}: name a checkout of rmqspec with --suite, or ask inside of one")


def collect(root: Path, folders: Sequence[str] = FOLDERS) -> tuple[Spec, ...]:
    """The specs below these folders of a checkout, in pytest's order.

    Raises:
        NoSuite: pytest is not installed, or cannot collect them.
    """
    if find_spec("pytest") is None:
        raise NoSuite("the suite is read by pytest, which is not installed: pip install 'rmqspec[test]'")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "cases.json"
        done = subprocess.run(  # noqa: S603
            [*_command(), f"--write-catalogue={file}", *folders],
            cwd=root, env=_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode or not file.exists():
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise NoSuite(f"pytest cannot collect the suite in {root}: {said[-1] if said else 'it says nothing'}")
        return specs(json.loads(file.read_text(encoding="utf-8")))


def specs(cases: Iterable[Mapping[str, Any]]) -> tuple[Spec, ...]:
    """The cases that ``collector`` writes, by their functions."""
    found = []
    for _, group in groupby(cases, key=itemgetter("node")):
        mine = list(group)
        first = mine[0]
        found.append(
            Spec(
                **{name: first[name] for name in ("node", "title", "subject", "about", "sentence", "why")},
                cases=tuple(Case(one["case"], tuple(one["behaviours"]), one["since"], one["before"]) for one in mine),
                terms=tuple(first["terms"]),
            )
        )
    return tuple(found)


def _command() -> list[str]:
    plugins = ("rmqspec.tools.catalogue.collector", "no:cacheprovider", "no:randomly", "no:random_order")
    return [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        *(word for name in plugins for word in ("-p", name)),
    ]


def _environment() -> dict[str, str]:
    """Without the options of a run, such as -n 4 or -k."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
