// The service over HTTP: requests, problem details, and the API key where one is asked for.

/** What went wrong, in words for a person. */
export class Problem extends Error {
  constructor(title, detail, { type = "", status = 0, requestId = "" } = {}) {
    super(`${title}: ${detail}`);
    Object.assign(this, { title, detail, type, status, requestId });
  }
}

// The titles of the service speak of HTTP; these say the same about what one sees on the page.
const TITLES = {
  "not-an-image": "This file is not a picture",
  "too-many-bytes": "The file is too large",
  "too-many-pixels": "The picture has too many pixels",
  "bad-request": "The request was not understood",
};

let key = "";
let askForKey = async () => null;

/** Say how to ask the person for a key: a function of the problem that gives a key, or null. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

function problemFrom(told, status, hint) {
  const type = String(told.type ?? "").split(":").pop();
  return new Problem(
    TITLES[type] ?? told.title ?? "The service could not answer",
    told.detail ?? `It answered with status ${status}. ${hint}`,
    { type, status, requestId: told.request_id ?? "" },
  );
}

async function problemOf(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    // Something between the page and the service answered; its status is all there is.
  }
  const wait = response.headers.get("Retry-After");
  return problemFrom(told, response.status, wait ? `Try again in ${wait} s.` : "Try again in a moment.");
}

/**
 * Make a request.
 * @param {string} path relative to the page, so that the service may live below a prefix.
 * @param {{form?: object, json?: object, accept?: string, signal?: AbortSignal}} options what is sent; GET without any.
 * @returns {Promise<Response>} a good answer.
 * @throws {Problem} the service refused or cannot be reached; DOMException "AbortError" after an abort.
 */
export async function call(path, { form, json, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  let body;
  if (form) {
    body = new FormData();
    for (const [name, value] of Object.entries(form)) if (value !== undefined) body.append(name, value);
  } else if (json) {
    body = JSON.stringify(json);
    headers["Content-Type"] = "application/json";
  }
  for (;;) {
    const used = key;
    if (used) headers.Authorization = `Bearer ${used}`;
    let response;
    try {
      response = await fetch(path, {
        method: body === undefined ? "GET" : "POST", headers, body, signal, cache: "no-store", credentials: "same-origin",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The service cannot be reached", "Check the connection, then try again.");
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (response.status !== 401) throw problem;
    // Another request may have been given a key while this one was under way.
    if (key === used) {
      const given = await askForKey(problem, Boolean(used));
      if (given === null) throw problem;
      key = given;
    }
  }
}

/**
 * The lines of an answer in NDJSON, as they come.
 * @param {Response} response of a request that accepts `application/x-ndjson`.
 * @throws {Problem} the service gave up on the way, which it tells in its last line; or the connection broke.
 */
export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The connection broke", "Check it, then try again.");
    }
    if (part.done) return;
    const whole = (rest + part.value).split("\n");
    rest = whole.pop();
    for (const line of whole) {
      const value = JSON.parse(line);
      if (value.problem) throw problemFrom(value.problem, value.problem.status, "Try again in a moment.");
      yield value;
    }
  }
}
