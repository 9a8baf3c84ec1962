// One control walked from end to end.

import { call } from "./api.js";
import { announce, byId, element, notice, plural, save, whileBusy } from "./dom.js";
import { fill, tile, waiting } from "./gallery.js";
import { written } from "./scale.js";

/** The form and the row of a sweep. */
export class Sweep {
  /**
   * @param {object} model the answer of /v1/model.
   * @param {(control: number[]) => void} use moves the sliders to a variant.
   */
  constructor(model, use) {
    this.model = model;
    this.use = use;
    this.subject = null;
    this.made = null;
    byId("sweep-control").replaceChildren(...model.controls.map(({ index, label }) => element("option", { value: index }, label)));
    byId("sweep-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.make();
    });
    byId("sweep-zip").addEventListener("click", (event) => whileBusy(event.currentTarget, () => this.#zip()));
  }

  /** Take another face; a sweep of the old one has nothing to say any more. */
  show(subject) {
    this.request?.abort();
    this.request = null;
    byId("make-sweep").removeAttribute("aria-busy");
    this.subject = subject;
    fill(byId("sweep"), []);
    byId("sweep-summary").hidden = true;
    notice(byId("sweep-notice"), null);
  }

  #ask({ control, steps }, subject, options) {
    if (subject.photo) {
      const { name } = this.model.controls[control];
      return call("v1/sweep", { form: { image: subject.photo, face: subject.index, control: name, steps }, ...options });
    }
    // There is no photograph behind a random identity: the same controls, spelt out.
    const controls = Array.from({ length: steps }, (_, step) =>
      this.model.controls.map(({ index }) => (index === control ? -1 + (2 * step) / (steps - 1) : 0)));
    return call("v1/render", { json: { identity: subject.identity, controls }, ...options });
  }

  /** Ask for the sweep that the form says. */
  async make() {
    if (!this.subject) return;
    this.request?.abort();
    const request = new AbortController();
    this.request = request;
    const { subject } = this;
    const grid = byId("sweep");
    notice(byId("sweep-notice"), null);
    byId("sweep-summary").hidden = true;
    byId("make-sweep").setAttribute("aria-busy", "true");
    try {
      const parameters = { control: Number(byId("sweep-control").value), steps: Number(byId("steps").value) };
      const { label } = this.model.controls[parameters.control];
      waiting(grid, parameters.steps);
      const answer = await (await this.#ask(parameters, subject, { signal: request.signal })).json();
      if (this.request !== request) return;
      this.made = { parameters, subject, id: answer.id };
      fill(grid, answer.variants.map((variant) => tile(variant, {
        id: answer.id, model: this.model, title: `${label} ${written(variant.control[parameters.control])}`,
        short: written(variant.control[parameters.control]), use: this.use,
      })));
      const against = subject.photo ? "your photograph" : "the face with all controls at zero";
      byId("sweep-words").textContent = `${label}, ${plural(answer.variants.length, "step")}. Measured against ${against}.`;
      byId("sweep-summary").hidden = false;
      announce(`Sweep of ${label} is ready`);
    } catch (error) {
      if (error.name === "AbortError" || this.request !== request) return;
      fill(grid, []);
      notice(byId("sweep-notice"), error);
    } finally {
      if (this.request === request) byId("make-sweep").removeAttribute("aria-busy");
    }
  }

  async #zip() {
    try {
      const { parameters, subject, id } = this.made;
      const answer = await this.#ask(parameters, subject, { accept: "application/zip" });
      save(await answer.blob(), `lookalike-sweep-${id.slice(0, 8)}.zip`);
    } catch (error) {
      notice(byId("sweep-notice"), error);
    }
  }
}
