// Two photographs, how alike their faces are, and what the recogniser would decide.

import { call } from "./api.js";
import { announce, byId, element, notice } from "./dom.js";
import { drawFaces, showPhoto } from "./faces.js";
import { onChoice, onDrop, prepared } from "./photograph.js";
import { doubtsOf, turned } from "./quality.js";
import { reading } from "./scale.js";

const STRANGERS = { 0.01: "1 pair of strangers in 100", 0.001: "1 pair of strangers in 1,000", 0.0001: "1 pair of strangers in 10,000" };

/** What was done with the photographs and what speaks against them, where there is anything to say. */
function remarks(answer) {
  const said = [["First", answer.reference], ["Second", answer.probe]].flatMap(([which, face]) =>
    [turned(face), ...doubtsOf(face)].filter(Boolean).map((words) => `${which} photograph: ${words}`));
  return said.length ? [element("ul", { class: "quality doubts" }, ...said.map((words) => element("li", {}, words)))] : [];
}

/** The view with two photographs. */
export class Compare {
  /** @param {object} model the answer of /v1/model. */
  constructor(model) {
    this.model = model;
    this.files = {};
    this.photos = {};
    this.pictures = {};
    for (const name of ["reference", "probe"]) {
      onChoice(byId(`${name}-file`), (file) => this.take(name, file));
      onDrop(byId(`${name}-slot`), (file) => this.take(name, file));
    }
  }

  /** A photograph that was pasted goes where there is room. */
  paste(file) {
    return this.take(this.files.reference && !this.files.probe ? "probe" : "reference", file);
  }

  /** The photograph of the other view, as a first one to compare with. */
  offer(photo) {
    if (!this.files.reference && photo) this.take("reference", photo);
  }

  /** Put a photograph into a slot, and compare once both are there. */
  async take(name, file) {
    this.files[name] = file;
    const photo = await prepared(file);
    // To write a picture anew takes its time, and another may have been put there meanwhile.
    if (this.files[name] !== file) return;
    this.photos[name] = photo;
    byId("compare-result").hidden = true;
    notice(byId("compare-notice"), null);
    const picture = element("img", { alt: name === "reference" ? "First photograph" : "Second photograph" });
    const boxes = element("div", {});
    byId(`${name}-slot`).querySelector(".mat").replaceChildren(element("div", { class: "photo" }, picture, boxes));
    if (this.pictures[name]?.picture.src) URL.revokeObjectURL(this.pictures[name].picture.src);
    this.pictures[name] = { picture, boxes };
    if (!await showPhoto(picture, photo)) byId(`${name}-slot`).querySelector(".mat").replaceChildren(
      element("p", { class: "muted empty" }, "This file cannot be shown"));
    if (this.photos[name] === photo && this.photos.reference && this.photos.probe) await this.#compare();
  }

  async #compare() {
    this.request?.abort();
    const request = new AbortController();
    this.request = request;
    const place = byId("compare-result");
    try {
      const answer = await (await call("v1/compare", { form: { ...this.photos }, signal: request.signal })).json();
      if (this.request !== request) return;
      for (const [name, { picture, boxes }] of Object.entries(this.pictures)) drawFaces(boxes, picture, [answer[name]], 0);
      place.replaceChildren(
        reading(answer.similarity, this.model),
        element("ul", { class: "decisions", "aria-label": "Decisions" }, ...answer.verdicts.map(({ fmr, threshold, match }) =>
          element("li", {},
            element("strong", { class: match ? "word inside" : "word" }, match ? "Same person" : "Not the same person"),
            element("span", { class: "muted" }, `if ${STRANGERS[fmr] ?? fmr} may pass (threshold ${threshold.toFixed(2)})`)))),
        ...remarks(answer),
      );
      place.hidden = false;
      announce(`Similarity ${answer.similarity.toFixed(2)}`);
    } catch (error) {
      if (error.name === "AbortError" || this.request !== request) return;
      notice(byId("compare-notice"), error);
    }
  }
}
