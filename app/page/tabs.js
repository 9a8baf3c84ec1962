// Panels of which one is shown, as the ARIA authoring practices describe tabs: arrows move, and what is reached is shown.

import { byId } from "./dom.js";

/**
 * Make tabs of a list of buttons, each with `aria-controls`.
 * @param {HTMLElement} list with role "tablist".
 * @param {(name: string) => void} shown is told which panel is open, by the button's `data-panel`.
 * @returns {(name: string) => void} opens a panel.
 */
export function tabs(list, shown) {
  const buttons = [...list.querySelectorAll("[role=tab]")];
  const open = (name) => {
    const chosen = buttons.find((button) => button.dataset.panel === name) ?? buttons[0];
    for (const button of buttons) {
      button.setAttribute("aria-selected", String(button === chosen));
      button.tabIndex = button === chosen ? 0 : -1;
      byId(button.getAttribute("aria-controls")).hidden = button !== chosen;
    }
    shown(chosen.dataset.panel);
    return chosen;
  };
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(event.target);
    const to = { Home: 0, End: buttons.length - 1 }[event.key] ?? (at + steps[event.key] + buttons.length) % buttons.length;
    if (at < 0 || Number.isNaN(to)) return;
    event.preventDefault();
    open(buttons[to].dataset.panel).focus();
  });
  for (const button of buttons) button.addEventListener("click", () => open(button.dataset.panel));
  return open;
}
