"""What travels in the order system, as types: pydantic reads them from JSON and says what is wrong with the rest."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

__all__ = [
    "FAILURE",
    "Completed",
    "Event",
    "InvalidMessage",
    "Item",
    "Log",
    "Order",
    "StockQuery",
    "StockReply",
    "counted",
    "money",
    "order_id_in",
    "parse",
    "reason_of",
]

MAX_ID = 255  # bytes in UTF-8: whatever the protocol has for an id, a key or a name is one short string
MAX_AMOUNT = 10**15  # cents; sums of such amounts are still exact in every language that reads JSON numbers as doubles


def _short(name: str) -> str:
    if len(name.encode()) > MAX_ID:
        raise ValueError(f"should have at most {MAX_ID} bytes in UTF-8")
    return name


Name = Annotated[str, Field(min_length=1, max_length=200)]
Id = Annotated[Name, AfterValidator(_short)]
Cents = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
Model = TypeVar("Model", bound=BaseModel)

FAILURE = "simulated failure"  # why a worker fails an order
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

    sku: Id
    quantity: Annotated[int, Field(gt=0, le=1_000_000)]
    unit_price_cents: Cents


class Order(_Message):
    """What a customer wants."""

    order_id: Id
    customer: Name
    items: Annotated[tuple[Item, ...], Field(min_length=1, strict=False)]

    @property
    def total_cents(self) -> int:
        """The sum of its items."""
        return sum(item.quantity * item.unit_price_cents for item in self.items)

    @model_validator(mode="after")
    def _has_a_possible_total(self) -> Order:
        if self.total_cents > MAX_AMOUNT:
            raise ValueError(f"the total should be at most {MAX_AMOUNT} cents")
        return self


class Completed(_Message):
    """An order is done: what ``events.fanout`` carries."""

    order_id: Id
    customer: Name
    total_cents: Cents
    worker: Id


Event = Literal["order.created", "order.completed", "order.failed"]  # also the routing key on ``logs.topic``


class Log(_Message):
    """Something happened to an order; ``worker`` is who says so, of ``order.created`` the producer."""

    event: Event
    order_id: Id
    worker: Id
    detail: str = ""


class StockQuery(_Message):
    """How many of this are there?"""

    sku: Id


class StockReply(_Message):
    """So many."""

    sku: Id
    available: int


class _AboutAnOrder(BaseModel):
    """All that orders, events and logs have in common."""

    model_config = ConfigDict(strict=True, extra="ignore")

    order_id: Id


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
        raise InvalidMessage(reason_of(error)) from error


def reason_of(error: ValidationError) -> str:
    """What is wrong with a message, in one line that is short enough for a header."""
    problems = error.errors(include_url=False, include_input=False)
    # One that only follows from another inside is left out: without its bad item a list is too short. There may be as
    # many as a body has values, so nothing here takes the square of that.
    outer = {problem["loc"][:depth] for problem in problems for depth in range(len(problem["loc"]))}
    inner = (p for p in problems if p["loc"] not in outer)
    reasons = (f"{'.'.join(map(str, p['loc'])) or 'body'}: {p['msg']}" for p in inner)
    return "; ".join(reasons)[:MAX_REASON]


def order_id_in(body: bytes) -> str | None:
    """The order that a message is about, whatever kind of message it is; None if it is about none."""
    try:
        return _AboutAnOrder.model_validate_json(body).order_id
    except ValidationError:
        return None


def money(cents: int) -> str:
    """An amount as a person reads it. It does not round, and has no greatest amount."""
    whole, rest = divmod(cents, 100)
    return f"{whole:,}.{rest:02}"


def counted(count: int, noun: str) -> str:
    """So many of what has a regular plural: ``1 order``, ``2 orders``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
