// The small scale on which every similarity is shown: the look-alike band, the thresholds, and a marker.

import { element } from "./dom.js";

const RATES = [["fmr_1e-2", "1 in 100"], ["fmr_1e-3", "1 in 1,000"], ["fmr_1e-4", "1 in 10,000"]];

/** A similarity as it is written: two decimals, a true minus sign. */
export const written = (value) => value.toFixed(2).replace("-", "−");

/** What a similarity means next to the model's look-alike band. */
export function meaning(value, [low, high]) {
  if (value < low) return "less alike";
  return value > high ? "very close" : "look-alike";
}

/** The thresholds that a similarity reaches, in words. */
function reached(value, thresholds) {
  const passed = RATES.filter(([name]) => value >= thresholds[name]);
  if (!passed.length) return "below every threshold";
  return `passes at a false match rate of ${passed.at(-1)[1]}`;
}

const place = (value) => `${Math.min(1, Math.max(0, value)) * 100}%`;

/** The scale alone, from 0 to 1; what is below lies at its left end. */
function track(model, value) {
  const [low, high] = model.lookalike_band;
  const band = element("span", { class: "band" });
  band.style.left = place(low);
  band.style.width = `calc(${place(high)} - ${place(low)})`;
  const ticks = RATES.map(([name]) => {
    const tick = element("span", { class: "tick" });
    tick.style.left = place(model.thresholds[name]);
    return tick;
  });
  const parts = [band, ...ticks];
  if (value !== undefined) {
    const inside = meaning(value, model.lookalike_band) === "look-alike";
    const marker = element("span", { class: inside ? "marker inside" : "marker" });
    marker.style.left = place(value);
    parts.push(marker);
  }
  return element("div", { class: "track", "aria-hidden": "true" }, ...parts);
}

/**
 * A similarity, written and on the scale.
 * @param {number} value cosine, -1..1.
 * @param {object} model the answer of /v1/model.
 */
export function reading(value, model) {
  const word = meaning(value, model.lookalike_band);
  return element(
    "div",
    { class: "reading-row", role: "img", "aria-label": `Similarity ${written(value)}, ${word}, ${reached(value, model.thresholds)}` },
    element("div", { class: "reading-words", "aria-hidden": "true" },
      element("b", {}, written(value)), element("span", { class: word === "look-alike" ? "word inside" : "word" }, word)),
    track(model, value),
  );
}

/** What the scale shows, explained once. */
export function legend(model) {
  const [low, high] = model.lookalike_band;
  const ticks = RATES.map(([name, rate]) => `${written(model.thresholds[name])} (${rate})`).join(", ");
  return [
    track(model),
    element("p", {},
      "Similarity runs from 0 to 1. The ", element("span", { class: "key" }, "shaded band"),
      ` is that of look-alikes, ${written(low)} to ${written(high)}: above it are pairs as alike as two photographs of one`,
      ` person usually are. The ticks are the recogniser's thresholds, by how many pairs of strangers pass: ${ticks}.`),
  ];
}
