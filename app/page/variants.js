// Random look-alikes of the face: count, strength, seed, and the search of a band.

import { announce, byId, notice, plural } from "./dom.js";
import { Gallery, askFor, measuredAgainst } from "./gallery.js";
import { legend, written } from "./scale.js";
import { remember, remembered, rememberedNumber } from "./state.js";

const FIELDS = { count: [1, 64], strength: [0, 1], seed: [0, 2 ** 32 - 1], "band-min": [-1, 1], "band-max": [-1, 1] };
const BANDS = ["lookalike", "between"];

/** The form and the grid of look-alikes. */
export class Variants {
  /**
   * @param {object} model the answer of /v1/model.
   * @param {object} viewer shows a tile large.
   * @param {(control: number[]) => void} use moves the sliders to a variant.
   */
  constructor(model, viewer, use) {
    this.model = model;
    this.use = use;
    this.subject = null;
    this.gallery = new Gallery({
      grid: byId("variants"), button: byId("make-variants"), summary: byId("variants-summary"),
      words: byId("variants-words"), zip: byId("variants-zip"), notice: byId("variants-notice"),
    }, model, viewer);
    byId("legend").replaceChildren(...legend(model));
    const [low, high] = model.lookalike_band;
    byId("band-min").value = low.toFixed(2);
    byId("band-max").value = high.toFixed(2);
    this.#recall();
    byId("band").addEventListener("change", () => this.#show());
    byId("strength").addEventListener("input", () => this.#show());
    byId("variants-form").addEventListener("submit", (event) => {
      event.preventDefault();
      // The button stops what it began; Enter in a field begins anew.
      if (this.gallery.busy && document.activeElement === byId("make-variants")) this.gallery.cancel();
      else this.make();
    });
    byId("keep-seed").addEventListener("click", () => {
      byId("seed").value = this.gallery.made.seed;
      byId("more").open = true;
      remember({ seed: this.gallery.made.seed });
      announce(`Seed ${this.gallery.made.seed} is kept`);
    });
  }

  /** Take another face, and make look-alikes of it. */
  show(subject) {
    this.subject = subject;
    return this.make();
  }

  #show() {
    byId("between").hidden = byId("band").value !== "between";
    byId("strength-value").textContent = written(Number(byId("strength").value));
  }

  #recall() {
    for (const [name, [low, high]] of Object.entries(FIELDS)) {
      const value = rememberedNumber(name, low, high);
      if (value !== null) byId(name).value = value;
    }
    if (BANDS.includes(remembered("band"))) byId("band").value = remembered("band");
    byId("more").open = ["strength", "seed", "band"].some((name) => remembered(name) !== null);
    this.#show();
  }

  #parameters() {
    const parameters = { count: Number(byId("count").value), strength: Number(byId("strength").value) };
    if (byId("seed").value !== "") parameters.seed = Number(byId("seed").value);
    const band = byId("band").value;
    if (band === "lookalike") parameters.band = "lookalike";
    if (band === "between") {
      const [low, high] = [byId("band-min").value, byId("band-max").value];
      if (low !== "") parameters.similarity_min = Number(low);
      if (high !== "") parameters.similarity_max = Number(high);
    }
    remember({
      count: parameters.count === 12 ? null : parameters.count,
      strength: parameters.strength === 1 ? null : parameters.strength,
      seed: parameters.seed,
      band,
      "band-min": parameters.similarity_min,
      "band-max": parameters.similarity_max,
    });
    return parameters;
  }

  /** Ask for look-alikes with what the form says. */
  async make() {
    if (!this.subject || !byId("variants-form").reportValidity()) return;
    const { subject } = this;
    const parameters = this.#parameters();
    const ask = ({ made, ...options }) => askFor(this.model, subject, made ? again(made, parameters) : parameters, options);
    const caption = ({ index }) => ({ title: `Look-alike ${index + 1}` });
    const made = await this.gallery.make(parameters.count, ask, caption, { before: subject.before, use: this.use });
    if (made) this.#summarise(made, parameters, subject);
  }

  #summarise({ variants, seed, cancelled }, parameters, subject) {
    const searched = parameters.band !== undefined || byId("band").value === "between";
    const inside = variants.filter((variant) => variant.in_band).length;
    const words = searched
      ? `Found ${variants.length} of ${parameters.count} inside the band`
      : `${plural(variants.length, "look-alike")}, ${inside} inside the band`;
    byId("keep-seed").hidden = seed === null;
    this.gallery.summarise(`${words}${cancelled ? ", then cancelled" : ""}. Measured against ${measuredAgainst(subject)}.`
      + (seed === null ? "" : ` Seed ${seed}.`));
    if (!variants.length && !cancelled) {
      notice(byId("variants-notice"), {
        title: "Nothing was found inside this band",
        detail: "Widen the band, or try another strength: a lower one stays closer to the face.",
      });
    }
  }
}

/** The parameters that make the same again: by the seed, or one by one where not all of it was made. */
function again({ seed, variants, cancelled }, parameters) {
  if (cancelled || seed === null) return { controls: variants.map(({ control }) => control) };
  return { ...parameters, seed: Number(seed) };
}
