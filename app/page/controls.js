// The ten sliders, and the face that is redrawn while they move.

import { call } from "./api.js";
import { addressOf, byId, element, fileOf, notice, save } from "./dom.js";
import { reading, written } from "./scale.js";

const PAUSE = 90; // Milliseconds without a movement before the face is redrawn.

/** The sliders of a model's controls, and the live picture. */
export class Controls {
  /** @param {object} model the answer of /v1/model. */
  constructor(model) {
    this.model = model;
    this.identity = null;
    this.variant = null;
    this.sliders = model.controls.map((control) => this.#slider(control));
    byId("sliders").replaceChildren(...this.sliders.map(({ row }) => row));
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("controls").addEventListener("reset", (event) => {
      event.preventDefault();
      this.set(model.controls.map(() => 0));
    });
    byId("shuffle").addEventListener("click", () => this.set(model.controls.map(() => Math.round((Math.random() * 2 - 1) * 100) / 100)));
    byId("live-download").addEventListener("click", () => {
      if (this.variant) save(fileOf(this.variant), "lookalike.jpg");
    });
  }

  /** The ten numbers, each in [-1, 1]. */
  get values() {
    return this.sliders.map(({ input }) => Number(input.value));
  }

  /** Move all sliders, and redraw. */
  set(values) {
    this.sliders.forEach(({ input, show }, index) => {
      input.value = values[index];
      show();
    });
    return this.redraw();
  }

  /** Take another identity, with the sliders at zero. */
  show(identity) {
    this.identity = identity;
    return this.set(this.sliders.map(() => 0));
  }

  #slider({ index, label, effect }) {
    const input = element("input", {
      type: "range", id: `control-${index}`, min: -1, max: 1, step: 0.01, value: 0, "aria-describedby": `effect-${index}`,
    });
    const output = element("output", { for: input.id });
    const show = () => {
      output.textContent = written(Number(input.value));
      input.setAttribute("aria-valuetext", output.textContent);
    };
    const explain = () => { byId("effect").textContent = `${label}: ${effect}`; };
    input.addEventListener("input", () => {
      show();
      explain();
      this.#soon();
    });
    input.addEventListener("focus", explain);
    input.addEventListener("keydown", (event) => {
      // Arrows and Page Up and Down are the browser's; Delete goes back to the middle.
      if (event.key === "Delete" || event.key === "Backspace") {
        event.preventDefault();
        input.value = 0;
        input.dispatchEvent(new Event("input"));
      }
    });
    input.addEventListener("dblclick", () => {
      input.value = 0;
      input.dispatchEvent(new Event("input"));
    });
    show();
    const row = element("div", { class: "slider" },
      element("label", { for: input.id }, label), output, input, element("span", { class: "hearing", id: `effect-${index}` }, effect));
    return { row, input, show };
  }

  #soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.redraw(), PAUSE);
  }

  /** Redraw the face; a newer request takes the place of an older one. */
  async redraw() {
    clearTimeout(this.timer);
    this.request?.abort();
    if (!this.identity) return;
    const request = new AbortController();
    this.request = request;
    const picture = byId("live-image");
    picture.setAttribute("aria-busy", "true");
    try {
      const json = { identity: this.identity, controls: [this.values] };
      const answer = await (await call("v1/render", { json, signal: request.signal })).json();
      if (this.request !== request) return;
      [this.variant] = answer.variants;
      picture.src = addressOf(this.variant);
      const still = this.values.every((value) => value === 0);
      picture.alt = still ? "The face redrawn, all controls at zero" : "The face redrawn with its controls moved";
      byId("live-reading").replaceChildren(
        reading(this.variant.similarity, this.model),
        element("p", { class: "muted" }, "against the face with all controls at zero"),
      );
      notice(byId("live-notice"), null);
    } catch (error) {
      if (error.name === "AbortError") return;
      notice(byId("live-notice"), error);
    } finally {
      if (this.request === request) picture.removeAttribute("aria-busy");
    }
  }
}
