"""Where a broker comes from: a URL, a container, a private node, or the distribution's packages."""

from rmqspec.broker.base import Broker
from rmqspec.broker.configuration import Configuration
from rmqspec.broker.endpoint import Endpoint, Identity
from rmqspec.broker.errors import BrokerDied, BrokerError, ManagementError, NoBroker, NotOurs, Unavailable
from rmqspec.broker.find import DEFAULT_IMAGE, SETTINGS, SOURCES, Choice, find
from rmqspec.broker.management import Management

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
    "NotOurs",
    "Unavailable",
    "find",
]
