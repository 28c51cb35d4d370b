"""Drawing a topology: as JSON, as Mermaid text, or as an SVG picture."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from actorflow.plan.topology import (
    CallStream,
    Edge,
    Entry,
    Gather,
    KeyBy,
    Reply,
    Source,
    Step,
    Then,
    Topology,
)

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 150, 46, 56, 26, 24
LANE = 16  # between the ways back, which lead below all boxes
FONT = "font-family='ui-sans-serif, system-ui, sans-serif'"


# what XML 1.0 has no place for at all, and what ends a line of Mermaid
_UNDRAWABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff\\ufffe\\uffff]")


def to_json(topology: Topology) -> dict[str, Any]:
    """Return a topology as plain values: the stream, its steps and its edges."""
    return {
        "stream": topology.stream,
        "request_type": _type_name(topology.request_type),
        "reply_type": _type_name(topology.reply_type),
        "replies": topology.replies,
        "steps": [
            {"number": step.number, "name": step.name, "kind": step.kind, **_facts(step)} for step in topology.steps
        ],
        "edges": [
            {
                "source": edge.source,
                "target": edge.target,
                "output": edge.output,
                "input": edge.input,
                "feedback": edge.back,
            }
            for edge in topology.edges
        ],
    }


def to_mermaid(topology: Topology) -> str:
    """Return a topology as a Mermaid flowchart."""
    lines = ["flowchart LR"]
    for step in topology.steps:
        label = _text(step.name)
        if note := _note(step):
            label += f"<br/><small>{_text(note)}</small>"
        opening, closing = _MERMAID_SHAPES.get(type(step), ("[", "]"))
        lines.append(f'    s{step.number}{opening}"{label}"{closing}')
    for edge in topology.edges:
        name = " ".join(filter(None, (edge.output, edge.input)))
        line, head = ("-. ", " .->") if edge.back else ("-- ", " -->")
        arrow = f'{line}"{_text(name)}"{head}' if name else ("-.->" if edge.back else "-->")
        lines.append(f"    s{edge.source} {arrow} s{edge.target}")
    return "\n".join(lines) + "\n"


def to_svg(topology: Topology) -> str:
    """Return a topology as an SVG picture: steps in columns by their distance from the entry, edges as curves."""
    places = _places(topology)
    width = max(x for x, _ in places.values()) + BOX_WIDTH + MARGIN
    height = max(y for _, y in places.values()) + BOX_HEIGHT + MARGIN
    back = sorted((edge for edge in topology.edges if edge.back), key=lambda edge: edge.target - edge.source)
    height += len(back) * LANE
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' aria-label='stream {_text(topology.stream)}'>",
        f"<title>stream {_text(topology.stream)}</title>",
        "<defs><marker id='arrow' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' "
        "orient='auto'><path d='M0 0 L8 4 L0 8 z' fill='#64748b'/></marker>"
        "<marker id='back' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='8' markerHeight='8' "
        "orient='auto'><path d='M0 0 L8 4 L0 8 z' fill='#be123c'/></marker></defs>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
    ]
    parts += [_svg_edge(edge, places) for edge in topology.edges if not edge.back]
    parts += [_svg_back(edge, places, height - MARGIN // 2 - lane * LANE, lane) for lane, edge in enumerate(back)]
    parts += [_svg_box(step, *places[step.number]) for step in topology.steps]
    return "\n".join([*parts, "</svg>", ""])


_MERMAID_SHAPES: dict[type[Step], tuple[str, str]] = {
    Entry: ("([", "])"),
    Source: ("([", "])"),
    Reply: ("([", "])"),
    Gather: ("[/", "/]"),
    KeyBy: ("{{", "}}"),
    CallStream: ("[[", "]]"),
}
_COLOURS = {
    "operator": "#dbeafe",
    "fold": "#dcfce7",
    "join": "#dcfce7",
    "call": "#fef3c7",
    "feedback": "#ffe4e6",
    "replay": "#ffe4e6",
    "delta": "#ffe4e6",
    "entry": "#e2e8f0",
    "source": "#e2e8f0",
    "reply": "#e2e8f0",
    "key_by": "#f3e8ff",
}


def _note(step: Step) -> str:
    if isinstance(step, Then):
        replicas = f", {step.replicas} replicas" if step.replicas > 1 else ""
        operator = _type_name(step.operator)
        return f"{operator}{replicas}" if operator != step.name or replicas else ""
    if isinstance(step, KeyBy):
        return f"{step.space.name}, {step.space.shards} shards"
    return f"stream {step.stream}" if isinstance(step, CallStream) else ""


def _facts(step: Step) -> dict[str, Any]:
    if isinstance(step, Then):
        return {"operator": step.operator.__qualname__, "replicas": step.replicas}
    if isinstance(step, KeyBy):
        return {"key_space": step.space.name, "shards": step.space.shards}
    if isinstance(step, CallStream):
        return {"calls": step.stream}
    return {}


def _text(name: str) -> str:
    """Return a name as text of XML or Mermaid, with a sign in place of each character that neither can show."""
    return escape(_UNDRAWABLE.sub("\N{REPLACEMENT CHARACTER}", name), quote=True)


def _type_name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind)


def _places(topology: Topology) -> dict[int, tuple[int, int]]:
    """Return the upper left corner of each step: a column per distance, rows in the order of the inputs' rows."""
    column = {step.number: 0 for step in topology.steps}
    for _ in topology.steps:  # longest distance; bounded, so that a picture of a cycle ends too
        for edge in topology.edges:
            if not edge.back and edge.target > edge.source:
                column[edge.target] = max(column[edge.target], column[edge.source] + 1)
    rows: dict[int, list[int]] = {}
    places: dict[int, tuple[int, int]] = {}
    for number in sorted(column, key=lambda number: (column[number], number)):
        rows.setdefault(column[number], []).append(number)
    for place, numbers in sorted(rows.items()):
        taken = -1.0
        ordered = sorted(numbers, key=lambda number: _middle(topology, number, places))
        for number in ordered:
            wanted = _middle(topology, number, places)
            row = max(wanted, taken + 1) if taken >= 0 or wanted > 0 else max(wanted, 0.0)
            taken = row
            places[number] = (MARGIN + place * (BOX_WIDTH + GAP_X), MARGIN + round(row * (BOX_HEIGHT + GAP_Y)))
    return places


def _middle(topology: Topology, number: int, places: dict[int, tuple[int, int]]) -> float:
    above = [places[edge.source][1] for edge in topology.inputs_of(number) if edge.source in places]
    return (sum(above) / len(above) - MARGIN) / (BOX_HEIGHT + GAP_Y) if above else 0.0


def _svg_box(step: Step, x: int, y: int) -> str:
    colour = _COLOURS.get(step.kind, "#f8fafc")
    note = _note(step)
    radius = 22 if step.kind in {"entry", "source", "reply"} else 6
    text = [
        f"<rect x='{x}' y='{y}' width='{BOX_WIDTH}' height='{BOX_HEIGHT}' rx='{radius}' fill='{colour}' "
        "stroke='#64748b'/>",
        f"<text x='{x + BOX_WIDTH // 2}' y='{y + (21 if note else 28)}' text-anchor='middle' font-size='14' "
        f"fill='#0f172a' {FONT}>{_text(_short(step.name, 18))}</text>",
    ]
    if note:
        text.append(
            f"<text x='{x + BOX_WIDTH // 2}' y='{y + 37}' text-anchor='middle' font-size='11' fill='#475569' "
            f"{FONT}>{_text(_short(note, 26))}</text>"
        )
    return "".join(text)


def _svg_edge(edge: Edge, places: dict[int, tuple[int, int]]) -> str:
    x1, y1 = places[edge.source][0] + BOX_WIDTH, places[edge.source][1] + BOX_HEIGHT // 2
    x2, y2 = places[edge.target][0], places[edge.target][1] + BOX_HEIGHT // 2
    bend = max((x2 - x1) // 2, GAP_X // 2)
    path = (
        f"<path d='M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}' fill='none' stroke='#64748b' "
        "stroke-width='1.5' marker-end='url(#arrow)'/>"
    )
    name = " ".join(filter(None, (edge.output, edge.input)))
    if name:
        path += (
            f"<text x='{(x1 + x2) // 2}' y='{(y1 + y2) // 2 - 5}' text-anchor='middle' font-size='11' "
            f"fill='#475569' {FONT}>{_text(name)}</text>"
        )
    return path


def _svg_back(edge: Edge, places: dict[int, tuple[int, int]], y: int, lane: int) -> str:
    """Return a feedback edge: dashed, down through the gap behind one box, along a lane below all, and up to the other.

    Gaps have no boxes in them; each lane has its own place in a gap, so that edges are told apart.
    """
    shift = 10 + 6 * (lane % 6)
    x1, y1 = places[edge.source][0] + BOX_WIDTH, places[edge.source][1] + BOX_HEIGHT * 3 // 4
    x2, y2 = places[edge.target][0], places[edge.target][1] + BOX_HEIGHT * 3 // 4
    down, up = x1 + shift, x2 - shift
    name = " ".join(filter(None, (edge.output, edge.input)))
    path = (
        f"<path d='M{x1} {y1} H{down - 6} Q{down} {y1} {down} {y1 + 6} V{y - 6} Q{down} {y} {down - 6} {y} H{up + 6} "
        f"Q{up} {y} {up} {y - 6} V{y2 + 6} Q{up} {y2} {up + 6} {y2} H{x2}' fill='none' "
        "stroke='#be123c' stroke-width='1.5' stroke-dasharray='6 3' marker-end='url(#back)'/>"
    )
    return (
        f"{path}<text x='{(down + up) // 2}' y='{y - 3}' text-anchor='middle' font-size='11' fill='#be123c' {FONT}>"
        f"{_text(name)}</text>"
    )


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
