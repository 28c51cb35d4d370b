"""Drawings: well-formed whatever the names, complete, and nothing on top of another."""

import html
import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actorflow import App, Operator
from actorflow.plan.draw import BOX_HEIGHT, BOX_WIDTH, to_json, to_mermaid, to_svg
from actorflow.plan.stream import Stream
from actorflow.plan.topology import Topology

SVG = "{http://www.w3.org/2000/svg}"
NAMES = st.one_of(
    st.sampled_from(["a<b", 'say "x"', "it's", "a&b", "</svg>", "<script>", "--> x", "日本", "x" * 60, "]", "&lt;"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"]), min_size=1, max_size=30),
)


class Work(Operator):
    def process(self, item: Any) -> Any:
        return item


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """A stream of random steps under random names, with branches, merges, routes, joins and calls."""
    points: list[Stream[Any, Any]] = [App("a").stream("s.t-u")]
    for _ in range(draw(st.integers(0, 7))):
        point, other = draw(st.sampled_from(points)), draw(st.sampled_from(points))
        name, output = draw(NAMES), draw(NAMES)
        kind = draw(st.sampled_from(["map", "then", "key_by", "call", "count", "merge", "join", "route", "source"]))
        match kind:
            case "map":
                points.append(point.map(str, name=name))
            case "then":
                points.append(point.then(Work, name=name, replicas=draw(st.integers(1, 3))))
            case "key_by":
                points.append(point.key_by(output, name=name))
            case "call":
                points.append(point.call(output, name=name))
            case "count":
                points.append(point.count(name=name))
            case "merge":
                points.append(point.merge(other, name=name))
            case "join":
                points.append(point.join(other, str, name=name))
            case "route":
                points += point.route(str, output, "else", name=name).values()
            case "source":
                points.append(point.source(lambda _: [1], name=name))
    return points[0].topology


def boxes(picture: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(box.get("x", "")), float(box.get("y", ""))) for box in picture.iter(f"{SVG}rect") if box.get("rx")]


@settings(deadline=None)
@given(topologies())
def test_json_names_every_step_and_edge(topology: Topology) -> None:
    drawn = json.loads(json.dumps(to_json(topology)))

    assert drawn["stream"] == topology.stream
    assert [(each["number"], each["name"], each["kind"]) for each in drawn["steps"]] == [
        (each.number, each.name, each.kind) for each in topology.steps
    ]
    assert [(each["source"], each["target"], each["output"], each["input"]) for each in drawn["edges"]] == [
        (each.source, each.target, each.output, each.input) for each in topology.edges
    ]


@settings(deadline=None)
@given(topologies())
def test_mermaid_is_one_line_per_step_and_edge_with_every_name_in_quotes(topology: Topology) -> None:
    head, *lines = to_mermaid(topology).splitlines()

    assert head == "flowchart LR"
    assert len(lines) == len(topology.steps) + len(topology.edges)
    for line, step in zip(lines, topology.steps, strict=False):
        found = re.fullmatch(r'    s(\d+)[\[({/]+"([^"<>]*)(?:<br/><small>[^"<>]*</small>)?"[\])}/]+', line)
        assert found, line
        assert (int(found[1]), html.unescape(found[2])) == (step.number, step.name)
    for line, edge in zip(lines[len(topology.steps) :], topology.edges, strict=True):
        found = re.fullmatch(r'    s(\d+) (?:-- "([^"<>]*)" )?--> s(\d+)', line)
        assert found, line
        assert (int(found[1]), int(found[3])) == (edge.source, edge.target)
        assert html.unescape(found[2] or "") == " ".join(filter(None, (edge.output, edge.input)))


@settings(deadline=None)
@given(topologies())
def test_svg_parses_and_shows_every_step_and_edge(topology: Topology) -> None:
    picture = ElementTree.fromstring(to_svg(topology))

    assert picture.tag == f"{SVG}svg"
    assert picture.get("aria-label") == f"stream {topology.stream}"
    assert len(boxes(picture)) == len(topology.steps)
    curves = [path for path in picture.findall(f"{SVG}path") if path.get("marker-end")]
    assert len(curves) == len(topology.edges)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    for step in topology.steps:
        assert (step.name if len(step.name) <= 18 else step.name[:17] + "…") in texts
    known = {"svg", "title", "defs", "marker", "path", "rect", "text"}
    assert {each.tag.removeprefix(SVG) for each in picture.iter()} <= known


@settings(deadline=None)
@given(topologies())
def test_no_box_lies_on_another_or_outside_the_picture(topology: Topology) -> None:
    picture = ElementTree.fromstring(to_svg(topology))
    placed = boxes(picture)

    for index, (x, y) in enumerate(placed):
        assert 0 <= x <= float(picture.get("width", "")) - BOX_WIDTH
        assert 0 <= y <= float(picture.get("height", "")) - BOX_HEIGHT
        for other_x, other_y in placed[:index]:
            assert abs(x - other_x) >= BOX_WIDTH or abs(y - other_y) >= BOX_HEIGHT


@settings(deadline=None)
@given(topologies())
def test_every_step_is_to_the_right_of_those_before_it(topology: Topology) -> None:
    placed = boxes(ElementTree.fromstring(to_svg(topology)))

    for edge in topology.edges:
        assert placed[edge.source][0] < placed[edge.target][0]


def test_a_picture_of_a_cycle_ends_too() -> None:
    start = App("a").stream("s").merge()
    start.map(str).into(start)

    assert len(boxes(ElementTree.fromstring(to_svg(start.topology)))) == 4


def test_the_note_says_what_runs_and_how_often() -> None:
    drawn = to_mermaid(App("a").stream("s").then(Work, name="w", replicas=3).key_by("sku").call("t").topology)

    assert "Work, 3 replicas" in drawn
    assert "sku, 256 shards" in drawn
    assert "stream t" in drawn


@pytest.mark.parametrize("name", ["a\x00b", "a\x1b[31m", "a\nb\x0b"])
def test_names_with_control_characters_do_not_break_a_drawing(name: str) -> None:
    topology = App("a").stream("s").map(str, name=name).topology

    assert len(to_mermaid(topology).split("\n")) == 1 + len(topology.steps) + len(topology.edges) + 1
    ElementTree.fromstring(to_svg(topology))
