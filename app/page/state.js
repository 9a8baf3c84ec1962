// What the page shows, as its address says it: after the #, so that it never leaves the browser. A photograph, or what was
// read from one, is not part of it; a person who does not exist is, by a number.

/** The views of the page; the address names one, "#compare". */
export const VIEWS = ["make", "compare", "origin"];

let values = new URLSearchParams();
let view = VIEWS[0];

/** Read the address; gives the view it names, or null for a fragment that means a place within the view. */
export function readAddress() {
  const [name, query = ""] = location.hash.slice(1).split("?");
  if (name && !VIEWS.includes(name)) return null;
  view = name || VIEWS[0];
  if (query) values = new URLSearchParams(query);
  else write();
  return view;
}

/** A value of the address as text, or null. */
export const remembered = (name) => values.get(name);

/** A number of the address within bounds, or null. */
export function rememberedNumber(name, low, high) {
  const text = values.get(name);
  const number = Number(text);
  return text?.trim() && number >= low && number <= high ? number : null;
}

/** Have the address say something; null, undefined and "" take it out. */
export function remember(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") values.delete(name);
    else values.set(name, value);
  }
  write();
}

function write() {
  const query = values.toString().replaceAll("%2C", ",");
  const fragment = query ? `#${view}?${query}` : `#${view}`;
  // The start of the page stays the bare address.
  history.replaceState(null, "", fragment === `#${VIEWS[0]}` ? location.pathname + location.search : fragment);
}
