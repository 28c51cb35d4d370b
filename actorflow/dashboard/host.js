// Every word with the host goes through here: the token, limits of time, problem documents, streams of replies.

const TOKEN = "actorflow-token";
const LOOK_MS = 5000; // a look that takes longer counts as no answer

/** What went wrong, with the host's problem document; status 0 means that nobody answered. */
export class Problem extends Error {
  constructor(status, told) {
    super(told.detail ?? told.message ?? told.title ?? `status ${status}`);
    this.status = status;
    this.kind = told.title ?? told.type ?? "";
  }
}

export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);

/** Return the response to a request. Throws a Problem, or an AbortError when `signal` gave it up. */
export async function call(method, path, { headers = {}, ...rest } = {}) {
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers = { ...headers, Authorization: `Bearer ${token}` };
  let response;
  try {
    response = await fetch(path, { method, headers, cache: "no-store", ...rest });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "the host does not answer" });
  }
  if (response.ok) return response;
  throw new Problem(response.status, await response.json().catch(() => ({ detail: response.statusText })));
}

/** Return what a path tells, as a value. */
export async function look(path) {
  const response = await call("GET", path, { signal: AbortSignal.timeout(LOOK_MS) });
  return response.json().catch(() => {
    throw new Problem(0, { detail: "the host went away while it answered" });
  });
}

/** Yield the server-sent events of a response: `{event, data, id}`, data still as text. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = block.split("\n").map((line) => line.split(/: ?(.*)/s, 2));
        yield Object.fromEntries(fields);
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading has said why already
  }
}
