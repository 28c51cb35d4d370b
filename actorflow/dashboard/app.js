// The page: asks the host once a second how it is, and shows the view that the address names.
//
// `#/streams/NAME`, `#/streams/NAME/requests/ID`, `#/dead-letters`, `#/state`: so that views can be linked to.

import { byId, el, keep, rows, say } from "./element.js";
import { draw } from "./graph.js";
import { keepToken, look } from "./host.js";
import { updateLetters } from "./letters.js";
import { linkTo, openRequest, updateRequests } from "./requests.js";
import { sendTo } from "./send.js";
import { showMatrix, updateState } from "./state.js";
import { count, duration, latency, rate } from "./text.js";

const POLL_MS = 1000;
const VIEWS = { streams: "stream-view", "dead-letters": "letters-view", state: "state-view" };

let known = null; // what does not change while a host runs: incarnation, streams, graphs
let shown = null; // the stream that is drawn, with its drawing
let route = {};
let timer, turning = false, again = false;

// -- a turn

/** Look at the host and show what it says; then wait a second. One at a time; `again` asks for another at once. */
async function turn() {
  clearTimeout(timer);
  if (turning) return void (again = true);
  turning = true;
  try {
    const ps = await look("/ps");
    if (known?.incarnation !== ps.incarnation) await learn(ps);
    showHeader(ps);
    showStreams(ps);
    await showView(ps);
    connection(ps.draining ? "draining" : "live", ps.draining ? "draining: takes nothing new" : "connected");
  } catch (problem) {
    if (problem.status === 401) askForToken();
    else if (problem.status === undefined) throw problem; // a fault of the page itself
    else if (problem.status > 0) connection("wrong", `the host says: ${problem.message}`);
    else connection("gone", "the host does not answer; trying again");
  } finally {
    turning = false;
    if (!document.hidden) timer = setTimeout(turn, again ? 0 : POLL_MS);
    again = false;
  }
}

/** Ask a host that is new to the page for what does not change. */
async function learn(ps) {
  const [streams, graphs, matrix] = await Promise.all([look("/streams"), look("/graph"), look("/check")]);
  known = { incarnation: ps.incarnation, streams: new Map(), graphs: new Map() };
  for (const stream of streams) known.streams.set(stream.name, stream);
  for (const graph of graphs) known.graphs.set(graph.stream, graph);
  showMatrix(matrix);
  shown = null;
  byId("token").hidden = true;
  follow();
}

function connection(state, text) {
  document.body.dataset.state = state;
  say(byId("connection"), text);
}

let tokenGiven = false; // since the host last refused one

function askForToken() {
  connection("wrong", tokenGiven ? "this token is not the right one" : "a token is needed");
  tokenGiven = false;
  if (!byId("token").hidden) return;
  byId("token").hidden = false;
  byId("token-text").focus();
}

// -- what is always there

function showHeader(ps) {
  say(byId("app"), ps.app);
  say(byId("host"), ps.host);
  say(byId("uptime"), duration(Math.floor(ps.uptime_s)));
  say(byId("durable"), ps.durable ? "durable" : "in memory");
  say(byId("in-flight"), count(ps.in_flight));
}

function showStreams(ps) {
  keep(byId("streams"), [...known.streams.keys()], String,
    (name) => el("li", {}, el("a", { href: linkTo(name) }, name, el("span", { class: "badge" }))),
    (line, name) => {
      const inFlight = ps.requests[name]?.in_flight ?? 0;
      say(line.querySelector(".badge"), inFlight ? `${count(inFlight)} in flight` : "");
    });
  byId("letter-count").hidden = !ps.dead_letters;
  say(byId("letter-count"), count(ps.dead_letters ?? 0));
  for (const link of document.querySelectorAll("nav a")) {
    const here = decodeURIComponent(link.hash) === `#/${[route.view, route.name].filter(Boolean).join("/")}`;
    if (here === link.hasAttribute("aria-current")) continue;
    if (!here) link.removeAttribute("aria-current");
    else link.setAttribute("aria-current", "page");
    if (here) link.scrollIntoView({ block: "nearest" }); // in a narrow window the links are one long row
  }
}

// -- the view

/** Go where the address says; to the first stream where it says nothing that there is. */
function follow() {
  if (!known) return;
  const [view, name, , id] = location.hash.slice(2).split("/").map(decoded);
  const [first] = known.streams.keys();
  if (view in VIEWS && (view !== "streams" || known.streams.has(name))) route = { view, name, id };
  else route = first === undefined ? { view: "state" } : { view: "streams", name: first };
  for (const [each, place] of Object.entries(VIEWS)) byId(place).hidden = each !== route.view;
  if (route.view === "streams" && shown?.stream.name !== route.name) showStream(route.name);
  if (shown && route.view === "streams") openRequest(route.name, route.id);
  const heading = byId(VIEWS[route.view]).querySelector("h2").textContent;
  document.title = `${heading} · ${byId("app").textContent}`;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // typed by hand, and no such name
  }
}

function showStream(name) {
  const stream = known.streams.get(name);
  const graph = known.graphs.get(name);
  shown = { stream, drawing: draw(byId("drawing"), graph) };
  say(byId("stream-name"), name);
  const replies = { one: graph.reply_type, many: `many ${graph.reply_type}`, none: "nothing" }[stream.replies];
  say(byId("stream-facts"), `${graph.request_type} → ${replies} · deadline ${duration(stream.timeout_s)} · ` +
    (stream.pure ? "pure: can be begun again" : "writes"));
  byId("replicas").replaceChildren();
  byId("requests").replaceChildren();
  sendTo(stream);
}

async function showView(ps) {
  if (route.view === "dead-letters") return updateLetters();
  if (route.view === "state") return updateState();
  const { drawing, stream } = shown;
  const replicas = ps.replicas.filter((replica) => replica.stream === stream.name);
  rows(byId("replicas"), replicas, (each) => `${each.operator}/${each.replica}`, (each) => [
    each.operator, each.replica ?? "", rate(each.rate), count(each.depth), count(each.working), count(each.items),
    latency(each.p50_ms), latency(each.p99_ms), count(each.errors), count(each.restarts),
  ]);
  const where = await updateRequests(stream.name, route.id, ps.requests[stream.name]?.in_flight ?? 0);
  drawing.update(replicas, where);
}

// -- what a person does

addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#/")) return; // the link that skips to the main part
  follow();
  if (known) (route.id ? byId("request-title") : byId(VIEWS[route.view]).querySelector("h2")).focus();
  turn();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer); // nobody looks, so nobody asks
  else turn();
});
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token-text").value);
  tokenGiven = true;
  byId("token").hidden = true;
  turn();
});

turn();
