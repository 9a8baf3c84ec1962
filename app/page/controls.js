// The sliders, and the face that is redrawn while they move.

import { addressOf, announce, byId, element, fileOf, notice, save } from "./dom.js";
import { askFor, measuredAgainst } from "./gallery.js";
import { reading, written } from "./scale.js";
import { remember, remembered } from "./state.js";

const PAUSE = 30; // Milliseconds between two requests while a slider moves.

/** The sliders of a model's controls, and the live picture. */
export class Controls {
  /** @param {object} model the answer of /v1/model. */
  constructor(model) {
    this.model = model;
    this.subject = null;
    this.variant = null;
    this.still = null;
    this.shown = null;
    this.drawing = null;
    this.sliders = model.controls.map((control) => this.#slider(control));
    byId("sliders").replaceChildren(...this.sliders.map(({ row }) => row));
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("controls").addEventListener("reset", (event) => {
      event.preventDefault();
      this.set(model.controls.map(() => 0));
    });
    byId("shuffle").addEventListener("click", () => this.set(model.controls.map(() => Math.round((Math.random() * 2 - 1) * 100) / 100)));
    byId("before").addEventListener("click", () => this.#compare(byId("before").getAttribute("aria-pressed") !== "true"));
    byId("live-download").addEventListener("click", () => {
      if (this.shown) save(fileOf(this.shown), "lookalike.jpg");
    });
  }

  /** The numbers, each in [-1, 1]. */
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

  /**
   * Take another face, with the sliders at zero or where the address says.
   * @param {object} subject the face; `before` is set to its plain redrawing where there is no photograph.
   * @param {boolean} recall whether the address is heeded.
   */
  async show(subject, recall = false) {
    this.subject = subject;
    const zero = this.sliders.map(() => 0);
    const told = recall ? (remembered("controls") ?? "").split(",").map(Number) : [];
    const usable = told.length === zero.length && told.every((value) => value >= -1 && value <= 1);
    this.variant = null;
    this.still = null;
    this.shown = null;
    await this.set(zero);
    if (this.subject !== subject) return;
    this.still = this.variant;
    if (this.still) subject.before ??= addressOf(this.still);
    if (usable) await this.set(told);
  }

  #slider({ index, label, effect, low, high }) {
    const id = `control-${index}`;
    const ends = low && high ? [low, high] : null;
    const input = element("input", { type: "range", id, min: -1, max: 1, step: 0.01, value: 0 });
    const output = element("output", { for: id });
    const show = () => {
      const value = Number(input.value);
      output.textContent = written(value);
      const towards = ends && value ? `, ${value < 0 ? ends[0] : ends[1]}` : "";
      input.setAttribute("aria-valuetext", output.textContent + towards);
    };
    const change = () => {
      show();
      this.redraw();
    };
    const centre = () => {
      input.value = 0;
      change();
    };
    input.addEventListener("input", change);
    input.addEventListener("dblclick", centre);
    input.addEventListener("keydown", (event) => {
      // Arrows and Page Up and Down are the browser's; Delete goes back to the middle.
      if (event.key !== "Delete" && event.key !== "Backspace") return;
      event.preventDefault();
      centre();
    });
    show();
    const [left, right] = ends ?? ["−", "+"];
    const row = element("div", { class: "slider" },
      element("label", { for: id }, label), effect ? about(index, label, effect) : "", output,
      element("span", { class: "slider-line" },
        element("span", { class: "end", "aria-hidden": "true" }, left), input, element("span", { class: "end", "aria-hidden": "true" }, right)));
    if (effect) row.append(element("p", { class: "muted effect", id: `effect-${index}`, hidden: true }, effect));
    return { row, input, show };
  }

  /** Show the face with all controls at zero in place of what they make of it, or no longer. */
  #compare(before) {
    const shown = before && this.still ? this.still : this.variant;
    if (!shown) return;
    this.#put(shown);
    byId("before").setAttribute("aria-pressed", String(shown === this.still && before));
    announce(before ? "Before: all controls at zero" : "After: the controls as they are");
  }

  /**
   * Redraw the face. One request at a time: what moves while it is under way is drawn next, and only as it is then, so
   * the picture follows the hand as fast as the service draws.
   */
  redraw() {
    this.stale = true;
    this.drawing ??= this.#drawAll().finally(() => { this.drawing = null; });
    return this.drawing;
  }

  async #drawAll() {
    const picture = byId("live-image");
    picture.setAttribute("aria-busy", "true");
    while (this.stale && this.subject) {
      this.stale = false;
      const { subject, values } = this;
      try {
        const answer = await (await askFor(this.model, subject, { controls: [values] })).json();
        if (this.subject !== subject) continue;
        this.#draw(answer.variants[0], values);
      } catch (error) {
        if (this.subject === subject) notice(byId("live-notice"), error);
      }
      if (this.stale) await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
    }
    picture.removeAttribute("aria-busy");
    const { values } = this;
    remember({ controls: values.some(Boolean) ? values.join(",") : null });
  }

  #draw(variant, values) {
    this.variant = variant;
    const still = values.every((value) => value === 0);
    this.#put(variant);
    byId("live-image").alt = still ? "The face redrawn, all controls at zero" : "The face redrawn with its controls moved";
    byId("before").setAttribute("aria-pressed", "false");
    byId("before").hidden = still;
    notice(byId("live-notice"), null);
  }

  /** Show a picture and its similarity: the number is always that of the face above it. */
  #put(shown) {
    this.shown = shown;
    byId("live-image").src = addressOf(shown);
    byId("live-reading").replaceChildren(
      reading(shown.similarity, this.model), element("p", { class: "muted" }, `against ${measuredAgainst(this.subject)}`));
  }
}

/** The (i) of a control: what moving it was measured to do. */
function about(index, label, effect) {
  const button = element("button", {
    type: "button", class: "about", "aria-expanded": "false", "aria-controls": `effect-${index}`, "aria-label": `About ${label}`,
    title: effect, click: () => {
      const place = byId(`effect-${index}`);
      place.hidden = !place.hidden;
      button.setAttribute("aria-expanded", String(!place.hidden));
    },
  }, "i");
  return button;
}
