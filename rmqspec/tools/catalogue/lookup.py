"""What somebody asks the catalogue for: ids, concepts, rows of ``differences.toml``, and words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rmqspec.tools.catalogue.collected import Spec
from rmqspec.tools.catalogue.unheld import concept_of, concepts
from rmqspec.tools.upgrade import Difference

__all__ = ["Catalogue", "Found"]

ID = re.compile(r"[A-Za-z0-9]+-\d\d")
ROW = re.compile(r"[Bb]\d\d(-\d)?")


@dataclass(frozen=True, slots=True)
class Found:
    """An answer.

    Attributes:
        ids: The behaviours that were named, in order.
        specs: What holds them, or has the words.
        unheld: Behaviours without a spec, with their sentences.
        differences: The rows of these behaviours.
        unknown: Ids that are nowhere.
        by_name: Whether ids were asked for, and not words alone, or everything.
    """

    ids: tuple[str, ...]
    specs: tuple[Spec, ...]
    unheld: Mapping[str, str]
    differences: tuple[Difference, ...]
    unknown: tuple[str, ...] = ()
    by_name: bool = False

    def __bool__(self) -> bool:
        return bool(self.specs or self.unheld or self.differences)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Specs, what has none, and the differences between versions."""

    specs: Sequence[Spec]
    unheld: Mapping[str, str]
    differences: Sequence[Difference]

    def ids(self) -> list[str]:
        """All behaviours, sorted."""
        held = (name for spec in self.specs for name in spec.behaviours)
        return sorted({*held, *self.unheld})

    def look_up(self, asked: Sequence[str] = ()) -> Found:
        """Everything if nothing is asked. Ids, concepts in capitals and rows add up; each word narrows.

        A word is looked for in sentence, reason, file, class and ids, in the sentences of what has no spec, and
        whatever stands between words there: ``x-death`` finds ``x_death``.
        """
        named = [word for word in asked if self._names(word)]
        words = [word for word in asked if word not in named]
        chosen = tuple(dict.fromkeys(name for word in named for name in self._named(word)))
        specs = tuple(
            spec
            for spec in self.specs
            if (not named or set(chosen) & set(spec.behaviours)) and _has(words, *_texts(spec))
        )
        unheld = {
            name: sentence
            for name, sentence in self.unheld.items()
            if (not named or name in chosen) and _has(words, name, sentence)
        }
        about = set(chosen) if named else {*unheld, *(name for spec in specs for name in spec.behaviours)}
        rows = self._rows(named, about)
        unknown = (word for word in named if not self._named(word) and word.upper() not in {row.id for row in rows})
        return Found(chosen, specs, unheld, rows, tuple(unknown), by_name=bool(named))

    def _names(self, word: str) -> bool:
        if ID.fullmatch(word):
            return concept_of(word.upper()) in concepts()
        return ROW.fullmatch(word) is not None or word in concepts()

    def _named(self, word: str) -> list[str]:
        """The behaviours that an argument names; none if it is a word."""
        if ROW.fullmatch(word):
            return [name for row in self.differences if row.id == word.upper() for name in row.behaviours]
        if word in concepts():
            return [name for name in self.ids() if concept_of(name) == word]
        return [name for name in self.ids() if name == word.upper()]

    def _rows(self, asked: Iterable[str], about: Iterable[str]) -> tuple[Difference, ...]:
        wanted, named = set(about), {word.upper() for word in asked}
        return tuple(row for row in self.differences if row.id in named or wanted & set(row.behaviours))


def _texts(spec: Spec) -> tuple[str, ...]:
    return (spec.sentence, spec.why, spec.about, spec.node, *spec.terms, *spec.behaviours)


def _has(words: Iterable[str], *texts: str) -> bool:
    text = "\n".join(map(_plain, texts))
    return all(_plain(word) in text for word in words)


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text).lower()
