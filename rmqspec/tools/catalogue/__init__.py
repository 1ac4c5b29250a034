"""The catalogue of behaviours: what a spec holds, derived from the suite, and what none holds yet.

``collected`` asks pytest for the suite; ``unheld`` reads ``open.toml``; ``lookup`` finds what somebody asks for, and
``text`` shows it.
"""

from rmqspec.tools.catalogue.collected import NoSuite, Spec, collect
from rmqspec.tools.catalogue.lookup import Catalogue, Found
from rmqspec.tools.catalogue.unheld import concept_of, concepts, unheld

__all__ = ["Catalogue", "Found", "NoSuite", "Spec", "collect", "concept_of", "concepts", "unheld"]
