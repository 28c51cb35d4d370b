// Dead letters: the table, one of them opened, replay and forget.

import { byId, confirmed, el, facts, rows, say } from "./element.js";
import { call, look } from "./host.js";
import { cut, duration } from "./text.js";

const SHOWN_MAX = 200;
let letters = [];

/** Show the dead letters there are, newest first. */
export async function updateLetters() {
  letters = (await look(`/dead-letters?limit=${SHOWN_MAX}`)).reverse();
  say(byId("letters-caption"), letters.length === SHOWN_MAX ? `The newest ${SHOWN_MAX}` : "Newest first");
  rows(byId("letters"), letters, (letter) => letter.number, (letter) => [
    letter.number, () => actions(letter), cut(inShort(letter.error), 100), cut(letter.item ?? "", 60),
    [letter.stream, letter.operator].filter(Boolean).join("/"), duration(letter.age_s),
  ]);
}

const inShort = ({ type, message, cause_type: cause, cause_text: text }) => `${cause ?? type}: ${text ?? message}`;

const actions = ({ number, replayable }) => el("div", { class: "row" },
  button("Inspect", number, () => inspect(number)),
  ...(replayable ? [button("Replay", number, () => act("POST", `/dead-letters/${number}/replay`, (told) =>
    `Letter ${number} is replayed as request ${told.request_id}.`))] : []),
  button("Forget", number, async () => {
    if (await confirmed(`Forget dead letter ${number}? Its item is lost.`, "Forget it")) {
      await act("DELETE", `/dead-letters/${number}`, () => `Letter ${number} is forgotten.`);
    }
  }));

const button = (name, number, onclick) => el("button", { onclick, "aria-label": `${name} letter ${number}` }, name);

async function act(method, path, said) {
  try {
    const response = await call(method, path);
    say(byId("letters-said"), said(await response.json().catch(() => ({}))));
    byId("letter").hidden = true;
    await updateLetters();
  } catch (problem) {
    say(byId("letters-said"), `That did not work: ${problem.message}`);
  }
}

function inspect(number) {
  const letter = letters.find((each) => each.number === number);
  const { message, ...more } = letter.error;
  const text = (value) => el("pre", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2));
  byId("letter").hidden = false;
  say(byId("letter-title"), `Letter ${number}: ${inShort(letter.error)}`);
  facts(byId("letter-facts"), []);
  facts(byId("letter-facts"), [
    ["message", text(message)],
    ...Object.entries(more).map(([name, value]) => [name.replaceAll("_", " "), text(value)]),
  ]);
  byId("letter-title").focus();
}
