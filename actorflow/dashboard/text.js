// Numbers, times and JSON as a person reads them.

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (number) => (number < 10_000 ? whole : compact).format(number ?? 0);
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
export const rate = (perSecond) => `${perSecond < 10 ? +(perSecond ?? 0).toFixed(1) : count(Math.round(perSecond))}/s`;

/** Return milliseconds with two digits that mean something: 0.04 ms, 1.3 ms, 12 s. */
export function latency(ms) {
  if (ms == null) return "–";
  return ms < 1000 ? `${+ms.toPrecision(2)}\u00a0ms` : duration(ms / 1000);
}

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)}\u00a0s`;
  if (seconds < 60) return `${Math.round(seconds)}\u00a0s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}\u00a0min ${Math.floor(seconds % 60)}\u00a0s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}\u00a0h ${minutes % 60}\u00a0min` : `${Math.floor(hours / 24)}\u00a0days`;
}

export const cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

const TOKENS = /"(?:\\.|[^"\\])*"|\[\s*\]|\{\s*\}|[[\]{},:]|[^\s[\]{},:"]+/g;
const LINE = 72;

/** Indent JSON that is longer than a line. It stays text: a parsed 2⁶³ would come out as another number. */
export function indented(json) {
  if (json.length <= LINE) return json;
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  return (json.match(TOKENS) ?? []).map((token) => {
    if (token === "{" || token === "[") return token + (depth++, line());
    if (token === "}" || token === "]") return (depth--, line()) + token;
    if (token === ",") return token + line();
    return token === ":" ? ": " : token;
  }).join("");
}
