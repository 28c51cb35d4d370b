// The drawing of a stream: steps in columns by their distance from the entry, what leads back below all of them.
//
// An edge over several columns passes each of them at a place of its own (a "bend"), so that it crosses no box.

import { say, svg } from "./element.js";
import { count, cut, latency, plural, rate } from "./text.js";

const WIDTH = 168, NARROW = 112, HEIGHT = 80, LOW = 38;
const GAP_X = 62, GAP_Y = 20, MARGIN = 16, LANE = 16;
const DEPTH_SHOWN_MAX = 1024; // a mailbox this deep fills its bar; limits are usually near

/** Draw a topology into a region; returns what shows numbers in the drawing. */
export function draw(region, graph) {
  const { nodes, chains } = laidOut(graph);
  const back = graph.edges.filter((edge) => edge.feedback).sort((a, b) => b.target - a.target);
  const steps = nodes.filter((node) => node.step);
  const right = Math.max(...steps.map((node) => node.x + node.width)) + MARGIN + (back.length ? 24 : 0);
  const floor = Math.max(...nodes.map((node) => node.y + node.height / 2)) + MARGIN;
  const bottom = floor + back.length * LANE;

  const lines = chains.map(({ edge, path }) => edgeOf(edge, forward(path), nodes[edge.source], path));
  lines.push(...back.map((edge, lane) =>
    edgeOf(edge, backward(nodes[edge.source], nodes[edge.target], floor + lane * LANE, lane))));
  const boxes = new Map(steps.map((node) => [node.step.number, boxOf(node)]));
  const picture = svg("svg", {
    viewBox: `0 0 ${right} ${bottom}`, width: right, height: bottom, role: "img",
    "aria-label": `Topology of ${graph.stream}: ${graph.edges.map((edge) => inWords(edge, graph)).join(", ")}`,
  }, svg("defs", {}, arrow("arrow"), arrow("arrow-keyed"), arrow("arrow-feedback")),
  ...lines.map((line) => line.node), ...[...boxes.values()].map((box) => box.node));
  picture.style.minWidth = `${Math.round(right * 0.72)}px`; // smaller than this it is not readable: it scrolls instead
  region.replaceChildren(picture);
  return { update: (replicas, where) => update(graph, boxes, lines, replicas, where) };
}

// -- places

function laidOut(graph) {
  const back = new Set(graph.edges.filter((edge) => edge.feedback).map((edge) => edge.source));
  const nodes = graph.steps.map((step) => ({
    step, column: 0, inputs: [], turns: back.has(step.number), width: step.kind === "operator" ? WIDTH : NARROW,
    height: step.kind === "operator" ? HEIGHT : LOW,
  }));
  const edges = graph.edges.filter((edge) => !edge.feedback);
  for (const _ of nodes) { // the longest way; bounded, so that a cycle ends too
    for (const { source, target } of edges) {
      if (target > source) nodes[target].column = Math.max(nodes[target].column, nodes[source].column + 1);
    }
  }
  const chains = edges.map((edge) => {
    const [source, target] = [nodes[edge.source], nodes[edge.target]];
    const path = [source];
    for (let column = source.column + 1; column < target.column; column++) {
      nodes.push({ column, inputs: [path.at(-1)], turns: false, width: 0, height: LOW / 2 });
      path.push(nodes.at(-1));
    }
    target.inputs.push(path.at(-1));
    return { edge, path: [...path, target] };
  });
  let x = MARGIN;
  for (let column = 0; column <= Math.max(...nodes.map((node) => node.column)); column++) {
    const here = nodes.filter((node) => node.column === column);
    const width = Math.max(...here.map((node) => node.width));
    stack(here);
    for (const node of here) node.x = x + (width - node.width) / 2;
    x += width + GAP_X;
  }
  const top = Math.min(...nodes.map((node) => node.y - node.height / 2));
  for (const node of nodes) node.y += MARGIN - top;
  return { nodes, chains };
}

/** Give the nodes of a column their heights: each where its inputs are, or below the one before it. Of two that want
 * the same place, the one from which an edge leads back goes below: there is less in the way of that edge. */
function stack(column) {
  const wanted = (node) =>
    node.inputs.reduce((sum, input) => sum + input.y, 0) / Math.max(node.inputs.length, 1);
  column.sort((a, b) => wanted(a) - wanted(b) || a.turns - b.turns);
  const middle = column.reduce((sum, node) => sum + wanted(node), 0) / column.length;
  let taken = -Infinity;
  for (const node of column) {
    node.y = Math.max(wanted(node), taken + node.height / 2);
    taken = node.y + node.height / 2 + GAP_Y;
  }
  const shift = middle - column.reduce((sum, node) => sum + node.y, 0) / column.length;
  for (const node of column) node.y += shift; // those that had to make room do so to both sides
}

// -- edges

function forward(path) {
  const parts = [`M${path[0].x + path[0].width} ${path[0].y}`];
  for (let i = 1; i < path.length; i++) {
    const [x1, y1, x2, y2] = [path[i - 1].x + path[i - 1].width, path[i - 1].y, path[i].x, path[i].y];
    const bend = (x2 - x1) / 2;
    parts.push(`C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`);
  }
  return parts.join("");
}

/** Down through the gap behind one box, along a lane below all of them, and up through the gap before the other. */
function backward(source, target, y, lane) {
  const shift = 10 + 6 * (lane % 5);
  const [x1, y1] = [source.x + source.width, source.y + source.height / 4];
  const [x2, y2] = [target.x, target.y + target.height / 4];
  const [down, up] = [x1 + shift, x2 - shift];
  return `M${x1} ${y1}H${down - 6}Q${down} ${y1} ${down} ${y1 + 6}V${y - 6}Q${down} ${y} ${down - 6} ${y}H${up + 6}` +
    `Q${up} ${y} ${up} ${y - 6}V${y2 + 6}Q${up} ${y2} ${up + 6} ${y2}H${x2}`;
}

function edgeOf(edge, d, source, path) {
  const space = source?.step.key_space;
  const kind = edge.feedback ? "feedback" : space ? "keyed" : "";
  const flow = svg("path", { d, class: "flow" });
  const node = svg("g", { class: `edge ${kind}` },
    svg("path", { d, class: "line", "marker-end": `url(#arrow${kind && `-${kind}`})` }), flow);
  const name = [space, edge.output, edge.input].filter(Boolean).join(" ");
  if (name && path) {
    const [from, to] = [path[0], path[1]];
    const x = (from.x + from.width + to.x) / 2;
    node.append(svg("text", { x, y: (from.y + to.y) / 2 - 6, class: "label" }, cut(name, 10)), svg("title", {}, name));
  }
  return { edge, node, flow };
}

const arrow = (id) =>
  svg("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, orient: "auto",
    markerUnits: "userSpaceOnUse" },
    svg("path", { d: "M0 0L8 4L0 8z" }));

function inWords({ source, target, feedback }, { steps }) {
  const space = steps[source].key_space ? ` (key ${steps[source].key_space})` : "";
  return `${steps[source].name} ${feedback ? "back to" : "to"} ${steps[target].name}${space}`;
}

// -- boxes

function boxOf({ step, x, y, width, height }) {
  const top = y - height / 2, inside = x + 12;
  const isOperator = step.kind === "operator";
  const node = svg("g", { class: `step ${step.kind}` }, svg("title", {}, `${step.name} (${step.kind})`),
    svg("rect", { x, y: top, width, height, rx: ["entry", "source", "reply"].includes(step.kind) ? LOW / 2 : 7 }));
  if (!isOperator) {
    const note = step.calls ? `→ ${step.calls}` : step.name.startsWith(step.kind) ? "" : step.kind.replace("_", " ");
    node.append(svg("text", { x: x + width / 2, y: y + (note ? -1 : 4), class: "name middle" }, cut(step.name, 13)));
    if (note) node.append(svg("text", { x: x + width / 2, y: y + 12, class: "note middle" }, cut(note, 16)));
  } else {
    node.append(svg("text", { x: inside, y: top + 19, class: "name" }, cut(step.name, step.replicas > 1 ? 15 : 18)));
    const copies = step.replicas > 1 ? `× ${step.replicas}` : "";
    node.append(svg("text", { x: x + width - 12, y: top + 19, class: "note end" }, copies));
  }
  const text = (dy, kind) => node.appendChild(svg("text", { x: inside, y: top + dy, class: kind }));
  const numbers = isOperator &&
    { flow: text(37, "number"), times: text(53, "note"), troubles: text(69, "note trouble") };
  const bar = svg("rect", { x, y: top + height - 3, width: 0, height: 3, class: "depth" });
  const held = svg("text", { x: x + width - 6, y: top - 3, class: "held end" });
  node.append(bar, held);
  return { node, numbers, bar, held, width };
}

function update(graph, boxes, lines, replicas, where) {
  const rates = new Map();
  for (const [number, { node, numbers, bar, held, width }] of boxes) {
    const mine = replicas.filter((replica) => replica.step === number);
    const sum = (field) => mine.reduce((total, replica) => total + (replica[field] ?? 0), 0);
    const worst = (field) => mine.reduce((most, replica) => Math.max(most ?? 0, replica[field] ?? 0) || most, null);
    if (mine.length) rates.set(number, sum("rate"));
    if (numbers) {
      const [depth, errors, restarts] = [sum("depth"), sum("errors"), sum("restarts")];
      say(numbers.flow, `${rate(sum("rate"))} · depth ${count(depth)}`);
      say(numbers.times, `p50 ${latency(worst("p50_ms"))} · p99 ${latency(worst("p99_ms"))}`);
      say(numbers.troubles, [errors && plural(errors, "error"), restarts && plural(restarts, "restart")]
        .filter(Boolean).join(" · "));
      bar.setAttribute("width", width * Math.min(1, Math.log2(1 + depth) / Math.log2(1 + DEPTH_SHOWN_MAX)));
      node.classList.toggle("busy", sum("working") > 0 || depth > 0 || sum("rate") > 0);
    }
    const items = where.filter((place) => place.step === number).reduce((total, place) => total + place.items, 0);
    say(held, items ? plural(items, "item") : "");
    node.classList.toggle("holding", items > 0);
  }
  for (const { edge, node, flow } of lines) {
    const perSecond = flowing(graph, rates, edge.source, -1) ?? flowing(graph, rates, edge.target, 1) ?? 0;
    node.classList.toggle("flowing", perSecond > 0);
    flow.dataset.pace = perSecond < 5 ? "slow" : perSecond < 100 ? "even" : "fast";
  }
}

/** Return the rate of the nearest operators in one direction: only they count what passes. */
function flowing(graph, rates, number, direction, seen = new Set()) {
  if (rates.has(number)) return rates.get(number);
  if (seen.has(number)) return null;
  seen.add(number);
  const next = graph.edges.filter((edge) => !edge.feedback && (direction < 0 ? edge.target : edge.source) === number)
    .map((edge) => flowing(graph, rates, direction < 0 ? edge.source : edge.target, direction, seen))
    .filter((each) => each != null);
  return next.length ? Math.max(...next) : null;
}
