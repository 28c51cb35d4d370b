"""An app as data: in YAML, JSON or TOML, from the builder and back, and as a Python module."""

from actorflow.plan.spec.building import app_from_data, app_from_file, app_from_text
from actorflow.plan.spec.exporting import data_of_app
from actorflow.plan.spec.printing import printed
from actorflow.plan.spec.programming import program_of
from actorflow.plan.spec.reading import FORMS, Form, form_of
from actorflow.plan.spec.references import Functions
from actorflow.plan.spec.schema import schema
from actorflow.plan.spec.types import door_type

__all__ = [
    "FORMS",
    "Form",
    "Functions",
    "app_from_data",
    "app_from_file",
    "app_from_text",
    "data_of_app",
    "door_type",
    "form_of",
    "printed",
    "program_of",
    "schema",
]
