// One control walked from end to end.

import { byId, element, plural } from "./dom.js";
import { Gallery, askFor, measuredAgainst } from "./gallery.js";
import { written } from "./scale.js";
import { remember, remembered, rememberedNumber } from "./state.js";

/** The form and the row of a sweep. */
export class Sweep {
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
      grid: byId("sweep"), button: byId("make-sweep"), summary: byId("sweep-summary"),
      words: byId("sweep-words"), zip: byId("sweep-zip"), notice: byId("sweep-notice"),
    }, model, viewer);
    byId("sweep-control").replaceChildren(...model.controls.map(({ index, label }) => element("option", { value: index }, label)));
    const named = model.controls.find(({ name }) => name === remembered("sweep"));
    if (named) byId("sweep-control").value = named.index;
    byId("steps").value = rememberedNumber("steps", 2, 64) ?? byId("steps").value;
    byId("sweep-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.gallery.busy && document.activeElement === byId("make-sweep")) this.gallery.cancel();
      else this.make();
    });
  }

  /** Take another face; a sweep of the old one has nothing to say any more. */
  show(subject) {
    this.subject = subject;
    this.gallery.clear();
  }

  #controls({ control, steps }) {
    return Array.from({ length: steps }, (_, step) =>
      this.model.controls.map(({ index }) => (index === control ? -1 + (2 * step) / (steps - 1) : 0)));
  }

  /** Ask for the sweep that the form says. */
  async make() {
    if (!this.subject) return;
    const { subject } = this;
    const parameters = { control: Number(byId("sweep-control").value), steps: Number(byId("steps").value) };
    const { label, name, low, high } = this.model.controls[parameters.control];
    remember({ sweep: name, steps: parameters.steps === 9 ? null : parameters.steps });
    const controls = this.#controls(parameters);
    const ask = ({ made, ...options }) =>
      askFor(this.model, subject, { controls: made ? made.variants.map(({ control }) => control) : controls }, options);
    const caption = ({ control }) => {
      const value = written(control[parameters.control]);
      return { title: `${label} ${value}`, short: value };
    };
    const made = await this.gallery.make(parameters.steps, ask, caption, { before: subject.before, use: this.use });
    if (made) {
      this.gallery.summarise(`${label}${low && high ? `, from ${low} to ${high}` : ""}, ${plural(made.variants.length, "step")}${made.cancelled ? ", then cancelled" : ""}.`
        + ` Measured against ${measuredAgainst(subject)}.`);
    }
  }
}
