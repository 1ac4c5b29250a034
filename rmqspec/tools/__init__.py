"""The workshop around the order system: brokers, the wire, faults, the book, the pytest plugin. Knows no commands."""
