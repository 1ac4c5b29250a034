"""The lies: one broken promise each, by what they are about."""

from collections.abc import Mapping

from rmqspec.tools.wire.lies.bindings import BINDINGS
from rmqspec.tools.wire.lies.configurations import CONFIGURATIONS
from rmqspec.tools.wire.lies.confirms import CONFIRMS
from rmqspec.tools.wire.lies.consuming import CONSUMING
from rmqspec.tools.wire.lies.declarations import DECLARATIONS
from rmqspec.tools.wire.lies.deliveries import DELIVERIES
from rmqspec.tools.wire.lies.errors import ERRORS
from rmqspec.tools.wire.lies.lie import Lie
from rmqspec.tools.wire.lies.publishing import PUBLISHING

__all__ = ["LIES", "Lie"]

LIES: Mapping[str, Lie] = {
    lie.name: lie
    for table in (DECLARATIONS, BINDINGS, PUBLISHING, CONFIRMS, CONSUMING, DELIVERIES, ERRORS, CONFIGURATIONS)
    for lie in table
}
"""All of them by name, in the order of the tables."""
