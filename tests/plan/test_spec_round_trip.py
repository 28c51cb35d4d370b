"""Graph identity: an app that is written down and read again is the same app."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, given, settings

from actorflow import App, SpecError
from actorflow.plan.spec.building import app_from_text
from actorflow.plan.spec.exporting import data_of_app
from actorflow.plan.spec.printing import printed
from tests.plan.spec_programs import apps

FORMS: Any = ("yaml", "json", "toml")


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(apps())
def test_an_app_that_is_written_and_read_again_is_equal(app: App) -> None:
    data = data_of_app(app)

    for form in FORMS:
        with contextlib.suppress(SpecError) if form == "toml" else contextlib.nullcontext():
            text = printed(data, form)
            read = app_from_text(text, form, make=App, python=True)

            for name, topology in app.streams.items():
                assert read.streams[name] == topology
            assert read.schedules == app.schedules
            assert data_of_app(read) == data
