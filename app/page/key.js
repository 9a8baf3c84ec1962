// The dialog that asks for an API key. The key lives in memory only, in api.js.

import { byId } from "./dom.js";

let open = null;

/**
 * Ask for a key; requests that need one at the same time share the dialog.
 * @param {{detail: string}} problem why it is needed.
 * @param {boolean} again whether a key was refused.
 * @returns {Promise<?string>} the key, or null if the person would not give one.
 */
export function askForKey(problem, again) {
  open ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    const field = byId("key");
    byId("key-title").textContent = again ? "This key was not accepted" : "A key is needed";
    byId("key-words").textContent = problem.detail;
    let given = null;
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      given = field.value.trim();
      dialog.close();
    };
    byId("key-cancel").onclick = () => dialog.close();
    dialog.onclose = () => {
      field.value = "";
      open = null;
      resolve(given || null);
    };
    dialog.showModal();
    field.focus();
  });
  return open;
}
