// Small helpers for the document. No markup is ever made of text, so nothing that a server says can become a script.

/** The element with an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Build an element.
 * @param {string} tag its name.
 * @param {object} attributes attributes; functions become listeners of the event they are named after.
 * @param {...(Node|string)} children what it holds.
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** An icon of the sprite in index.html, hidden from screen readers. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const made = document.createElementNS(space, "svg");
  made.setAttribute("class", "icon");
  made.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  made.append(use);
  return made;
}

/** Have a screen reader say something without moving the focus. */
export function announce(words) {
  const status = byId("status");
  status.textContent = "";
  // The same words twice are two events only if there is a moment between them.
  setTimeout(() => { status.textContent = words; }, 60);
}

/** Show a problem in its place on the page, or hide it with null. */
export function notice(place, problem) {
  place.replaceChildren();
  place.hidden = !problem;
  if (!problem) return;
  // Details stand on their own, and so may begin with what the title says.
  const said = `${problem.title}. `;
  const detail = problem.detail.startsWith(said) ? problem.detail.slice(said.length) : problem.detail;
  place.append(element("strong", {}, problem.title), element("span", {}, detail));
  if (problem.requestId) place.append(element("small", {}, `Request ${problem.requestId}`));
}

/** Hand a file to the person as a download. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A variant's image file. */
export function fileOf(variant) {
  const bytes = Uint8Array.from(atob(variant.image), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: variant.media_type });
}

/** A variant's image as an address that an <img> takes. */
export const addressOf = (variant) => `data:${variant.media_type};base64,${variant.image}`;

/** Mark a button as at work while something goes on; its name stays. */
export async function whileBusy(button, work) {
  button.setAttribute("aria-busy", "true");
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** "1 face", "2 faces". */
export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
