// Shared state: who touches which cell and why that is safe, what cells hold, which keys are locked.

import { byId, el, rows, say } from "./element.js";
import { look } from "./host.js";
import { count, cut, duration } from "./text.js";

const ENTRIES_MAX = 100;

/** Draw the matrix of operators and cells: it is decided before the host starts, so once is enough. */
export function showMatrix({ cells, uses, faults = [], notes = [] }) {
  const touched = cells.map((cell) => cell.name).filter((name) => uses.some((use) => use.cell === name));
  const [head] = byId("matrix").tHead.rows.length ? byId("matrix").tHead.rows : [byId("matrix").tHead.insertRow()];
  head.replaceChildren(...["operator", "keyed by", ...touched].map((name) => el("th", { scope: "col" }, name)));
  const operators = new Map();
  for (const use of uses) {
    const name = `${use.stream}/${use.operator}`;
    operators.set(name, [...(operators.get(name) ?? []), use]);
  }
  const mark = (use) => `${use.safe ? "✓" : "✗"} ${use.access}`;
  byId("matrix").tBodies[0].replaceChildren();
  rows(byId("matrix").tBodies[0], [...operators], ([name]) => name, ([name, mine]) => [
    name, mine[0].key ?? "", ...touched.map((cell) => mine.filter((use) => use.cell === cell).map(mark).join(" ")),
  ]);
  byId("reasons").replaceChildren(...uses.map((use) =>
    el("li", { class: use.safe ? "safe" : "unsafe" },
      el("strong", {}, `${use.safe ? "✓" : "✗"} ${use.stream}/${use.operator}, ${use.cell}.${use.access}: `),
      use.reason, use.way_out ? el("p", {}, `Way out: ${use.way_out}`) : "")));
  byId("faults").replaceChildren(...faults.map((fault) => el("p", { class: "fault" }, fault)),
    ...notes.map((note) => el("p", { class: "quiet" }, note)));
}

/** Show what cells hold now, and the keys in use. */
export async function updateState() {
  const [cells, locks] = await Promise.all([look("/cells"), look("/locks")]);
  rows(byId("cells"), cells, (cell) => cell.name, (cell) => [
    cell.name, cell.kind, cell.key ?? "", count(cell.entries), count(cell.locked), count(cell.waiting),
    () => el("button", { onclick: () => openCell(cell), "aria-label": `Show what ${cell.name} holds` }, "Show"),
  ]);
  rows(byId("locks"), locks, (lock) => `${lock.space} ${lock.key}`, (lock) => [
    `${lock.space} ${lock.key}`, lock.holders.join(", "),
    lock.waiting.map(({ who, for_s }) => `${who} for ${duration(for_s)}`).join(", "),
  ]);
  if (opened) await updateEntries(opened);
}

let opened = null; // the cell whose entries are shown

async function openCell(cell) {
  opened = cell;
  byId("entries-of").hidden = false;
  say(byId("entries-title"), cell.name);
  byId("entries").replaceChildren();
  await updateEntries(cell);
  byId("entries-title").focus();
}

async function updateEntries(cell) {
  try {
    const told = await look(`/cells/${encodeURIComponent(cell.name)}?limit=${ENTRIES_MAX}`);
    const entries = cell.key == null ? [{ key: "(the one value)", value: told }] : told;
    say(byId("entries-caption"),
      entries.length < ENTRIES_MAX ? "Committed, and of one instant" : `The first ${ENTRIES_MAX} by key`);
    rows(byId("entries"), entries, (entry) => JSON.stringify(entry.key), (entry) => [
      typeof entry.key === "string" ? entry.key : JSON.stringify(entry.key), cut(JSON.stringify(entry.value), 500),
    ]);
  } catch (problem) {
    byId("entries").replaceChildren();
    say(byId("entries-caption"), problem.message);
  }
}
