// The boxes of the faces on a photograph, one of which is chosen.

import { element } from "./dom.js";

const percent = (part, whole) => `${Math.min(100, Math.max(0, (part / whole) * 100))}%`;

/**
 * Draw boxes over a photograph.
 * @param {HTMLElement} place lies exactly over the picture.
 * @param {HTMLImageElement} picture loaded, as large as the upright photograph.
 * @param {object[]} faces with `box` in its pixels.
 * @param {number} chosen index of the face in use.
 * @param {(index: number) => void} [choose] makes buttons of the boxes, where there are several.
 */
export function drawFaces(place, picture, faces, chosen, choose) {
  const several = Boolean(choose) && faces.length > 1;
  place.replaceChildren(...faces.map(({ box: [left, top, right, bottom] }, index) => {
    const box = several
      ? element("button", {
        type: "button", class: "box", "aria-pressed": String(index === chosen), "aria-label": `Face ${index + 1} of ${faces.length}`,
        click: () => choose(index),
      })
      : element("span", { class: "box chosen" });
    // The detector may see a face go on beyond the edge.
    const [x, y] = [Math.max(0, left), Math.max(0, top)];
    box.style.left = percent(x, picture.naturalWidth);
    box.style.top = percent(y, picture.naturalHeight);
    box.style.width = percent(Math.min(right, picture.naturalWidth) - x, picture.naturalWidth);
    box.style.height = percent(Math.min(bottom, picture.naturalHeight) - y, picture.naturalHeight);
    return box;
  }));
}

/** Show a blob in an <img>, and wait until it can be measured; false if the browser cannot read it. */
export async function showPhoto(picture, blob) {
  const old = picture.src;
  picture.src = URL.createObjectURL(blob);
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  try {
    await picture.decode();
    // The boxes lie over the frame, so the frame must have exactly the shape of the picture.
    const { naturalWidth: width, naturalHeight: height } = picture;
    picture.parentElement.style.aspectRatio = `${width} / ${height}`;
    picture.parentElement.classList.toggle("tall", height > width);
    return true;
  } catch {
    return false;
  }
}
