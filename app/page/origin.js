// Where a picture comes from: every layer that may say it, what they come to, and what that does not prove.

import { call } from "./api.js";
import { announce, byId, element, notice } from "./dom.js";
import { showPhoto } from "./faces.js";
import { onChoice, prepared } from "./photograph.js";

const NO_PROOF = "No mark is no proof of a photograph: marks can be removed, and other models leave others or none.";
const VERDICTS = {
  "drawn-by-this-model": "Drawn by this model",
  "drawn-by-another-installation": "Drawn by another installation",
  "no-mark-found": "No mark was found",
};

/** A rate as people say it: "1 in 1,000,000". */
const rate = (share) => (share > 0 ? `1 in ${Math.round(1 / share).toLocaleString("en")}` : "none");

const drawnBy = (system, version) => [system, version].filter(Boolean).join(" ") || "a model";

/** The scores of marks, the least and the greatest. */
function scores(marks) {
  const [low, high] = [Math.min, Math.max].map((which) => which(...marks.map(({ score }) => score)).toFixed(1));
  return low === high ? low : `${low} to ${high}`;
}

function pixels({ present, score, threshold, false_alarm_rate: alarms, marks }) {
  const chance = `at most ${rate(alarms)} pictures without a mark reach that by chance`;
  if (!present) {
    return { found: false, word: "None found", lines: [`Score ${score.toFixed(1)}; a mark counts from ${threshold.toFixed(1)} on: ${chance}.`] };
  }
  const alike = Map.groupBy(marks, ({ version, installation, ours, mirrored }) =>
    `Version ${version || "without a number"} of the model, ${installation ? `installation ${installation}` : "an installation without a number"}`
    + `${ours ? ", as here" : ""}${mirrored ? "; mirrored" : ""}`);
  const lines = [...alike].map(([words, those]) => `${words}; score ${scores(those)}.`);
  return { found: true, word: marks.length > 1 ? `${marks.length} marks` : "Found", lines: [...lines, `A mark counts from ${threshold.toFixed(1)} on: ${chance}.`] };
}

function credentials({ state, why, generator, version, when, signer }) {
  const said = `Made by ${drawnBy(generator, version)}${when ? ` at ${when}` : ""}, signed by ${signer || "somebody without a name"}`;
  return {
    absent: () => ({ found: false, word: "None", lines: ["The file carries no signed manifest."] }),
    "not-checked": () => ({ found: false, word: "Not looked at", lines: why.length ? why : ["This service cannot read them."] }),
    trusted: () => ({ found: true, word: "Valid", lines: [`${said}, whom this service trusts.`] }),
    valid: () => ({ found: true, word: "Valid", lines: [`${said}, whom this service does not know.`] }),
    invalid: () => ({ found: false, word: "Invalid", bad: true, lines: ["Somebody changed the picture after it was signed, or the manifest is another's.", ...why] }),
  }[state]();
}

function metadata({ present, system, version, digital_source_type: type, software, document: answer }) {
  if (!present) {
    return { found: false, word: "Say nothing of it", lines: [software ? `Written by ${software}.` : "Most programs and networks remove them when they save."] };
  }
  const kind = type.split("/").pop();
  return { found: true, word: "Say it was drawn", lines: [
    `By ${drawnBy(system, version)}${kind ? ` (${kind})` : ""}${answer ? `, answer ${answer}` : ""}.`, "Anybody can write them, and remove them."] };
}

const layer = (name, { found, word, lines, bad }) => element("li", {},
  element("h3", {}, name),
  element("strong", { class: bad ? "word wrong" : found ? "word inside" : "word" }, word),
  ...lines.map((line) => element("p", { class: "muted" }, line)));

/** The frames in which marks were found, over the picture. */
function outlines({ width, height, layers }) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  for (const [name, value] of Object.entries({ class: "frames", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" })) {
    drawing.setAttribute(name, value);
  }
  for (const { frame } of layers.pixels.marks) {
    for (const kind of ["under", "over"]) {
      const outline = document.createElementNS(space, "polygon");
      outline.setAttribute("points", frame.map((point) => point.join(",")).join(" "));
      outline.setAttribute("class", kind);
      drawing.append(outline);
    }
  }
  return drawing;
}

/** The view that reads marks of origin. */
export class Origin {
  constructor() {
    onChoice(byId("origin-file"), (file) => this.take(file));
  }

  /** Look at a picture. */
  async take(file) {
    this.request?.abort();
    const request = new AbortController();
    this.request = request;
    notice(byId("origin-notice"), null);
    byId("origin-result").hidden = true;
    byId("origin-drop").setAttribute("aria-busy", "true");
    try {
      // As it is where the service reads it: whatever the browser writes anew has lost its metadata.
      const picture = await prepared(file, "image/png");
      const answer = await (await call("v1/detect", { form: { image: picture }, signal: request.signal })).json();
      if (this.request === request) await this.#show(answer, picture, picture !== file);
    } catch (error) {
      if (error.name !== "AbortError" && this.request === request) notice(byId("origin-notice"), error);
    }
    if (this.request === request) byId("origin-drop").removeAttribute("aria-busy");
  }

  async #show(answer, picture, anew) {
    const { verdict, statement, layers } = answer;
    const image = byId("origin-image");
    byId("origin-frames").replaceChildren(outlines(answer));
    await showPhoto(image, picture);
    byId("origin-verdict").textContent = VERDICTS[verdict];
    byId("origin-verdict").classList.toggle("inside", verdict !== "no-mark-found");
    byId("origin-statement").textContent = verdict === "no-mark-found" && !layers.metadata.present ? "" : statement;
    byId("origin-no-proof").textContent = NO_PROOF;
    byId("origin-anew").hidden = !anew;
    byId("origin-layers").replaceChildren(
      layer("Mark in the pixels", pixels(layers.pixels)),
      layer("Content credentials (C2PA)", credentials(layers.credentials)),
      layer("Metadata of the file", metadata(layers.metadata)));
    byId("origin-result").hidden = false;
    byId("origin-result").scrollIntoView({ block: "nearest" });
    announce(`${VERDICTS[verdict]}. ${NO_PROOF}`);
  }
}
