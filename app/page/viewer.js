// One variant, large: before and after under a curtain, and arrows to its neighbours.

import { addressOf, announce, byId, fileOf, save } from "./dom.js";
import { fileName } from "./gallery.js";
import { reading } from "./scale.js";

const SWIPE = 40; // Pixels that a finger must move sideways to turn the page.

/** The dialog that shows a variant. */
export class Viewer {
  /** @param {object} model the answer of /v1/model. */
  constructor(model) {
    this.model = model;
    this.dialog = byId("viewer");
    byId("viewer-previous").addEventListener("click", () => this.#step(-1));
    byId("viewer-next").addEventListener("click", () => this.#step(1));
    byId("viewer-close").addEventListener("click", () => this.dialog.close());
    byId("viewer-download").addEventListener("click", () => save(fileOf(this.variant), fileName(this.variant, this.made.id)));
    byId("viewer-use").addEventListener("click", () => {
      this.dialog.close();
      this.options.use(this.variant.control);
    });
    byId("curtain").addEventListener("input", () => this.#draw());
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
    let start = null;
    byId("stage").addEventListener("pointerdown", (event) => { start = event.pointerType === "touch" ? event.clientX : null; });
    byId("stage").addEventListener("pointerup", (event) => {
      const moved = start === null ? 0 : event.clientX - start;
      if (Math.abs(moved) > SWIPE) this.#step(moved > 0 ? -1 : 1);
    });
  }

  /** The variant that is shown. */
  get variant() {
    return this.made.variants[this.at];
  }

  /**
   * Show a variant of those that were made.
   * @param {{variants: object[], captions: object[], id: string}} made they, which may still become more.
   * @param {number} at the place of the one.
   * @param {{before: string, use: (control: number[]) => void}} options the face they were made of as an address, and
   *   what moves the sliders.
   */
  show(made, at, options) {
    Object.assign(this, { made, at, options });
    byId("curtain").value = 0;
    this.#fill();
    this.dialog.showModal();
    byId("viewer-next").focus();
  }

  #step(by) {
    const { length } = this.made.variants;
    this.at = (this.at + by + length) % length;
    this.#fill();
    announce(byId("viewer-title").textContent);
  }

  #key(event) {
    // On the curtain the arrows move it.
    if (event.target === byId("curtain")) return;
    const last = this.made.variants.length - 1;
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -this.at, End: last - this.at }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.#step(by);
  }

  #fill() {
    const { variant } = this;
    const { title } = this.made.captions[this.at];
    byId("viewer-title").textContent = title;
    byId("viewer-place").textContent = `${this.at + 1} of ${this.made.variants.length}`;
    byId("viewer-before").src = this.options.before;
    byId("viewer-after").src = addressOf(variant);
    byId("viewer-after").alt = `${title}, a synthetic face`;
    byId("viewer-reading").replaceChildren(reading(variant.similarity, this.model));
    this.#draw();
  }

  #draw() {
    const value = Number(byId("curtain").value);
    byId("viewer-after").style.clipPath = `inset(0 0 0 ${value}%)`;
    byId("curtain").setAttribute("aria-valuetext", value ? `${value} % of the face before` : "the look-alike alone");
  }
}
