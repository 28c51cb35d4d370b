"""Data from an app: the same app can be read of it again. What has no name cannot be written, and is named."""

from __future__ import annotations

from typing import Any

from actorflow.limits import Limits
from actorflow.plan.app import AppPlan
from actorflow.plan.cells import WHOLE, Cell
from actorflow.plan.spec.faults import Faults
from actorflow.plan.spec.unchaining import steps_of
from actorflow.plan.spec.writing import Writer, changed, without
from actorflow.plan.topology import Topology


def data_of_app(app: AppPlan) -> dict[str, Any]:
    """Return an app as plain values, without what is by default.

    Raises: SpecError with a line for each part that has no name: closures with where they were written.
    """
    faults = Faults()
    writer = Writer(faults)
    data: dict[str, Any] = {"app": app.name}
    limits = changed(app.limits, Limits())
    if limits:
        data["limits"] = limits
    if app.cells:
        data["cells"] = {name: _cell(cell, writer.at(f"cell {name}")) for name, cell in app.cells.items()}
    data["streams"] = {}
    for name, topology in app.streams.items():
        data["streams"][name] = {**_stream(topology, writer.at(name)), **steps_of(topology, writer)}
    if app.schedules:
        data["schedules"] = {
            name: {
                "stream": each.stream,
                **without({"item": writer.at(f"schedule {name}").plain(each.item)}),
                **without({"every_s": each.every_s, "cron": each.cron}),
            }
            for name, each in app.schedules.items()
        }
    faults.raise_any()
    return data


def _stream(topology: Topology, writer: Writer) -> dict[str, Any]:
    usual = Topology(stream=topology.stream)
    names = ("replies", "early", "timeout_s", "in_flight", "on_error")
    options = {name: value for name in names if (value := getattr(topology, name)) != getattr(usual, name)}
    kinds = {"request": writer.type(topology.request_type), "reply": writer.type(topology.reply_type)}
    restart = changed(topology.restart, usual.restart)
    return {
        **{name: kind for name, kind in kinds.items() if kind != "any"},
        **options,
        **({"restart": restart} if restart else {}),
    }


def _cell(cell: Cell, writer: Writer) -> dict[str, Any]:
    usual = Cell(app=cell.app, kind=cell.kind, name=cell.name)
    data: dict[str, Any] = {"kind": "set" if cell.kind == "grow_set" else cell.kind}
    if cell.space is not None and cell.space.name != f"{WHOLE}{cell.name}":
        data["key"] = cell.space.name
        if cell.space.shards != 256:
            data["shards"] = cell.space.shards
    if cell.kind != "counter" and (kind := writer.type(cell.value_type)) != "any":
        data["value"] = kind
    if (kind := writer.type(cell.key_type)) != "any":
        data["key_type"] = kind
    for name in ("ttl_s", "entries_max", "version"):
        if getattr(cell, name) != getattr(usual, name):
            data[name] = getattr(cell, name)
    if cell.migrate is not None:
        data["migrate"] = writer.function(cell.migrate)
    return {**data, **({"grow_only": True} if cell.kind == "grow_set" else {})}
