import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { link } from "../../nbcompose/_notebook/graph/static/src/link.js";

/** @import { Message, Request } from "../../nbcompose/_notebook/graph/static/src/messages.d.ts" */
/** @import { Heard, Model } from "../../nbcompose/_notebook/graph/static/src/types.d.ts" */

const STATE = { version: 1, services: [], edges: [], svg: "" };
const VIEW = /** @type {Element} */ ({});
const [CALL, CANCEL] = /** @type {Request[]} */ ([
  { type: "call", id: "1", service: "A", api: "ask", arguments: {} },
  { type: "cancel", id: "1" },
]);

/** A widget's model, of which `sent` is what the kernel got. */
class FakeModel {
  /** @type {Request[]} */
  sent = [];
  /** @type {Map<string, (message?: any) => void>} */
  listeners = new Map();
  get = /** @type {Model["get"]} */ (
    (/** @type {string} */ name) => ({ state: STATE, svg: "<svg/>", empty: "none runs", last: {} })[name] ?? "element"
  );

  /** @param {Request} message */
  send(message) {
    this.sent.push(message);
  }

  /** @param {string} event @param {(message: any) => void} listener */
  on(event, listener) {
    this.listeners.set(event, listener);
  }

  /** @param {string} event @param {(message: any) => void} listener */
  off(event, listener) {
    if (this.listeners.get(event) === listener) this.listeners.delete(event);
  }

  /** @param {string} event @param {Message} [message] */
  fire(event, message) {
    this.listeners.get(event)?.(message);
  }

  /** @param {Message} message */
  hear(message) {
    this.fire("msg:custom", message);
  }
}

/** The page, which somebody sees or not. */
class FakePage extends EventTarget {
  hidden = false;

  /** @param {boolean} hidden */
  become(hidden) {
    this.hidden = hidden;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

function opened() {
  const [model, page] = [new FakeModel(), new FakePage()];
  const kernel = link(model, /** @type {Document} */ (/** @type {unknown} */ (page)));
  /** @type {Heard[]} */
  const heard = [];
  const deaf = kernel.listen((message) => heard.push(message));
  return { model, page, kernel, heard, deaf };
}

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
});

test("what is sent reaches the kernel, and what it says the listeners", () => {
  const { model, kernel, heard, deaf } = opened();
  kernel.send(CALL);
  assert.deepEqual(model.sent, [CALL]);
  model.hear({ type: "begun", id: "1" });
  model.fire("change:state");
  assert.deepEqual(heard, [{ type: "begun", id: "1" }, { type: "state" }]);
  assert.deepEqual(kernel.state(), { ...STATE, svg: "<svg/>" }); // the two come apart
  deaf();
  model.hear({ type: "begun", id: "1" });
  assert.equal(heard.length, 2);
});

test("a picture that alone has changed is told, too", () => {
  const { model, kernel, heard } = opened();
  model.fire("change:svg");
  assert.deepEqual(heard, [{ type: "state" }]);
  kernel.close();
  assert.equal(model.listeners.size, 0);
});

test("a request without an id gets one of its own", () => {
  const { model, kernel } = opened();
  kernel.send({ type: "traces" });
  kernel.send({ type: "traces" });
  const [first, second] = model.sent.map((message) => message.id);
  assert.match(first ?? "", /./);
  assert.notEqual(first, second);
});

test("a kernel that does not answer is busy, until it does", () => {
  const { model, kernel, heard } = opened();
  kernel.send(CALL);
  mock.timers.tick(799);
  assert.equal(kernel.condition(), "");
  mock.timers.tick(1);
  assert.equal(kernel.condition(), "busy");
  model.hear({ type: "here", id: "2" });
  assert.equal(kernel.condition(), "");
  assert.deepEqual(heard, [{ type: "link" }, { type: "link" }, { type: "here", id: "2" }]);
});

test("an answer in time says that it is not busy, whatever is asked meanwhile", () => {
  const { model, kernel, heard } = opened();
  kernel.send(CALL);
  mock.timers.tick(700);
  kernel.send({ type: "traces" });
  model.hear({ type: "begun", id: "1" });
  mock.timers.tick(10_000);
  assert.equal(kernel.condition(), "");
  assert.deepEqual(heard, [{ type: "begun", id: "1" }]);
});

/** @type {Message[]} what may be the first that the kernel says of a call */
const FIRST = [
  { type: "begun", id: "1" },
  { type: "item", id: "1", n: 0, bundle: {} },
  { type: "result", id: "1", seconds: 0, bundle: {} },
  { type: "end", id: "1", seconds: 0 },
  { type: "cancelled", id: "1", seconds: 0 },
  { type: "failed", id: "1", action: "call", seconds: 0, name: "E", message: "", traceback: "", problems: [] },
];
for (const message of FIRST) {
  test(`a kernel that says "${message.type}" is not busy`, () => {
    const { model, kernel } = opened();
    kernel.send(CALL);
    if (message.type === "cancelled") kernel.send(CANCEL);
    model.hear(message);
    mock.timers.tick(10_000);
    assert.equal(kernel.condition(), "");
  });
}

test("what is answered when it has ended does not make the kernel busy", () => {
  const { kernel } = opened();
  kernel.send(CANCEL);
  for (const type of /** @type {const} */ (["restart", "stop", "rollback"])) kernel.send({ type, service: "A" });
  kernel.send({ type: "scale", service: "A", replicas: 2 });
  mock.timers.tick(10_000);
  assert.equal(kernel.condition(), "");
});

test("a kernel that is gone stays gone and is sent nothing", () => {
  const { model, kernel, heard } = opened();
  kernel.look(VIEW, true);
  kernel.send(CALL);
  model.fire("comm_live_update");
  const { length } = model.sent;
  kernel.send(CALL);
  model.hear({ type: "here", id: "2" });
  mock.timers.tick(60_000);
  assert.equal(kernel.condition(), "gone");
  assert.equal(model.sent.length, length);
  assert.deepEqual(heard, [{ type: "link" }, { type: "here", id: "2" }]);
});

test("a link whose connection was closed is gone, and throws nothing", () => {
  const { model, page, kernel, heard } = opened();
  kernel.look(VIEW, true);
  model.send = () => {
    throw new Error("Cannot send");
  };
  page.become(true);
  kernel.send(CALL);
  mock.timers.tick(60_000);
  assert.equal(kernel.condition(), "gone");
  assert.deepEqual(heard, [{ type: "link" }]);
});

test("a look is told when the first view is seen, again while it is, and when none is any more", () => {
  const { model, page, kernel } = opened();
  const looks = () => model.sent.splice(0).map((message) => message.type === "look" && message.on);
  const other = /** @type {Element} */ ({});
  mock.timers.tick(60_000);
  assert.deepEqual(looks(), []);
  kernel.look(VIEW, true);
  kernel.look(other, true);
  assert.deepEqual(looks(), [true]);
  mock.timers.tick(10_000);
  assert.deepEqual(looks(), [true]);
  kernel.look(VIEW, false);
  assert.deepEqual(looks(), []);
  page.become(true);
  page.become(false);
  assert.deepEqual(looks(), [false, true]);
  kernel.look(other, false);
  assert.deepEqual(looks(), [false]);
});

test("each link is a front end of its own", () => {
  const clients = [opened(), opened()].map(({ model, kernel }) => {
    kernel.look(VIEW, true);
    return model.sent[0].type === "look" && model.sent[0].client;
  });
  assert.notEqual(clients[0], clients[1]);
});

test("a closed link lets go of everything", () => {
  const { model, page, kernel, heard } = opened();
  kernel.look(VIEW, true);
  kernel.close();
  const { length } = model.sent;
  page.become(true);
  mock.timers.tick(60_000);
  assert.equal(model.listeners.size, 0);
  assert.equal(model.sent.length, length);
  assert.equal(kernel.condition(), "gone");
  assert.deepEqual(heard, [{ type: "link" }]);
});
