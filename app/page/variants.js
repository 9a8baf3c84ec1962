// Random look-alikes of the face: count, strength, seed, band search, and the grid.

import { Problem, call } from "./api.js";
import { announce, byId, notice, plural, save, whileBusy } from "./dom.js";
import { fill, tile, waiting } from "./gallery.js";
import { legend, written } from "./scale.js";

/** The form and the grid of look-alikes. */
export class Variants {
  /**
   * @param {object} model the answer of /v1/model.
   * @param {(control: number[]) => void} use moves the sliders to a variant.
   */
  constructor(model, use) {
    this.model = model;
    this.use = use;
    this.subject = null;
    this.made = null;
    byId("legend").replaceChildren(...legend(model));
    const [low, high] = model.lookalike_band;
    byId("band-min").value = low.toFixed(2);
    byId("band-max").value = high.toFixed(2);
    const between = () => { byId("between").hidden = byId("band").value !== "between"; };
    byId("band").addEventListener("change", between);
    between();
    const strength = () => { byId("strength-value").textContent = written(Number(byId("strength").value)); };
    byId("strength").addEventListener("input", strength);
    strength();
    byId("variants-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.make();
    });
    byId("keep-seed").addEventListener("click", () => {
      byId("seed").value = this.made.seed;
      byId("seed").focus();
      announce(`Seed ${this.made.seed} is kept`);
    });
    byId("variants-zip").addEventListener("click", (event) => whileBusy(event.currentTarget, () => this.#zip()));
  }

  /** Take another face, and make look-alikes of it. */
  show(subject) {
    this.subject = subject;
    return this.make();
  }

  #parameters() {
    const parameters = { count: Number(byId("count").value), strength: Number(byId("strength").value) };
    if (byId("seed").value !== "") parameters.seed = Number(byId("seed").value);
    if (byId("band").value === "lookalike") parameters.band = "lookalike";
    if (byId("band").value === "between") {
      const [low, high] = [byId("band-min").value, byId("band-max").value];
      if (low === "" && high === "") throw new Problem("Between what?", "Give a least or a greatest similarity.");
      if (low !== "") parameters.similarity_min = Number(low);
      if (high !== "") parameters.similarity_max = Number(high);
    }
    return parameters;
  }

  #ask(parameters, subject, options) {
    if (!subject.photo) return call("v1/render", { json: { identity: subject.identity, ...parameters }, ...options });
    return call("v1/variants", { form: { image: subject.photo, face: subject.index, ...parameters }, ...options });
  }

  /** Ask for look-alikes with what the form says. */
  async make() {
    if (!this.subject) return;
    this.request?.abort();
    const request = new AbortController();
    this.request = request;
    const { subject } = this;
    const grid = byId("variants");
    notice(byId("variants-notice"), null);
    byId("variants-summary").hidden = true;
    const button = byId("make-variants");
    button.setAttribute("aria-busy", "true");
    try {
      const parameters = this.#parameters();
      waiting(grid, parameters.count);
      const answer = await (await this.#ask(parameters, subject, { signal: request.signal })).json();
      if (this.request !== request) return;
      this.made = { parameters: { ...parameters, seed: answer.seed }, subject, seed: answer.seed, id: answer.id };
      fill(grid, answer.variants.map((variant) => tile(variant, {
        id: answer.id, model: this.model, title: `Look-alike ${variant.index + 1}`, use: this.use,
      })));
      this.#summarise(answer, subject);
    } catch (error) {
      if (error.name === "AbortError" || this.request !== request) return;
      fill(grid, []);
      notice(byId("variants-notice"), error);
    } finally {
      if (this.request === request) button.removeAttribute("aria-busy");
    }
  }

  #summarise({ variants, search, seed }, subject) {
    const against = subject.photo ? "your photograph" : "the face with all controls at zero";
    const words = search
      ? `Found ${search.found} of ${search.wanted} between ${written(search.similarity_min)} and ${written(search.similarity_max)}`
        + ` in ${plural(search.tries, "try", "tries")}`
      : `${plural(variants.length, "look-alike")}, ${variants.filter((variant) => variant.in_band).length} inside the look-alike band`;
    byId("variants-words").textContent = `${words}. Measured against ${against}. Seed ${seed}.`;
    byId("variants-summary").hidden = false;
    byId("variants-zip").hidden = !variants.length;
    if (!variants.length) {
      notice(byId("variants-notice"), {
        title: "Nothing was found inside this band",
        detail: "Widen the band, or try another strength: a lower one stays closer to the face.",
      });
    }
    announce(`${words}.`);
  }

  async #zip() {
    notice(byId("variants-notice"), null);
    try {
      const { parameters, subject, id } = this.made;
      const answer = await this.#ask(parameters, subject, { accept: "application/zip" });
      save(await answer.blob(), `lookalike-${id.slice(0, 8)}.zip`);
    } catch (error) {
      notice(byId("variants-notice"), error);
    }
  }
}
