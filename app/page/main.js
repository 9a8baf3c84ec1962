// The page at /: where a face comes from, and who is told about it. Faces live in the variables below and nowhere else.

import { Problem, call, onKeyNeeded } from "./api.js";
import { Compare } from "./compare.js";
import { Controls } from "./controls.js";
import { faceFrame } from "./crop.js";
import { announce, byId, notice, plural, whileBusy } from "./dom.js";
import { drawFaces, showPhoto } from "./faces.js";
import { askForKey } from "./key.js";
import { Origin } from "./origin.js";
import { anyPerson, identityOf } from "./person.js";
import { fileIn, fromCamera, fromClipboard, hasCamera, hasClipboard, onChoice, onDrop, prepared } from "./photograph.js";
import { doubtsOf, qualityOf, turned } from "./quality.js";
import { VIEWS, readAddress, remember, remembered, rememberedNumber } from "./state.js";
import { Sweep } from "./sweep.js";
import { tabs } from "./tabs.js";
import { Variants } from "./variants.js";
import { Viewer } from "./viewer.js";

const PANEL = "variants";

/** The face at work: its identity, and where there is one the photograph, and its reference. */
let subject = null;
let parts = null;
let intake = null;

let view = VIEWS[0];

/** Photographs that are pasted or dropped anywhere belong to the view that is open. */
const takers = {
  make: (file) => takePhoto(file), compare: (file) => parts.compare.paste(file), origin: (file) => parts.origin.take(file),
};

function showView(focus) {
  const asked = readAddress();
  // Other fragments, as that of the link that skips the header, lead to places within the view that is open.
  if (!asked) return;
  view = asked;
  for (const name of VIEWS) byId(`${name}-view`).hidden = name !== view;
  for (const link of document.querySelectorAll(".view-link")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view === "compare") parts?.compare.offer(subject?.photo);
  if (focus) {
    window.scrollTo(0, 0);
    byId(`${view}-title`).focus({ preventScroll: true });
  }
}

/** Let every part of the page work on a face; `recall` when it is the one that the address names. */
async function work(next, recall = false) {
  subject = next;
  document.body.classList.add("has-face");
  byId("workspace").hidden = false;
  byId("photo-figure").hidden = !next.photo;
  byId("photo-quality").replaceChildren(...(next.face ? qualityOf(next.face) : []));
  byId("live-caption").textContent = next.person === undefined ? "Redrawn" : `Random face ${next.person}`;
  remember({ person: next.person, example: next.example });
  parts.sweep.show(next);
  // One after the other: the face that is looked at first is drawn first.
  await parts.controls.show(next, recall);
  if (subject === next) await parts.variants.show(next);
}

/** Begin with something new, which makes what is still under way for the old one void. */
function begin() {
  intake?.abort();
  intake = new AbortController();
  notice(byId("source-notice"), null);
  byId("drop").setAttribute("aria-busy", "true");
  return intake;
}

function end(mine, error) {
  if (intake !== mine) return;
  byId("drop").removeAttribute("aria-busy");
  if (error && error.name !== "AbortError") notice(byId("source-notice"), error);
}

/** What stands below the photograph, where it has one face. */
const captionOf = (example) => (example ? "Nobody: an example" : "Your photograph");

async function takePhoto(file, { example, recall = false } = {}) {
  if (!parts) return;
  const mine = begin();
  try {
    const photo = await prepared(file);
    const { faces } = await (await call("v1/identities", { form: { image: photo, face: "all" }, signal: mine.signal })).json();
    const picture = byId("photo-image");
    await showPhoto(picture, photo);
    if (intake !== mine) return;
    const choose = (index) => {
      const kept = byId("boxes").contains(document.activeElement);
      drawFaces(byId("boxes"), picture, faces, index, choose);
      if (kept) byId("boxes").children[index].focus();
      const { identity, reference, landmarks, grey } = faces[index];
      const whose = faces.length > 1 ? `${faces.length} faces: choose one` : captionOf(example);
      byId("photo-caption").textContent = grey ? `${whose}, without colour` : whose;
      work({ photo, face: faces[index], identity, reference, example, before: faceFrame(picture, landmarks) }, recall);
    };
    choose(0);
    const found = faces.length > 1 ? `${plural(faces.length, "face")} found; the largest is chosen` : "One face found";
    announce([`${found}.`, turned(faces[0]), ...doubtsOf(faces[0])].filter(Boolean).join(" "));
    end(mine);
  } catch (error) {
    end(mine, error);
  }
}

async function takePerson(person, recall = false) {
  if (!parts) return;
  const mine = begin();
  announce("A random face is drawn");
  await work({ photo: null, identity: identityOf(person, parts.model.identity_size), person }, recall);
  end(mine);
}

async function takeExample(example, recall = false) {
  if (!parts) return;
  const { src } = byId("examples").querySelector(`[data-example="${example}"] img`);
  const mine = begin();
  let file = null;
  try {
    const answer = await fetch(src, { cache: "force-cache", credentials: "same-origin", signal: mine.signal });
    if (answer.ok) file = await answer.blob();
  } catch {
    // Said below, as is an answer that holds no picture.
  }
  if (intake !== mine) return;
  if (file) await takePhoto(file, { example, recall });
  else end(mine, new Problem("The example cannot be fetched", "Check the connection, then try again."));
}

async function takeFromCamera() {
  if (!hasCamera()) {
    byId("camera-file").click();
    return;
  }
  notice(byId("source-notice"), null);
  try {
    const photo = await fromCamera();
    if (photo) await takePhoto(photo);
  } catch (error) {
    const refused = error.name === "NotAllowedError";
    notice(byId("source-notice"), new Problem(
      refused ? "The camera may not be used" : "There is no camera",
      refused ? "Allow it for this page in the browser, or choose a photograph." : "Choose a photograph instead.",
    ));
  }
}

async function takeFromClipboard(take, place) {
  notice(place, null);
  try {
    const picture = await fromClipboard();
    if (picture) await take(picture);
    else notice(place, new Problem("There is no picture on the clipboard", "Copy one, then paste again."));
  } catch {
    notice(place, new Problem(
      "The clipboard may not be read", "Allow it for this page in the browser, or paste with the keyboard."));
  }
}

function listen() {
  const take = (file) => parts && takers[view](file);
  onChoice(byId("photo-file"), takePhoto);
  onChoice(byId("camera-file"), takePhoto);
  onDrop(document.body, take);
  byId("random").addEventListener("click", (event) => whileBusy(event.currentTarget, () => takePerson(anyPerson())));
  byId("camera").addEventListener("click", takeFromCamera);
  for (const [button, place, owner] of [["paste", "source-notice", "make"], ["origin-paste", "origin-notice", "origin"]]) {
    byId(button).hidden = !hasClipboard();
    byId(button).addEventListener("click", () => parts && takeFromClipboard(takers[owner], byId(place)));
  }
  for (const button of byId("examples").querySelectorAll("button")) {
    button.addEventListener("click", () => whileBusy(button, () => takeExample(button.dataset.example)));
  }
  document.addEventListener("paste", (event) => {
    const file = fileIn(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    take(file);
  });
  window.addEventListener("hashchange", () => showView(true));
}

/** A name of the manifest as people write it: "face_width" is "Face width". */
function inWords(name) {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function build(model) {
  for (const control of model.controls) control.label = inWords(control.name);
  const openPanel = tabs(byId("tabs"), (name) => {
    byId("workspace").dataset.panel = name;
    remember({ panel: name === PANEL ? null : name });
  });
  const use = (control) => {
    openPanel("controls");
    parts.controls.set(control);
    byId("tab-controls").focus({ preventScroll: true });
    byId("workspace").scrollIntoView({ block: "start", behavior: "smooth" });
    announce("The sliders are moved");
  };
  const viewer = new Viewer(model);
  parts = {
    model, controls: new Controls(model), variants: new Variants(model, viewer, use), sweep: new Sweep(model, viewer, use),
    compare: new Compare(model), origin: new Origin(),
  };
  openPanel(remembered("panel") ?? PANEL);
  byId("model-line").textContent = `Model ${model.name} ${model.version} of ${model.created}, running on the ${model.device === "cuda" ? "GPU" : "CPU"}.`;
}

/** Begin with the face that the address names, where it names one. */
function recall() {
  const [person, example] = [rememberedNumber("person", 0, 2 ** 32 - 1), rememberedNumber("example", 1, 6)];
  if (person !== null) takePerson(Math.floor(person), true);
  else if (example !== null) takeExample(Math.floor(example), true);
}

async function start() {
  onKeyNeeded(askForKey);
  listen();
  showView(false);
  try {
    build(await (await call("v1/model")).json());
    document.body.dataset.ready = "";
    recall();
  } catch (error) {
    notice(byId("source-notice"), error);
  }
}

start();
