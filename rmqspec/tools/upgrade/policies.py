"""Which settings a queue has by policies, as the broker decides it.

Of the policies that fit a queue the one with the highest priority is applied, of the operator policies likewise. A
policy fits if its ``apply-to`` means the type of the queue, its pattern matches the name, **and the type supports every
key of it**. A policy with one key that it does not support is passed over with all its keys, without a word; the next
one in priority is applied instead. The table of ``tests/reference/test_policies.py`` holds which types support a key.

Two things cannot be known from here: which of two policies of the same priority is applied (the broker does not
promise it), and what a pattern means that Python's regular expressions read otherwise than the broker's, or one broker
otherwise than another: a byte above 127 may be a letter on 4.0, and is none on 4.3. Then several settings are possible,
and all of them are given.

Source: https://www.rabbitmq.com/docs/policies, and ``matches`` of rabbit_policy.erl
"""

from __future__ import annotations

import functools
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rmqspec.tools.upgrade.releases import Release
from rmqspec.tools.upgrade.used import Item, Used, definition, named, queue_type

__all__ = ["Policies", "is_supported", "unread_patterns"]

CLASSIC, QUORUM, STREAM = "classic", "quorum", "stream"
ALL = frozenset({CLASSIC, QUORUM, STREAM})
# A policy's ``apply-to``, and the queue types that it means.
APPLIES = {
    "queues": ALL,
    "all": ALL,
    "classic_queues": {CLASSIC},
    "quorum_queues": {QUORUM},
    "streams": {STREAM},
}
# Keys that only some types support, by the words of a line; all types accept any other key, also of a plugin.
OF_SOME = (
    ({CLASSIC, QUORUM}, "dead-letter-exchange dead-letter-routing-key expires max-length message-ttl overflow"),
    ({CLASSIC}, "max-priority queue-master-locator queue-mode"),
    ({CLASSIC}, "ha-mode ha-params ha-promote-on-failure ha-promote-on-shutdown ha-sync-mode"),
    ({QUORUM}, "dead-letter-strategy delivery-limit max-in-memory-bytes max-in-memory-length target-group-size"),
    ({STREAM}, "initial-cluster-size max-age stream-max-segment-size-bytes"),
)
SUPPORTED = {key: types for types, keys in OF_SOME for key in keys.split()}
IN_MEMORY = ("max-in-memory-bytes", "max-in-memory-length")
NEWEST = Release(999, 0)
AT_MOST = 10  # patterns that are named

# What asks whether a byte is a letter or a space: in Latin-1 on 3.10 and 4.0 (Erlang 25, 27), in ASCII on 4.3 (29).
BY_LETTERS = re.compile(rb"\\[wWbBsS]|\(\?[a-z]*i")
# What Python compiles and reads otherwise than PCRE does: \Z and \v, {,n}, flags of Python alone, \<newline>.
OTHERWISE = re.compile(rb"(?<!\\)(?:\\\\)*(?:\\[Zv]|\{,|\(\?[aiLmsux]*[auL])")

Settings = Mapping[str, Any]


class Policies:
    """The policies that were read.

    Args:
        used: What was read.
    """

    def __init__(self, used: Used) -> None:
        self._users = _by_vhost(used.policies)
        self._operators = _by_vhost(used.operator_policies)

    def of(self, queue: Item, release: Release = NEWEST) -> list[Settings]:
        """Each possible outcome: what the policy and the operator policy of a queue set together; mostly one.

        Where both set a key, the operator's value stands here. The broker takes the lower limit of the two.

        Args:
            queue: One of those that were read.
            release: Of the broker that applies them.
        """
        operators = self._applied(self._operators, queue, release)
        return [{**user, **op} for user in self._applied(self._users, queue, release) for op in operators]

    @staticmethod
    def _applied(policies: Mapping[object, Sequence[Sequence[Item]]], queue: Item, release: Release) -> list[Settings]:
        possible: list[Settings] = []
        for equals in policies.get(queue.get("vhost"), ()):
            fits = [(one, _matches(one, queue, release)) for one in equals]
            possible += [definition(one) for one, fit in fits if fit is not False]
            if any(fit for _, fit in fits):
                return possible
        return [*possible, {}]


def is_supported(key: str, queue_type: str, release: Release = NEWEST) -> bool:
    """Whether queues of a type may have this key by policy."""
    if queue_type == CLASSIC and key == "queue-leader-locator":
        return release.oldest() >= (4, 0, 0)
    if queue_type == CLASSIC and key in IN_MEMORY:
        return release.oldest() < (3, 12, 7)
    return queue_type in SUPPORTED.get(key, ALL)


def unread_patterns(used: Used) -> Iterator[str]:
    """What to say of patterns that Python reads otherwise than the broker, of ten at most."""
    kinds = (("policy", used.policies), ("operator policy", used.operator_policies))
    unread = [(kind, one) for kind, policies in kinds for one in policies if _compiled(_pattern(one)) is None]
    for kind, policy in unread[:AT_MOST]:
        yield (
            f"the pattern {_pattern(policy)!r} of {named(kind, policy)}, which the broker may read otherwise: "
            "it is taken for one that may match any name, or none"
        )
    if len(unread) > AT_MOST:
        yield f"{len(unread) - AT_MOST} more patterns of policies, likewise"


def _by_vhost(policies: Iterable[Item]) -> dict[object, list[list[Item]]]:
    """Those of a vhost, the highest priority first, each with its equals."""
    of: dict[object, list[Item]] = defaultdict(list)
    for policy in policies:
        of[policy.get("vhost")].append(policy)
    return {
        vhost: [list(equals) for _, equals in groupby(sorted(mine, key=_priority, reverse=True), key=_priority)]
        for vhost, mine in of.items()
    }


def _priority(policy: Item) -> float:
    priority = policy.get("priority")
    return priority if isinstance(priority, int | float) else 0


def _matches(policy: Item, queue: Item, release: Release) -> bool | None:
    """None if it cannot be known here."""
    kind = queue_type(queue)
    if kind not in APPLIES.get(str(policy.get("apply-to", "all")), ()):
        return False
    if not all(is_supported(key, kind, release) for key in definition(policy)):
        return False
    pattern = _compiled(_pattern(policy))
    if pattern is None:
        return None
    name = str(queue.get("name")).encode(errors="surrogatepass")
    if not name.isascii() and BY_LETTERS.search(pattern.pattern):
        return None
    return pattern.search(name) is not None


def _pattern(policy: Item) -> str:
    return str(policy.get("pattern", ""))


@functools.lru_cache(maxsize=10_000)
def _compiled(pattern: str) -> re.Pattern[bytes] | None:
    """As the broker reads it, which looks at bytes; None if Python may read it otherwise."""
    text = pattern.encode(errors="surrogatepass")
    if OTHERWISE.search(text):
        return None
    try:
        with warnings.catch_warnings(action="error"):  # Python warns of [[:alpha:]], which is a class of PCRE alone
            return re.compile(text)
    except (re.error, Warning, OverflowError, RecursionError):
        return None
