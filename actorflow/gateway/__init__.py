"""The door of a host: HTTP for everybody and binary frames for clients, on one port."""

from actorflow.gateway.server import Gateway, serving

__all__ = ["Gateway", "serving"]
