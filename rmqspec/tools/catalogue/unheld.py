"""What no spec holds yet: ``open.toml``."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources

__all__ = ["concept_of", "concepts", "unheld"]


def concepts() -> Mapping[str, str]:
    """What the first part of an id stands for: ``{"DLX": "Dead lettering: when and whither"}``."""
    return _read()["concepts"]


def unheld() -> Mapping[str, str]:
    """The behaviours without a spec, by their ids, each as a sentence."""
    return _read()["open"]


def concept_of(behaviour: str) -> str:
    """``DLX`` of ``DLX-01``."""
    return behaviour.rpartition("-")[0]


@functools.cache
def _read() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(resources.files(__package__).joinpath("open.toml").read_text(encoding="utf-8"))
