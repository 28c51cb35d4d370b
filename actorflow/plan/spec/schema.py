"""The JSON Schema of a spec: what editors complete and check while one writes."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from actorflow.plan.spec.forms import VERBS, AppForm, CellForm, ScheduleForm, StreamForm

SCHEMA_ID: Final = "urn:actorflow:app"
_PLACE: Final = "#/$defs/{name}"


def schema() -> dict[str, Any]:
    """Return the schema of an app, made of the forms by which specs are read."""
    forms = [AppForm, CellForm, ScheduleForm, StreamForm, *dict.fromkeys(VERBS.values())]
    _, parts = msgspec.json.schema_components(forms, ref_template=_PLACE)
    for part in parts.values():
        if part.get("type") == "object" and "properties" in part:
            part["additionalProperties"] = False
        part.pop("title", None)
    app, stream, limits = parts.pop("AppForm"), parts["StreamForm"], parts["Limits"]
    limits["description"] = "What a host allows; every limit has a default."
    parts["Restart"]["description"] = "When and how replicas are restarted."
    app["properties"]["$schema"] = {"type": "string", "description": "Where this schema is, for editors."}
    for name, form in (("cells", CellForm), ("streams", StreamForm), ("schedules", ScheduleForm)):
        app["properties"][name]["additionalProperties"] = {"$ref": _PLACE.format(name=form.__name__)}
    stream["properties"]["steps"]["items"] = {"$ref": _PLACE.format(name="Step")}
    parts["Step"] = {
        "description": "A step: one verb, and its options.",
        "type": "object",
        "anyOf": [{"$ref": _PLACE.format(name=form.__name__)} for form in VERBS.values()],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "An app of actorflow",
        **app,
        "$defs": dict(sorted(parts.items())),
    }
