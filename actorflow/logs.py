"""Log lines that say of which request they are: as text, or as JSON for machines."""

from __future__ import annotations

import logging
import time
import weakref
from typing import Any

import orjson

from actorflow.runtime.host import Host

TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s%(about)s"
_FIELDS = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"about", "message", "asctime"}

hosts: weakref.WeakSet[Host] = weakref.WeakSet()
"""The hosts of this process, of whose requests log lines may be."""


def begin(form: str = "text", level: int = logging.INFO) -> None:
    """Have the root logger write to standard error. form: "text", or "json" for an object a line."""
    handler = logging.StreamHandler()
    handler.addFilter(about_request)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def about_request(record: logging.LogRecord) -> bool:
    """Note in a record which request and operator it is about, where an activation has written it (a filter)."""
    record.about = ""
    for host in hosts:
        activation = host.activation_here()
        if activation is not None and activation.request is not None:
            request = activation.request
            stream, operator, request_id = request.stream.name, activation.replica.name, request.root.id
            record.__dict__.update(stream=stream, operator=operator, request_id=request_id)
            record.about = f" [{stream}/{operator} request {request_id}]"
            break
    return True


class JsonLines(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, what `extra=` gave, and any exception."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in record.__dict__.items() if name not in _FIELDS)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
