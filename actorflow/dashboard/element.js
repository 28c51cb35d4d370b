// Elements: made, filled and kept. Whatever the host says goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export const el = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, tag), attributes, children);

/** Put a text into a node unless it is there: screen readers repeat what is put again, and selections are lost. */
export function say(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

/** Make the children of a node those of `items`. A child of the same key stays the same, with its focus. */
export function keep(parent, items, key, make, update = () => {}) {
  const keys = new Set(items.map((item) => String(key(item))));
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  for (const [name, child] of before) if (!keys.has(name)) child.remove();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    const child = before.get(name) ?? make(item);
    child.dataset.key = name;
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
}

/** Keep the rows of a table. `values` returns texts, and functions that make what is made once, such as buttons. */
export function rows(body, items, key, values) {
  keep(body, items, key, () => el("tr"), (row, item) =>
    values(item).forEach((value, column) => {
      const cell = row.cells[column] ?? row.appendChild(column ? el("td") : el("th", { scope: "row" }));
      if (typeof value !== "function") say(cell, value);
      else if (!cell.hasChildNodes()) cell.append(...[value()].flat());
    }));
}

/** Keep a list of terms: pairs of a term and a text; those without a text are left out. */
export function facts(list, pairs) {
  const known = pairs.filter(([, text]) => text != null && text !== "");
  keep(list, known, ([term]) => term, ([term]) => el("div", {}, el("dt", {}, term), el("dd")),
    (row, [, value]) => {
      if (!(value instanceof Node)) say(row.lastChild, value);
      else if (row.lastChild.firstChild !== value) row.lastChild.replaceChildren(value);
    });
}

/** Ask a question that has consequences; true when the answer is yes. */
export function confirmed(question, yes) {
  const dialog = byId("confirm");
  say(byId("question"), question);
  say(byId("yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
