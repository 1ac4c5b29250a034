"""A broker that routes by other bindings than it was told.

Source: https://www.rabbitmq.com/docs/exchanges, https://www.rabbitmq.com/docs/e2e
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pika import spec

from rmqspec.tools.wire.lies.lie import Lie, Talk, Tell, Told, argument_lost, changed, ignored
from rmqspec.tools.wire.said import Said

__all__ = ["BINDINGS"]

BIND = "queue.bind exchange.bind"


def _words(old: str, new: str) -> Tell:
    """Another wildcard in a pattern."""

    def tell(said: Said, _: Talk) -> Told:
        key = said.method.routing_key
        wrong = ".".join(new if word == old else word for word in key.split("."))
        return said if wrong == key else said.but(routing_key=wrong)

    return tell


def _glob(said: Said, _: Talk) -> Told:
    """A star at the end of a word makes it match any word."""
    key = said.method.routing_key
    wrong = ".".join("*" if word.endswith("*") else word for word in key.split("."))
    return said if wrong == key else said.but(routing_key=wrong)


def _key_as_pattern(said: Said, talk: Talk) -> Told:
    """A message whose key has a wildcard goes where the last key without one is bound."""
    key = said.method.routing_key
    if said.name == "basic.publish":
        bound = talk.memory.get(said.method.exchange)
        return said.but(routing_key=bound) if bound is not None and set("*#") & set(key) else said
    if not set("*#") & set(key):
        talk.memory[said.method.exchange] = key
    return said


def _match(old: str, new: str) -> Tell:
    def tell(said: Said, _: Talk) -> Told:
        arguments = said.method.arguments or {}
        match = str(arguments.get("x-match", "all"))
        if not arguments or not match.startswith(old):
            return said
        return said.but(arguments=arguments | {"x-match": match.replace(old, new, 1)})

    return tell


def _without_x(said: Said, _: Talk) -> Told:
    arguments = said.method.arguments or {}
    match = str(arguments.get("x-match", ""))
    if not match.endswith("-with-x"):
        return said
    return said.but(arguments=arguments | {"x-match": match.removesuffix("-with-x")})


def _with_x(said: Said, _: Talk) -> Told:
    arguments = said.method.arguments or {}
    match = str(arguments.get("x-match", "all"))
    lists_x = any(key.startswith("x-") and key != "x-match" for key in arguments)
    if not lists_x or match not in {"all", "any"}:
        return said
    return said.but(arguments=arguments | {"x-match": f"{match}-with-x"})


def _void_compared(said: Said, _: Talk) -> Told:
    arguments = said.method.arguments or {}
    voids = {key: "void" for key, value in arguments.items() if value is None}
    return said.but(arguments=arguments | voids) if voids else said


def _values_lost(said: Said, _: Talk) -> Told:
    """A value of a headers binding is void, which matches any."""
    arguments = said.method.arguments or {}
    values = {key: None for key in arguments if key != "x-match"}
    return said.but(arguments=arguments | values) if set(values.values()) != {*map(arguments.get, values)} else said


def _replaces(same: Callable[[Any], object]) -> Tell:
    """A binding removes the one before it that is the same in this: its queue, or its exchange and key."""

    def tell(said: Said, talk: Talk) -> Told:
        if said.name == "queue.unbind-ok":  # the answer to an unbind: ours, or the client's
            ours = talk.memory.get(("unbound", said.channel), 0)
            talk.memory["unbound", said.channel] = max(0, ours - 1)
            return None if ours else said
        before = talk.memory.get(("bound", same(said.method)))
        talk.memory["bound", same(said.method)] = said.method
        if before is None or (before.queue, before.routing_key) == (said.method.queue, said.method.routing_key):
            return said
        talk.memory["unbound", said.channel] = talk.memory.get(("unbound", said.channel), 0) + 1
        unbind = spec.Queue.Unbind(
            queue=before.queue, exchange=before.exchange, routing_key=before.routing_key, arguments=before.arguments
        )
        return [Said(said.channel, unbind), said]

    return tell


BINDINGS = (
    Lie.of("binding-takes-over", "A queue that is bound takes exchange and key from the queue before it.",
           "queue.bind queue.unbind-ok",
           _replaces(lambda method: (method.exchange, method.routing_key))),
    Lie.of("one-binding-per-queue", "A queue has one binding, the last.", "queue.bind queue.unbind-ok",
           _replaces(lambda method: method.queue)),
    Lie.of("binding-lost", "A queue is not bound.", "queue.bind", ignored),
    Lie.of("binding-key-lost", "A queue is bound with an empty key.", "queue.bind", changed(routing_key="")),
    Lie.of("unbind-ignored", "An unbound queue still gets messages.", "queue.unbind exchange.unbind", ignored),
    Lie.of("exchange-binding-lost", "An exchange is not bound.", "exchange.bind", ignored),
    Lie.of("star-as-hash", "In a pattern * stands for any number of words.", BIND, _words("*", "#")),
    Lie.of("hash-as-star", "In a pattern # stands for one word.", BIND, _words("#", "*")),
    Lie.of("star-in-a-word-matches", "In a pattern a word with a * at its end stands for any word.", BIND, _glob),
    Lie.of("key-wildcards-match", "A routing key with wildcards reaches queues that are bound with plain words.",
           "queue.bind basic.publish",
           _key_as_pattern),
    Lie.of("all-as-any", "One header that fits is enough.", BIND, _match("all", "any")),
    Lie.of("any-as-all", "Every header must fit.", BIND, _match("any", "all")),
    Lie.of("x-headers-count", "Headers that begin with x- are compared though they should not be.", BIND,
           _with_x),
    Lie.of("void-criterion-compared", "A criterion without a value is compared like any other.", BIND, _void_compared),
    Lie.of("x-headers-do-not-count", "Headers that begin with x- are not compared.", BIND,
           _without_x),
    Lie.of("x-match-lost", "How a headers binding matches is not noted.", BIND, argument_lost("x-match")),
    Lie.of("header-values-lost", "The values of a headers binding do not matter.", BIND, _values_lost),
)  # fmt: skip
