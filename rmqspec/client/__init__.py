"""Talking to a broker well: connection, topology, publisher, consumer, calls. Knows pika, knows no orders."""

from rmqspec.client.connection import Channel, Connection, connect, open_connections
from rmqspec.client.consumer import Consumer, Delivery, Outcome
from rmqspec.client.publisher import Publisher, persistent
from rmqspec.client.rpc import RpcClient, RpcServer
from rmqspec.client.topology import Binding, Exchange, Queue, Topology

__all__ = [
    "Binding",
    "Channel",
    "Connection",
    "Consumer",
    "Delivery",
    "Exchange",
    "Outcome",
    "Publisher",
    "Queue",
    "RpcClient",
    "RpcServer",
    "Topology",
    "connect",
    "open_connections",
    "persistent",
]
