// Which cards are live, and in which notebook of the page.

import assert from "node:assert/strict";
import test from "node:test";
import { place, rule } from "../../nbcompose/_notebook/graph/static/src/cards.js";

/** A page of JupyterLab. @param {Record<string, string | null>} panels the titles of their tabs, by id; null: no tab */
function page(panels) {
  return /** @type {any} */ ({
    querySelectorAll: () => Object.keys(panels).map((id) => ({ id })),
    querySelector(/** @type {string} */ selector) {
      const title = panels[selector.slice('[data-id="'.length, -2)];
      return title === null ? null : { getAttribute: () => title };
    },
  });
}

/** @param {string} [path] */
const model = (path) => /** @type {any} */ ({ widget_manager: { context: { path } } });

test("it is the notebook of the kernel in JupyterLab", () => {
  const lab = page({
    "id-a": "Name: a.ipynb\nPath: a.ipynb",
    "id-b": "Name: a.ipynb\nPath: b/a.ipynb",
    "id-c": "Path: b/a.ipynb",
  });
  assert.equal(place(model("b/a.ipynb"), lab), '[id="id-b"], [id="id-c"]');
  assert.equal(place(model("gone.ipynb"), lab), "");
});

test("it is the page where that shows one notebook, or does not say", () => {
  assert.equal(place(model("a.ipynb"), page({})), ":root");
  assert.equal(place(model("a.ipynb"), page({ "id-a": null })), ":root");
  assert.equal(place(model(), page({ "id-a": "Path: a.ipynb" })), ":root");
  assert.equal(place(/** @type {any} */ ({}), page({})), ":root");
});

test("a live card gets its color, and loses the words", () => {
  assert.equal(
    rule({ "--nbc-1": "red", "--nbc-2": "blue" }, ":root"),
    ":root{--nbc-1:red;--nbc-1-saved:none;--nbc-2:blue;--nbc-2-saved:none}",
  );
  assert.equal(rule({}, ":root"), "");
  assert.equal(rule({ "--nbc-1": "red" }, ""), "");
});
