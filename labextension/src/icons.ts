// Signs of states: a shape each, and a colour by the theme (style/base.css).

import { LabIcon } from "@jupyterlab/ui-components";
import type { Look } from "./words.ts";

const SHAPES: Record<Look, string> = {
  ready: '<circle cx="8" cy="8" r="4.5"/>',
  starting: '<path d="M8 2.5A5.5 5.5 0 1 1 2.5 8h2A3.5 3.5 0 1 0 8 4.5z"/>',
  waiting: '<path d="M4 2h8v2.2L9.3 8l2.7 3.8V14H4v-2.2L6.7 8 4 4.2z"/>',
  failed: '<path d="M8 2l6.5 12h-13zM7.2 6.5v3.4h1.6V6.5zm0 4.6v1.6h1.6v-1.6z" fill-rule="evenodd"/>',
  stopped: '<rect x="4" y="4" width="8" height="8"/>',
  stale: '<path d="M8 2.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zm0 1.6a3.9 3.9 0 0 1 0 7.8z" fill-rule="evenodd"/>',
  behind: '<circle cx="8" cy="8" r="4.5"/><path d="M12 1l3.5 6h-7z"/>',
};

const svg = (body: string) => `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 16 16">${body}</svg>`;

const colored = (name: string, body: string) =>
  new LabIcon({ name: `nbcompose:${name}`, svgstr: svg(`<g class="nbc-sign nbc-sign-${name}">${body}</g>`) });

export const stateIcons = Object.fromEntries(
  Object.entries(SHAPES).map(([look, body]) => [look, colored(look, body)]),
) as Record<Look, LabIcon>;

/** Two services and the call between them. */
const GRAPH = '<path d="M1 2h6v4H1zM9 10h6v4H9zM3.4 6h1.4v5.3H7V9.8L8.8 12 7 14.2v-1.5H3.4z"/>';

export const graphIcon = new LabIcon({
  name: "nbcompose:graph",
  svgstr: svg(`<g class="jp-icon3" fill="#616161">${GRAPH}</g>`),
});

/** The same where only an address of a picture is taken, which no theme reaches: a grey that is seen on light and dark. */
export const graphIconUrl = `data:image/svg+xml,${encodeURIComponent(svg(`<g fill="#7c8794">${GRAPH}</g>`))}`;

const PIN = '<path d="M5.5 1.5h5v1.2l-.8.6v3.9l2.3 2v1.3H8.7V15h-1.4v-4.5H4V9.2l2.3-2V3.3l-.8-.6z"/>';

export const pinIcon = new LabIcon({
  name: "nbcompose:pin",
  svgstr: svg(`<g class="jp-icon3" fill="#616161">${PIN}</g>`),
});
