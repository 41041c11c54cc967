import assert from "node:assert/strict";
import { test } from "node:test";
import { streamSources } from "../../nbcompose/_notebook/graph/static/src/producers.js";

/** @import { State } from "../../nbcompose/_notebook/graph/static/src/messages.d.ts" */

const WRITE = { service: "Writer", api: "write" };

function setUp() {
  /** @type {any[]} */
  const sent = [];
  const apis = [
    { name: "write", stream: true },
    { name: "count", stream: false },
  ];
  /** @type {any} */
  const state = { services: [{ name: "Writer", serving: 1, apis, dependencies: ["Other", "http://far:1"] }] };
  const sources = streamSources({ state: () => /** @type {State} */ (state), send: (message) => sent.push(message) });
  /** @param {any} more */
  const form = (more = {}) => ({
    type: "form",
    ...WRITE,
    signature: "write()",
    schema: {},
    parts: {},
    params: [],
    ...more,
  });
  return { sent, state, sources, form };
}

test("the apis that yield, and where others are", () => {
  const { sources } = setUp();
  assert.deepEqual(sources.list(), [WRITE]);
  assert.deepEqual(sources.elsewhere(), ["http://far:1"]);
});

test("a form is asked for once, and once more when another version serves", () => {
  const { sent, state, sources, form } = setUp();
  assert.equal(sources.form(WRITE), null);
  assert.equal(sources.form(WRITE), null);
  assert.equal(sent.length, 1);
  assert.equal(sources.hear(form({ id: "1" })), true);
  const first = sources.form(WRITE);
  assert.equal(sources.told(WRITE)?.signature, "write()");
  state.services[0].serving = 2;
  assert.equal(sources.form(WRITE), first); // until the other has come
  assert.equal(sent.length, 2);
  assert.equal(sources.hear(form({ id: "2" })), false); // it is the same
  assert.equal(sources.form(WRITE), first);
  state.services = []; // it is stopped: what was filled in stays
  assert.equal(sources.form(WRITE), first);
  assert.equal(sent.length, 2);
});

test("what is wrong is told, until the service runs", () => {
  const { sent, state, sources, form } = setUp();
  const { services } = state;
  state.services = [];
  assert.equal(sources.form(WRITE), null);
  /** @type {any} */
  const failed = { type: "failed", action: "form", ...WRITE, message: "no service is called 'Writer'" };
  assert.equal(sources.hear(failed), true);
  assert.equal(sources.form(WRITE), failed.message);
  assert.equal(sources.told(WRITE), null);
  state.services = services;
  sources.form(WRITE);
  assert.equal(sent.length, 2);
  assert.equal(sources.hear(form()), true);
  assert.equal(sources.hear({ ...failed, service: "Other" }), false);
  assert.equal(typeof sources.form(WRITE), "object");
});
