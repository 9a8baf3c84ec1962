// The page at /: where a face comes from, and who is told about it. Faces live in the variables below and nowhere else.

import { Problem, call, onKeyNeeded } from "./api.js";
import { Compare } from "./compare.js";
import { Controls } from "./controls.js";
import { announce, byId, notice, plural, whileBusy } from "./dom.js";
import { drawFaces, showPhoto } from "./faces.js";
import { askForKey } from "./key.js";
import { fileIn, fromCamera, hasCamera, onChoice, onDrop, prepared } from "./photograph.js";
import { Sweep } from "./sweep.js";
import { Variants } from "./variants.js";

const VIEWS = ["make", "compare"];

/** The face at work: its identity, and the photograph and the index of the face in it where there is one. */
let subject = null;
let parts = null;
let intake = null;

let open = "make";

const view = () => open;

function showView(focus) {
  const asked = location.hash.slice(1) || "make";
  // Other fragments, as that of the link that skips the header, lead to places within the view that is open.
  if (!VIEWS.includes(asked)) return;
  open = asked;
  for (const name of VIEWS) byId(`${name}-view`).hidden = name !== view();
  for (const link of document.querySelectorAll(".view-link")) {
    if (link.hash === `#${view()}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view() === "compare") parts?.compare.offer(subject?.photo);
  if (focus) {
    window.scrollTo(0, 0);
    byId(`${view()}-title`).focus({ preventScroll: true });
  }
}

/** Let every part of the page work on a face. */
function work(next) {
  subject = next;
  document.body.classList.add("has-face");
  byId("workspace").hidden = false;
  byId("photo-figure").hidden = !next.photo;
  byId("live-caption").textContent = next.photo ? "Redrawn" : "Random identity";
  parts.sweep.show(next);
  // One after the other: the face that is looked at first is drawn first.
  return parts.controls.show(next.identity).then(() => subject === next && parts.variants.show(next));
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

async function takePhoto(file) {
  if (!parts) return;
  const mine = begin();
  try {
    const photo = await prepared(file);
    const { faces } = await (await call("v1/identities", { form: { image: photo, face: "all" }, signal: mine.signal })).json();
    await showPhoto(byId("photo-image"), photo);
    if (intake !== mine) return;
    const choose = (index) => {
      const kept = byId("boxes").contains(document.activeElement);
      drawFaces(byId("boxes"), byId("photo-image"), faces, index, choose);
      if (kept) byId("boxes").children[index].focus();
      work({ photo, index: faces[index].index, identity: faces[index].identity });
    };
    byId("photo-caption").textContent = faces.length > 1 ? `${faces.length} faces: choose one` : "Your photograph";
    choose(0);
    announce(faces.length > 1 ? `${plural(faces.length, "face")} found; the largest is chosen` : "One face found");
    end(mine);
  } catch (error) {
    end(mine, error);
  }
}

/** Seventy normal numbers: the distribution that the model's identities follow. */
function randomIdentity(size) {
  const uniform = () => (crypto.getRandomValues(new Uint32Array(1))[0] + 1) / 2 ** 32;
  return Array.from({ length: size }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

async function takeRandom() {
  if (!parts) return;
  const mine = begin();
  announce("A random identity is drawn");
  await work({ photo: null, index: null, identity: randomIdentity(parts.model.identity_size) });
  end(mine);
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

/** Photographs that are pasted or dropped anywhere belong to the view that is open. */
function takeAnywhere(file) {
  if (view() === "compare") parts?.compare.paste(file);
  else takePhoto(file);
}

function listen() {
  onChoice(byId("photo-file"), takePhoto);
  onChoice(byId("camera-file"), takePhoto);
  onDrop(document.body, takeAnywhere);
  byId("random").addEventListener("click", (event) => whileBusy(event.currentTarget, takeRandom));
  byId("camera").addEventListener("click", takeFromCamera);
  document.addEventListener("paste", (event) => {
    const file = fileIn(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    takeAnywhere(file);
  });
  window.addEventListener("hashchange", () => showView(true));
}

async function start() {
  onKeyNeeded(askForKey);
  listen();
  showView(false);
  try {
    const model = await (await call("v1/model")).json();
    for (const control of model.controls) control.label = control.name.charAt(0).toUpperCase() + control.name.slice(1);
    const use = (control) => {
      parts.controls.set(control);
      byId("controls").scrollIntoView({ block: "nearest", behavior: "smooth" });
      announce("The sliders are moved");
    };
    parts = {
      model, controls: new Controls(model), variants: new Variants(model, use), sweep: new Sweep(model, use), compare: new Compare(model),
    };
    byId("model-line").textContent = `Model ${model.name} ${model.version} of ${model.created}, running on the ${model.device === "cuda" ? "GPU" : "CPU"}.`;
    document.body.dataset.ready = "";
  } catch (error) {
    notice(byId("source-notice"), error);
  }
}

start();
