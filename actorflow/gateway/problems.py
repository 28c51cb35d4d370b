"""Errors as HTTP answers: problem documents (RFC 9457) with the status that fits."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from actorflow.errors import (
    ActorflowError,
    CodecError,
    DeadlineExceededError,
    DeployError,
    HostStoppingError,
    InvalidItemError,
    LimitError,
    ModuleError,
    ProtocolError,
    ReplayExpiredError,
    ReplicaFailedError,
    RequestCancelledError,
    RequestError,
    SpecError,
    StoreError,
    TooManyRequestsError,
    TopologyError,
    UnknownStreamError,
)
from actorflow.gateway.bodies import dump

STATUS: tuple[tuple[type[ActorflowError], int], ...] = (
    (UnknownStreamError, 404),
    (DeployError, 409),
    (TopologyError, 422),
    (ModuleError, 422),
    (SpecError, 422),
    (ReplayExpiredError, 410),
    (InvalidItemError, 422),
    (CodecError, 400),
    (ProtocolError, 400),
    (DeadlineExceededError, 504),
    (TooManyRequestsError, 429),
    (LimitError, 503),
    (HostStoppingError, 503),
    (ReplicaFailedError, 503),
    (RequestCancelledError, 409),
    (StoreError, 503),
    (RequestError, 500),
)
RETRY_AFTER_S = "1"
CONTENT_TYPE = "application/problem+json"


def problem_of(error: ActorflowError) -> web.Response:
    """Return an error as an answer with its status."""
    return as_answer(document_of(error))


def document_of(error: ActorflowError) -> dict[str, Any]:
    """Return an error as a problem document."""
    status = next((code for kind, code in STATUS if isinstance(error, kind)), 500)
    wire_form = error.to_wire()
    return _document(status, wire_form.pop("message"), wire_form.pop("type"), **wire_form)


def problem(status: int, detail: str, kind: str) -> web.Response:
    """Return a problem that is no error of ours."""
    return as_answer(_document(status, detail, kind))


def as_answer(document: dict[str, Any]) -> web.Response:
    """Return a problem document as an answer."""
    status = document["status"]
    headers = {"Retry-After": RETRY_AFTER_S} if status in {429, 503} else {}
    if document.get("request_id"):
        headers["X-Request-Id"] = str(document["request_id"])
    return web.Response(body=to_json(document), status=status, content_type=CONTENT_TYPE, headers=headers)


def to_json(document: dict[str, Any]) -> bytes:
    """Return a problem document as JSON, whatever is in its words."""
    broken = any("\ud800" <= character <= "\udfff" for character in document["detail"])
    return json.dumps(document, default=repr).encode() if broken else dump(document)


def _document(status: int, detail: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"urn:actorflow:{kind}", "title": kind, "status": status, "detail": detail, **fields}
