"""What a host understands over HTTP, for programs: JSON schemas of its streams, and an OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec

from actorflow.plan.app import AppPlan
from actorflow.plan.topology import Topology

VERSION = "3.1.0"
REF = "#/components/schemas/{name}"


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; of one that has none, that of anything."""
    schemas, _ = _schemas([kind])
    return schemas[0]


def example_of(schema: dict[str, Any], depth: int = 0) -> Any:
    """Return a small value that fits a schema, to begin with."""
    for name in ("default", "const"):
        if name in schema:
            return schema[name]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        found = schema.get("$defs", {}).get(schema["$ref"].rpartition("/")[2])
        return example_of({**found, "$defs": schema["$defs"]}, depth + 1) if found and depth < 8 else None
    if schema.get("anyOf"):
        return example_of({**schema["anyOf"][0], "$defs": schema.get("$defs", {})}, depth + 1)
    kind = schema.get("type")
    if kind == "object":
        fields, defs = schema.get("properties", {}), schema.get("$defs", {})
        wanted = schema.get("required", list(fields))
        return {name: example_of({"$defs": defs, **fields[name]}, depth + 1) for name in wanted if name in fields}
    if kind == "array":
        items = schema.get("items")
        parts = schema.get("prefixItems") or ([items] if isinstance(items, dict) else [])
        defs = schema.get("$defs", {})
        return [example_of({"$defs": defs, **part}, depth + 1) for part in parts] if depth < 8 else []
    return {"string": "text", "integer": 1, "number": 1.5, "boolean": True}.get(str(kind))


def document(app: AppPlan, *, url: str, secured: bool) -> dict[str, Any]:
    """Return the OpenAPI document of an app."""
    topologies = list(app.streams.values())
    kinds = [kind for topology in topologies for kind in (topology.request_type, topology.reply_type)]
    schemas, components = _schemas(kinds)
    paths: dict[str, Any] = {}
    for topology, item, reply in zip(topologies, schemas[::2], schemas[1::2], strict=True):
        paths[f"/streams/{topology.stream}"] = {"post": _request(topology, item, reply)}
        paths[f"/streams/{topology.stream}/send"] = {"post": _send(topology, item)}
    paths.update(_ABOUT)
    made: dict[str, Any] = {
        "openapi": VERSION,
        "info": {"title": app.name, "version": "1", "description": f"Streams of the app {app.name}."},
        "servers": [{"url": url}],
        "paths": paths,
        "components": {"schemas": {**components, "Problem": _PROBLEM}},
    }
    if secured:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
    return made


def _schemas(kinds: list[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the schema of each type, and the named ones that they refer to."""
    made: list[dict[str, Any]] = []
    components: dict[str, Any] = {}
    for kind in kinds:
        if hasattr(kind, "model_json_schema"):  # a model of pydantic's
            schema = dict(kind.model_json_schema(ref_template=REF.replace("name", "model")))
            components.update(schema.pop("$defs", {}))
            made.append(schema)
            continue
        try:
            (schema,), named = msgspec.json.schema_components([kind], ref_template=REF)
        except (TypeError, ValueError):  # a class of the app's own that JSON knows nothing of
            made.append({})
            continue
        components.update(named)
        made.append(schema)
    return [_whole(schema, components) for schema in made], components


def _whole(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with those that it refers to beside it, so that it can be used alone."""
    return {**schema, "$defs": components} if "$ref" in str(schema) else schema


def _without_defs(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "$defs"}


_PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:actorflow: and the name of the error"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "stream": {"type": ["string", "null"]},
        "operator": {"type": ["string", "null"]},
        "host": {"type": ["string", "null"]},
        "request_id": {"type": ["string", "null"]},
        "retryable": {"type": "boolean"},
        "overloaded": {"type": "boolean"},
    },
}
_FAILED = {
    "description": "The request could not be taken, or failed.",
    "content": {"application/problem+json": {"schema": {"$ref": REF.format(name="Problem")}}},
}
_PARAMETERS = [
    {
        "name": "timeout_s",
        "in": "query",
        "description": "Deadline in seconds; by default the stream's.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Whoever asks again with the same key, for the same item, gets the one answer.",
        "schema": {"type": "string", "maxLength": 256},
    },
]


def _request(topology: Topology, item: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
    item, reply = _without_defs(item), _without_defs(reply)
    answer = {"type": "array", "items": reply} if topology.replies == "many" else reply
    return {
        "operationId": f"request_{topology.stream}",
        "summary": f"Send a request to {topology.stream} and await its reply",
        "parameters": _PARAMETERS,
        "requestBody": {
            "content": {
                "application/json": {"schema": item},
                "application/x-ndjson": {"schema": item},
            }
        },
        "responses": {
            "200": {
                "description": "The reply; as lines or events, by Accept, replies as they come.",
                "content": {
                    "application/json": {"schema": answer},
                    "application/x-ndjson": {"schema": reply},
                    "text/event-stream": {"schema": reply},
                },
            },
            "default": _FAILED,
        },
    }


def _send(topology: Topology, item: dict[str, Any]) -> dict[str, Any]:
    accepted = {"type": "object", "properties": {"request_id": {"type": "string"}}}
    return {
        "operationId": f"send_{topology.stream}",
        "summary": f"Start a request to {topology.stream} and await no reply",
        "parameters": _PARAMETERS,
        "requestBody": {"content": {"application/json": {"schema": _without_defs(item)}}},
        "responses": {
            "202": {"description": "It is accepted.", "content": {"application/json": {"schema": accepted}}},
            "default": _FAILED,
        },
    }


def _about(summary: str, *, method: str = "get", status: str = "200", path: tuple[str, ...] = ()) -> dict[str, Any]:
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in path]
    answer = {"description": summary, "content": {"application/json": {}}}
    return {method: {"summary": summary, "parameters": parameters, "responses": {status: answer, "default": _FAILED}}}


_ABOUT: dict[str, Any] = {
    "/streams": _about("The streams: what they take and answer"),
    "/graph": _about("The streams as graphs of steps and edges"),
    "/ps": _about("The replicas: mailbox depth, rate, times, errors, restarts"),
    "/requests": _about("Requests in flight, the oldest first"),
    "/requests/{id}": _about("A request: where its items are, its way back", path=("id",))
    | _about("Cancel a request", method="delete", path=("id",)),
    "/requests/{id}/replies": _about("Replies of a request that has a key, from ?after= on", path=("id",)),
    "/dead-letters": _about("Items that were set aside"),
    "/dead-letters/{number}": _about("One of them", path=("number",))
    | _about("Forget it", method="delete", path=("number",)),
    "/dead-letters/{number}/replay": _about("Process it again", method="post", status="202", path=("number",)),
    "/cells": _about("The cells of shared state"),
    "/cells/{name}": _about("What a cell holds, or a range of it", path=("name",)),
    "/cells/{name}/{key}": _about("What a cell holds under a key", path=("name", "key")),
    "/locks": _about("Keys in use, by whom, and who waits"),
    "/check": _about("Which operator touches which cell, and why that is safe"),
    "/healthz": _about("The process lives"),
    "/readyz": _about("It takes requests"),
}
