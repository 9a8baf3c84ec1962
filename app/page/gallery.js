// Variants as a grid of tiles that fill up as they are made; each opens in the viewer.

import { call, lines } from "./api.js";
import { addressOf, announce, element, notice, save, whileBusy } from "./dom.js";
import { reading, written } from "./scale.js";

const SUFFIX = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp" };

/** The name under which a variant is saved. */
export const fileName = (variant, id) =>
  `lookalike-${id.slice(0, 8)}-${String(variant.index).padStart(4, "0")}.${SUFFIX[variant.media_type] ?? "jpg"}`;

function tile(variant, { title, short }, model, open) {
  const picture = element("img", {
    class: "face", src: addressOf(variant), width: variant.width, height: variant.height,
    alt: `${title}, a synthetic face, similarity ${written(variant.similarity)}`,
  });
  return element("li", { class: "tile" },
    element("button", { type: "button", class: "tile-face", click: open }, picture),
    short ? element("span", { class: "tile-title", "aria-hidden": "true" }, short) : "",
    reading(variant.similarity, model));
}

const ghost = () => element("li", { class: "tile ghost", "aria-hidden": "true" }, element("div", { class: "face" }));

/** A form that makes variants, the grid they come into, and the archive of them. */
export class Gallery {
  /**
   * @param {object} places elements: `grid`, `button` (makes, and cancels while it does), `summary`, `words`, `zip`, `notice`.
   * @param {object} model the answer of /v1/model.
   * @param {object} viewer shows a tile large.
   */
  constructor(places, model, viewer) {
    Object.assign(this, places, { model, viewer, name: places.button.textContent, made: null, request: null });
    this.zip.addEventListener("click", (event) => whileBusy(event.currentTarget, () => this.#save()));
  }

  /** Whether variants are being made. */
  get busy() {
    return this.request !== null;
  }

  /** Stop; what has been made stays. */
  cancel() {
    this.request?.abort();
  }

  /** Forget what was made. */
  clear() {
    this.cancel();
    this.request = null;
    this.made = null;
    this.#idle();
    this.grid.replaceChildren();
    this.summary.hidden = true;
    notice(this.notice, null);
  }

  /**
   * Make variants.
   * @param {number} count how many are asked for.
   * @param {(options: object) => Promise<Response>} ask makes the request; `call`'s options are handed on.
   * @param {(variant: object) => {title: string, short?: string}} caption names a variant.
   * @param {{before: string, use: (control: number[]) => void}} options of the viewer.
   * @returns {Promise<?object>} what was made, with `cancelled`; null where it failed or something newer took its place.
   */
  async make(count, ask, caption, options) {
    this.clear();
    const request = new AbortController();
    this.request = request;
    const made = { id: "", seed: null, variants: [], captions: [], ask, cancelled: false };
    this.made = made;
    this.grid.setAttribute("aria-busy", "true");
    this.button.textContent = "Cancel";
    this.grid.replaceChildren(...Array.from({ length: count }, ghost));
    try {
      const answer = await ask({ accept: "application/x-ndjson", signal: request.signal });
      made.id = answer.headers.get("X-Lookalike-Id") ?? "";
      made.seed = answer.headers.get("X-Lookalike-Seed");
      for await (const variant of lines(answer)) {
        if (this.request !== request) return null;
        this.#add(made, variant, caption(variant), options);
        this.button.textContent = `Cancel (${made.variants.length} of ${count})`;
      }
    } catch (error) {
      if (this.request !== request) return null;
      if (error.name !== "AbortError") notice(this.notice, error);
      else made.cancelled = true;
      if (error.name !== "AbortError" && !made.variants.length) {
        this.#finish();
        return null;
      }
    }
    if (this.request !== request) return null;
    this.#finish();
    return made;
  }

  /** Say in words what came of it. */
  summarise(words) {
    this.words.textContent = words;
    this.summary.hidden = false;
    this.zip.hidden = !this.made.variants.length;
    announce(words);
  }

  #add(made, variant, caption, options) {
    const at = made.variants.push(variant) - 1;
    made.captions.push(caption);
    const open = () => this.viewer.show(made, at, options);
    const place = this.grid.children[at];
    if (place) place.replaceWith(tile(variant, caption, this.model, open));
    else this.grid.append(tile(variant, caption, this.model, open));
  }

  #finish() {
    this.request = null;
    this.#idle();
    for (const left of this.grid.querySelectorAll(".ghost")) left.remove();
  }

  #idle() {
    this.grid.removeAttribute("aria-busy");
    this.button.textContent = this.name;
  }

  async #save() {
    notice(this.notice, null);
    const { made } = this;
    try {
      const answer = await made.ask({ accept: "application/zip", made });
      save(await answer.blob(), `lookalike-${made.id.slice(0, 8)}.zip`);
    } catch (error) {
      notice(this.notice, error);
    }
  }
}

/**
 * Ask for variants of the face at work, in the largest size that there is. The photograph is not sent again: its reference
 * is what they are measured against. Where the service has another model by now, without that size, its sizes are asked for.
 * @param {object} model the answer of /v1/model.
 * @param {{identity: number[], reference: ?string}} subject the face; a random one has no reference.
 * @param {object} parameters of /v1/render.
 * @param {object} options of `call`.
 */
export const askFor = async (model, { identity, reference }, parameters, options = {}) => {
  const ask = () => {
    const size = Math.max(...model.picture_sizes);
    return call("v1/render", { json: { identity, ...(reference && { reference }), ...parameters, size }, ...options });
  };
  try {
    return await ask();
  } catch (error) {
    if (error.type !== "unknown-size") throw error;
    const { picture_sizes: sizes } = await (await call("v1/model", { signal: options.signal })).json();
    model.picture_sizes = sizes;
    return ask();
  }
};

/** Against what similarities are measured, in words. */
export function measuredAgainst({ reference, example }) {
  if (example) return "the example face";
  return reference ? "the photograph" : "the face with all controls at zero";
}
