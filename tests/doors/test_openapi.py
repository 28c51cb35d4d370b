"""What a host understands, for programs: every kind of declared type has its JSON schema, and an example that fits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypedDict

import aiohttp
import msgspec
import pytest

from actorflow import App
from actorflow.gateway import serving
from actorflow.gateway.openapi import document, example_of, schema_of


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Line:
    sku: str
    size: Size
    count: int = 1


@dataclass
class Order:
    customer: str
    lines: list[Line]
    gift: bool = False


class Address(TypedDict):
    street: str
    number: int


class Parcel(msgspec.Struct):
    to: Address
    weight: float | None
    kind: Literal["letter", "box"]


class Opaque:
    """Nothing that JSON knows of."""


KINDS: list[Any] = [int, str, float, bool, dict, list[int], tuple[str, int], Order, Address, Parcel, int | None, Any]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_example_fits_the_type_whose_schema_it_was_made_from(kind: Any) -> None:
    example = example_of(schema_of(kind))

    msgspec.convert(example, kind, strict=True)


def test_models_of_pydantic_are_described_where_it_is_installed() -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed: its models are not tested")
    inner = pydantic.create_model("Inner", name=(str, ...))
    outer = pydantic.create_model("Outer", inner=(inner, ...), count=(int, 3))

    schema = schema_of(outer)
    made = example_of(schema)

    assert outer.model_validate(made).inner.name == "text"
    assert set(schema["$defs"]) == {"Inner"}


def test_what_json_knows_nothing_of_is_anything() -> None:
    assert schema_of(Opaque) == {}
    assert example_of({}) is None


def test_a_type_that_contains_itself_ends() -> None:
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}}

    assert str(example_of(schema)).count("[") < 20


async def test_the_document_names_every_stream_and_every_path_that_is_served() -> None:
    app = App("shop")
    app.stream("order", Order, int).map(lambda order: 1)
    app.stream("parcels", Parcel, str, replies="many").map(lambda parcel: "")
    async with serving(app, port=0) as gateway, aiohttp.ClientSession(gateway.url) as http:
        async with http.get("/openapi.json") as answer:
            told = await answer.json()
        served = {resource.canonical for resource in gateway._runner.app.router.resources()}

    assert told["openapi"].startswith("3.1")
    order = told["paths"]["/streams/order"]["post"]
    assert order["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Order"}
    assert {"Order", "Line", "Size", "Parcel", "Problem"} <= set(told["components"]["schemas"])
    parcels = told["paths"]["/streams/parcels"]["post"]["responses"]["200"]["content"]
    assert parcels["application/json"]["schema"] == {"type": "array", "items": {"type": "string"}}
    static = {path for path in told["paths"] if not path.startswith("/streams/")}
    assert static <= {path.replace(":.+", "") for path in served}
    refs = {part.split('"')[0] for part in str(told).replace("'", '"').split("#/components/schemas/")[1:]}
    assert refs <= set(told["components"]["schemas"])


def test_a_token_is_part_of_the_document() -> None:
    told = document(App("empty"), url="http://x", secured=True)

    assert told["security"] == [{"token": []}]
