"""Where a broker comes from: a URL, a container, a private node, or the distribution's packages."""

from rmqspec.tools.broker.base import Broker
from rmqspec.tools.broker.configuration import Configuration
from rmqspec.tools.broker.endpoint import Endpoint, Identity
from rmqspec.tools.broker.errors import (
    BrokerDied,
    BrokerError,
    ManagementError,
    NoBroker,
    NoManagement,
    NotOurs,
    Unavailable,
)
from rmqspec.tools.broker.find import DEFAULT_IMAGE, SETTINGS, SOURCES, Choice, find
from rmqspec.tools.broker.management import Management

__all__ = [
    "DEFAULT_IMAGE",
    "SETTINGS",
    "SOURCES",
    "Broker",
    "BrokerDied",
    "BrokerError",
    "Choice",
    "Configuration",
    "Endpoint",
    "Identity",
    "Management",
    "ManagementError",
    "NoBroker",
    "NoManagement",
    "NotOurs",
    "Unavailable",
    "find",
]
