// Photographs as a person hands them over: files, drops, pastes, the camera.

import { byId } from "./dom.js";

const TAKEN = ["image/jpeg", "image/png", "image/webp"];

/**
 * A file in a form that the service takes. Pictures of other kinds that the browser can read become JPEG, or what `kind`
 * says; anything else stays as it is, and the service says what is wrong with it.
 */
export async function prepared(file, kind = "image/jpeg") {
  if (TAKEN.includes(file.type) || !file.type.startsWith("image/")) return file;
  try {
    const picture = await createImageBitmap(file);
    return await written(picture, picture.width, picture.height, kind);
  } catch {
    return file;
  }
}

function written(picture, width, height, kind = "image/jpeg") {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0, width, height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), kind, 0.95);
  });
}

/** The first file of a drop or a paste; undefined where there is none. */
export const fileIn = (transfer) => transfer?.files?.[0];

/** Whether a button can ask for what is on the clipboard; pasting by key or menu needs no button. */
export const hasClipboard = () => Boolean(navigator.clipboard?.read);

/**
 * The picture on the clipboard.
 * @returns {Promise<?Blob>} it, or null where there is none.
 * @throws {DOMException} the person or the browser does not let the page see it.
 */
export async function fromClipboard() {
  for (const item of await navigator.clipboard.read()) {
    const type = item.types.find((name) => name.startsWith("image/"));
    if (type) return item.getType(type);
  }
  return null;
}

/** Take files that are dropped on an element; `take` gets each. */
export function onDrop(place, take) {
  let depth = 0;
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  const shown = () => place.classList.toggle("over", depth > 0);
  place.addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth += 1;
    shown();
  });
  place.addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
  place.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    shown();
  });
  place.addEventListener("drop", (event) => {
    depth = 0;
    shown();
    const file = fileIn(event.dataTransfer);
    if (!file) return;
    event.preventDefault();
    event.stopPropagation();
    take(file);
  });
}

/** Take the file that a file input is given, also the same one twice. */
export function onChoice(input, take) {
  input.addEventListener("change", () => {
    const [file] = input.files;
    input.value = "";
    if (file) take(file);
  });
}

/**
 * Take a photograph with the camera.
 * @returns {Promise<?Blob>} it, or null if the person thought better of it.
 * @throws {DOMException} there is no camera, or it may not be used.
 */
export async function fromCamera() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } });
  const dialog = byId("camera-dialog");
  const video = byId("camera-video");
  video.srcObject = stream;
  return new Promise((resolve) => {
    let photo = Promise.resolve(null);
    byId("camera-take").onclick = () => {
      // The size is known before there is a picture, and what is drawn until then is nothing.
      if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
      photo = written(video, video.videoWidth, video.videoHeight);
      dialog.close();
    };
    byId("camera-cancel").onclick = () => dialog.close();
    dialog.onclose = async () => {
      const taken = await photo.catch(() => null);
      for (const part of stream.getTracks()) part.stop();
      video.srcObject = null;
      resolve(taken);
    };
    dialog.showModal();
    byId("camera-take").focus();
  });
}

/** Whether the browser lets a page see the camera; elsewhere a phone's file input can open it. */
export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);
