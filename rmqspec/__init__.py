"""The executable specification of RabbitMQ, and the order system that its lessons prove."""

__version__ = "0.1.0"
