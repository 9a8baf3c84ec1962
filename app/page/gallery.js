// Variants as a grid of tiles, each with its similarity, its file, and a way to take its controls over.

import { addressOf, element, fileOf, icon, save } from "./dom.js";
import { reading, written } from "./scale.js";

const SUFFIX = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp" };

/** The name under which a variant is saved. */
export const fileName = (variant, id) =>
  `lookalike-${id.slice(0, 8)}-${String(variant.index).padStart(4, "0")}.${SUFFIX[variant.media_type] ?? "jpg"}`;

/**
 * A tile.
 * @param {object} variant as the service answers it.
 * @param {{id: string, model: object, title: string, short?: string, use: (control: number[]) => void}} options
 *   `title` names the tile, `short` is what stands below it.
 */
export function tile(variant, { id, model, title, short = title, use }) {
  const picture = element("img", {
    class: "face", src: addressOf(variant), width: variant.width, height: variant.height,
    alt: `${title}, a synthetic face, similarity ${written(variant.similarity)}`,
  });
  return element("li", { class: "tile" },
    picture,
    element("div", { class: "tile-row" },
      element("span", { class: "tile-title", "aria-hidden": "true" }, short),
      element("button", {
        type: "button", class: "button small", "aria-label": `Move the sliders to ${title}`, title: "Move the sliders here", click: () => use(variant.control),
      }, icon("sliders")),
      element("button", {
        type: "button", class: "button small", "aria-label": `Download ${title}`, title: "Download", click: () => save(fileOf(variant), fileName(variant, id)),
      }, icon("download"))),
    reading(variant.similarity, model));
}

/** Grey tiles while variants are being made. */
export function waiting(grid, count) {
  grid.setAttribute("aria-busy", "true");
  grid.replaceChildren(...Array.from({ length: count }, () =>
    element("li", { class: "tile ghost", "aria-hidden": "true" }, element("div", { class: "face" }))));
}

/** Put tiles where grey ones were. */
export function fill(grid, tiles) {
  grid.removeAttribute("aria-busy");
  grid.replaceChildren(...tiles);
}
