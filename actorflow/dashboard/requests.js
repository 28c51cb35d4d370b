// Requests in flight: the table of a stream, and one request opened.

import { byId, confirmed, el, facts, keep, rows, say } from "./element.js";
import { call, look } from "./host.js";
import { count, duration, plural } from "./text.js";

const SHOWN_MAX = 100;

/** Return the address of a stream, or of a request of it. */
export const linkTo = (stream, id) =>
  `#/streams/${encodeURIComponent(stream)}${id ? `/requests/${encodeURIComponent(id)}` : ""}`;

const link = (stream, id) => el("a", { href: linkTo(stream, id) }, id);
const loopText = (loop) =>
  [loop.loop, loop.round != null && `round ${loop.round}`, plural(loop.items, "item"),
    loop.value != null && `value ${loop.value}`].filter(Boolean).join(", ");

/** Show the requests of a stream that are in flight, and the open one; returns where the items of that one are. */
export async function updateRequests(stream, openId, inFlight) {
  const [list] = await Promise.all([
    look(`/requests?limit=${SHOWN_MAX}&stream=${encodeURIComponent(stream)}`), openId && updateOpen(stream, openId),
  ]);
  say(byId("requests-caption"), inFlight > list.length
    ? `The oldest ${list.length} of ${count(inFlight)}` : `Oldest first; open one to see where its items are`);
  rows(byId("requests"), list, (request) => request.id, (request) => [
    () => link(stream, request.id), duration(request.age_s), duration(request.deadline_in_s),
    count(request.outstanding), (request.loops ?? []).map(loopText).join("; "),
  ]);
  for (const row of byId("requests").rows) row.classList.toggle("open", row.dataset.key === openId);
  return open.told?.where ?? [];
}

// -- one request

let open = {}; // the open request: what was last told of it, and whether it has ended
const places = el("ul"), children = el("ul"), parent = el("span");

/** Open a request, or close what is open. */
export function openRequest(stream, id) {
  open = { told: null, ended: false };
  byId("request").hidden = !id;
  byId("request-close").href = linkTo(stream);
  facts(byId("request-facts"), []);
  say(byId("request-title"), id ? `Request ${id}` : "");
  say(byId("request-state"), "");
  byId("request-cancel").hidden = true;
}

async function updateOpen(stream, id) {
  if (open.ended) return;
  const asked = open;
  const told = await look(`/requests/${encodeURIComponent(id)}`).catch((problem) => {
    if (problem.status !== 404) throw problem;
  });
  if (open !== asked) return; // another one has been opened meanwhile
  if (!told) {
    openRequest(stream, id);
    open.ended = true;
    return say(byId("request-state"), "It has ended.");
  }
  if (told.stream !== stream) return location.replace(linkTo(told.stream, id)); // a child, opened from its parent
  open.told = told;
  byId("request-cancel").hidden = false;
  byId("request-cancel").dataset.id = id;
  const { where = [], return_stack: frames = [], attributes = {} } = told;
  keep(places, where, (place) => `${place.operator}/${place.how}`, () => el("li"),
    (line, place) => say(line, `${place.operator}: ${count(place.items)} ${place.how}`));
  keep(children, told.children ?? [], String, (child) => el("li", {}, link(stream, child)));
  keep(parent, told.parent ? [told.parent] : [], String, (above) => link(stream, above));
  facts(byId("request-facts"), [
    ["age", duration(told.age_s)], ["deadline in", duration(told.deadline_in_s)],
    ["outstanding", `${plural(told.outstanding, "item")}, with what holds its end up`],
    ["where its items are", where.length ? places : "in no mailbox now"],
    ["loops", (told.loops ?? []).map(loopText).join("; ")],
    ["return stack", frames.length ? frames.join(" ← ") : "empty: its reply goes straight to the caller"],
    ["children", children.childElementCount ? children : ""], ["parent", told.parent ? parent : ""],
    ["attributes", Object.keys(attributes).length ? JSON.stringify(attributes) : ""],
  ]);
}

byId("request-cancel").addEventListener("click", async (event) => {
  const { id } = event.target.dataset;
  if (!(await confirmed(`Cancel request ${id}? Its caller gets an error.`, "Cancel the request"))) return;
  try {
    await call("DELETE", `/requests/${encodeURIComponent(id)}`);
    say(byId("request-state"), "Cancelled.");
  } catch (problem) {
    say(byId("request-state"), problem.message);
  }
});
