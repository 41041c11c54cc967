// The graph on the whole screen, by the browser's Fullscreen API.

import { button, h } from "../../../../_replica/http/static/elements.js";

/**
 * The button for it. `app` stands at the end of the page meanwhile: the notebook may draw its output anew, and what is
 * taken out of the page leaves the full screen. `back` puts it where it belongs.
 *
 * @param {HTMLElement} app
 * @param {() => void} back
 */
export function fullSize(app, back) {
  const screen = h("div.nbc-screen");
  const attributes = { title: "on the whole screen (Escape: back)", "aria-pressed": "false" };
  const turn = button("full size", () => (screen.isConnected ? document.exitFullscreen() : enter()), attributes);
  turn.hidden = !document.fullscreenEnabled; // in some frames

  async function enter() {
    screen.append(app);
    document.body.append(screen);
    turn.setAttribute("aria-pressed", "true");
    try {
      await screen.requestFullscreen();
      turn.focus();
    } catch {
      leave();
    }
  }

  function leave() {
    if (!screen.isConnected) return;
    back();
    screen.remove();
    turn.setAttribute("aria-pressed", "false");
    turn.focus();
  }

  screen.addEventListener("fullscreenchange", () => {
    if (document.fullscreenElement !== screen) leave();
  });
  return {
    button: turn,
    isOn: () => screen.isConnected,
    close() {
      if (document.fullscreenElement === screen) document.exitFullscreen();
      screen.remove();
    },
  };
}
