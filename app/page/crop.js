// The face of a photograph in the frame that faces are drawn in, so that before and after lie on each other.

/** Right eye, left eye (the person's), nose tip and mouth centre in the face frame, in units of its side. */
const FRAME = [[0.298, 0.2825], [0.702, 0.2825], [0.5, 0.548], [0.5, 0.7325]];
const NAMES = ["right_eye", "left_eye", "nose_tip", "mouth_centre"];

const mean = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);

/** Rotation, scale and shift that best map points onto points (Umeyama 1991), as a canvas takes it: [a, b, c, d, e, f]. */
export function similarityTransform(source, target) {
  const [[sx, sy], [tx, ty]] = [mean(source), mean(target)];
  let [real, imaginary, spread] = [0, 0, 0];
  source.forEach(([x, y], index) => {
    const [u, v] = [x - sx, y - sy];
    const [s, t] = [target[index][0] - tx, target[index][1] - ty];
    real += u * s + v * t;
    imaginary += u * t - v * s;
    spread += u * u + v * v;
  });
  const [a, b] = [real / spread, imaginary / spread];
  return [a, b, -b, a, tx - a * sx + b * sy, ty - b * sx - a * sy];
}

/**
 * Cut a face out of a photograph.
 * @param {HTMLImageElement} picture loaded, as large as the upright photograph.
 * @param {object} landmarks of the face, in its pixels.
 * @param {number} size side of the square in pixels.
 * @returns {string} an address that an <img> takes.
 */
export function faceFrame(picture, landmarks, size = 384) {
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const context = canvas.getContext("2d");
  const frame = FRAME.map((point) => point.map((value) => value * size));
  context.imageSmoothingQuality = "high";
  context.setTransform(...similarityTransform(NAMES.map((name) => landmarks[name]), frame));
  context.drawImage(picture, 0, 0);
  return canvas.toDataURL("image/jpeg", 0.92);
}
