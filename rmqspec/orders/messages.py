"""What travels in the order system, as types: pydantic reads them from JSON and says what is wrong with the rest."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["Completed", "Event", "InvalidMessage", "Item", "Log", "Order", "StockQuery", "StockReply", "parse"]

Name = Annotated[str, Field(min_length=1, max_length=200)]
Model = TypeVar("Model", bound=BaseModel)

MAX_REASON = 500  # characters; a reason travels in a header, and a header must fit into one frame


class InvalidMessage(ValueError):
    """A body is not what its queue is for; the text is the reason, short enough for a header."""


class _Message(BaseModel):
    """Strict: ``"3"`` is not a number, a field that nobody knows is a mistake."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    def to_json(self) -> bytes:
        """The body of a message."""
        return self.model_dump_json().encode()


class Item(_Message):
    """So many of one thing, at this price apiece."""

    sku: Name
    quantity: Annotated[int, Field(gt=0, le=1_000_000)]
    unit_price_cents: Annotated[int, Field(ge=0)]


class Order(_Message):
    """What a customer wants."""

    order_id: Name
    customer: Name
    items: Annotated[tuple[Item, ...], Field(min_length=1, strict=False)]

    @property
    def total_cents(self) -> int:
        """The sum of its items."""
        return sum(item.quantity * item.unit_price_cents for item in self.items)


class Completed(_Message):
    """An order is done: what ``events.fanout`` carries."""

    order_id: Name
    customer: Name
    total_cents: int
    worker: Name


Event = Literal["order.created", "order.completed", "order.failed"]  # also the routing key on ``logs.topic``


class Log(_Message):
    """Something happened to an order."""

    event: Event
    order_id: Name
    worker: Name
    detail: str = ""


class StockQuery(_Message):
    """How many of this are there?"""

    sku: Name


class StockReply(_Message):
    """So many."""

    sku: Name
    available: int


def parse(model: type[Model], body: bytes | str) -> Model:
    """Reads a message's body.

    Args:
        model: What it should be.
        body: JSON, in UTF-8.

    Raises:
        InvalidMessage: It is something else; the text says what.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        inner = [p for p in problems if not any(_holds(p["loc"], other["loc"]) for other in problems)]
        reasons = (f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg']}" for p in inner)
        raise InvalidMessage("; ".join(reasons)[:MAX_REASON]) from error


def _holds(outer: tuple[int | str, ...], inner: tuple[int | str, ...]) -> bool:
    """Whether one problem only follows from another inside: without its bad item a list is too short."""
    return len(outer) < len(inner) and inner[: len(outer)] == outer
