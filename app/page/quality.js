// What was measured of a photograph, in words: whether it was turned, what speaks against it, and the figures.

import { element } from "./dom.js";

const degrees = (value) => `${Math.abs(value).toFixed(0)}°`;

function figures({ head_pose_yaw: yaw, head_pose_roll: roll, inter_eye_distance: eyes, sharpness, face_likeness: likeness, fidelity }) {
  const rows = [
    ["Head turned to the side", degrees(yaw), "by the key points; more than 35° is a doubt"],
    ["Head inclined", degrees(roll), "more than 45° lies on its side"],
    ["Between the eyes", `${eyes.toFixed(0)} pixels`, "details are made up below 32"],
    ["Sharpness", sharpness.toFixed(2), "blurred below 0.06"],
  ];
  if (likeness !== null) rows.push(["Likeness to a face", likeness.toFixed(1), "log-odds; below 0.5 it is refused"]);
  if (fidelity !== null) rows.push(["Redrawing", fidelity.toFixed(2), "how alike the recogniser finds the most faithful one"]);
  return rows;
}

/** Whether a face's photograph was turned, in words; "" where it was not. */
export const turned = ({ rotation }) => (rotation ? `Turned upright by ${rotation} degrees.` : "");

/** The sentences on what speaks against a photograph. */
export const doubtsOf = ({ face_quality: quality }) => quality.doubts.map(({ detail }) => detail);

/**
 * What is shown below a photograph.
 * @param {object} face of an answer, with `rotation` and `face_quality`.
 * @returns {Node[]} what was done and what is doubted in sight, the figures folded.
 */
export function qualityOf(face) {
  const [done, doubts] = [turned(face), doubtsOf(face)];
  const shown = [];
  if (done) shown.push(element("p", { class: "done" }, done));
  if (doubts.length) {
    shown.push(element("p", {}, "Look-alikes may be unlike the photograph:"),
      element("ul", { class: "doubts" }, ...doubts.map((doubt) => element("li", {}, doubt))));
  }
  shown.push(element("details", {},
    element("summary", {}, doubts.length ? "What was measured" : "Nothing speaks against this photograph"),
    element("dl", { class: "figures" }, ...figures(face.face_quality).flatMap(([name, value, meaning]) => [
      element("dt", {}, name), element("dd", {}, element("b", {}, value), " ", element("span", { class: "muted" }, meaning)),
    ]))));
  return shown;
}
