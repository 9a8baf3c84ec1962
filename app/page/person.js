// People who do not exist, by number: the same number is the same person for as long as the model stays the same.

/** A number that names a person. */
export const anyPerson = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** Mulberry32 (Ettinger 2017): evenly spread numbers in (0, 1] from a 32-bit seed. */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 1) / 2 ** 32;
  };
}

/**
 * The identity of a person: normal numbers, as the model's identities are (Box and Muller 1958).
 * @param {number} seed 0 to 2^32 - 1.
 * @param {number} size how many numbers.
 */
export function identityOf(seed, size) {
  const uniform = generator(seed);
  return Array.from({ length: size }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}
