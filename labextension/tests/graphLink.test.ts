// The link of a graph, with services that are made up.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import type { Request } from "../../nbcompose/_notebook/graph/static/src/messages.d.ts";
import type { Heard } from "../../nbcompose/_notebook/graph/static/src/types.d.ts";
import { GraphLink } from "../src/graphLink.ts";
import { type Asked, type Hearer, type Listener, type Page, RequestFailed, type Services } from "../src/services.ts";
import { service } from "./making.ts";

interface Opened {
  request: Asked;
  listener: Listener;
  isOpen: boolean;
}

interface Begun {
  request: Asked;
  hearer: Hearer;
  cancelled: number;
}

class FakeServices {
  opened: Opened[] = [];
  begun: Begun[] = [];
  open(_: string, request: Asked, listener: Listener) {
    const opened = { request, listener, isOpen: true };
    this.opened.push(opened);
    return {
      isDisposed: false,
      dispose: () => {
        opened.isOpen = false;
      },
    };
  }
  converse(_: string, request: Asked, hearer: Hearer) {
    const begun = { request, hearer, cancelled: 0 };
    this.begun.push(begun);
    return {
      cancel: () => {
        begun.cancelled += 1;
      },
    };
  }
  get watch(): Opened | undefined {
    return this.opened.find(({ isOpen }) => isOpen);
  }
  get folded(): string[] | undefined {
    const request = this.watch?.request;
    return request?.type === "watch" ? request.folded : undefined;
  }
  get last(): Begun {
    const last = this.begun.at(-1);
    assert.ok(last, "nothing was asked");
    return last;
  }
}

class FakePage {
  hidden = false;
  listener = () => {};
  addEventListener(_: string, listener: () => void) {
    this.listener = listener;
  }
  removeEventListener() {}
  show(on: boolean) {
    this.hidden = !on;
    this.listener();
  }
}

const VIEW = {} as Element;
const CALL: Request = { type: "call", id: "c1", service: "A", api: "ask", arguments: { text: "tea" } };
const WORDS = { empty: "none", lost: "it is lost", gone: "it is gone" };
const state = (...names: string[]) => ({
  type: "state" as const,
  id: "lab-1",
  version: 1,
  services: names.map((name) => service(name)),
  edges: [],
  svg: "<svg/>",
});

let services: FakeServices;
let page: FakePage;
let link: GraphLink;
let heard: Heard[];
const types = () => heard.map((message) => message.type);

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  services = new FakeServices();
  page = new FakePage();
  heard = [];
  link = new GraphLink(services as unknown as Services, "k1", WORDS, page as unknown as Page);
  link.listen((message) => heard.push(message));
});

test("it watches while a view can be seen", () => {
  assert.equal(services.opened.length, 0);
  link.look(VIEW, true);
  assert.deepEqual(services.watch?.request, { type: "watch", picture: true, folded: [] });
  page.show(false);
  assert.equal(services.watch, undefined);
  page.show(true);
  assert.ok(services.watch);
  link.isShown = false;
  assert.equal(services.watch, undefined);
  link.isShown = true;
  link.look(VIEW, false);
  assert.equal(services.watch, undefined);
  assert.equal(services.opened.length, 3);
});

test("a state is what the view shows", () => {
  link.look(VIEW, true);
  services.watch?.listener.hear(state("A"));
  assert.deepEqual(types(), ["state"]);
  assert.equal(link.state().services[0]?.name, "A");
  assert.equal(link.state().svg, "<svg/>");
});

test("what is folded is folded for this view, and asked at once", () => {
  link.look(VIEW, true);
  link.send({ type: "fold", service: "B", on: true });
  link.send({ type: "fold", service: "A", on: true });
  assert.deepEqual(services.folded, ["A", "B"]);
  assert.equal(services.opened.filter(({ isOpen }) => isOpen).length, 1);
  link.send({ type: "fold", service: "B", on: false });
  assert.deepEqual(services.folded, ["A"]);
  assert.equal(services.begun.length, 0);
});

test("the picture is laid out for the width of the view, anew when nobody drags any more", () => {
  const width = () => services.watch?.request.type === "watch" && services.watch.request.width;
  link.room(300);
  link.look(VIEW, true);
  assert.equal(width(), 300);
  for (const dragged of [320, 400, 660]) link.room(dragged);
  assert.equal(services.opened.length, 1);
  mock.timers.tick(150);
  assert.equal(width(), 660);
  assert.equal(services.opened.filter(({ isOpen }) => isOpen).length, 1);
  link.room(400);
  link.room(660); // back again
  mock.timers.tick(1000);
  assert.equal(services.opened.length, 2);
  link.room(300);
  link.close();
  mock.timers.tick(1000);
  assert.equal(services.opened.length, 2);
});

test("an answer has the id of the view, whatever that of the connection is", () => {
  link.send(CALL);
  assert.deepEqual(services.last.request, { type: "call", service: "A", api: "ask", arguments: { text: "tea" } });
  assert.deepEqual(link.last(), { service: "A", api: "ask" });
  services.last.hearer.hear({ type: "result", id: "lab-7", bundle: { "text/plain": "4" }, seconds: 1 });
  assert.deepEqual(heard, [{ type: "result", id: "c1", bundle: { "text/plain": "4" }, seconds: 1 }]);
});

test("the first item of a stream comes at once, later ones in groups, all before the end", () => {
  link.send(CALL);
  const say = (n: number) =>
    services.last.hearer.hear({ type: "item", id: "lab-7", n, bundle: { "text/plain": String(n) } });
  const items = () =>
    heard.map((message) => (message.type === "items" ? message.items.map(({ n }) => n) : message.type));
  say(0);
  assert.deepEqual(items(), [[0]]);
  say(1);
  say(2);
  assert.deepEqual(items(), [[0]]);
  mock.timers.tick(50);
  assert.deepEqual(items(), [[0], [1, 2]]);
  say(3);
  services.last.hearer.hear({ type: "end", id: "lab-7", seconds: 1 });
  assert.deepEqual(items(), [[0], [1, 2], [3], "end"]);
  mock.timers.tick(1000);
  assert.equal(heard.length, 4);
  assert.ok(heard.every((message) => "id" in message && message.id === "c1"));
});

test("a call is cancelled by the id of the view, until it has ended", () => {
  link.send(CALL);
  link.send({ type: "cancel", id: "c1" });
  assert.equal(services.last.cancelled, 1);
  services.last.hearer.hear({ type: "cancelled", id: "lab-7", seconds: 1 });
  link.send({ type: "cancel", id: "c1" });
  assert.equal(services.last.cancelled, 1);
  assert.deepEqual(types(), ["cancelled"]);
});

test("what did not come to the process is told as a failure of what was asked", () => {
  link.send({ type: "form", service: "A", api: "ask" });
  services.last.hearer.fail(new RequestFailed("Gone", "the process has ended"));
  const [failure] = heard;
  assert.ok(failure?.type === "failed");
  assert.deepEqual([failure.action, failure.service, failure.api, failure.name], ["form", "A", "ask", "Gone"]);
  link.send(CALL);
  services.last.hearer.fail(new RequestFailed("Cancelled", "never asked"));
  assert.deepEqual(heard[1], { type: "cancelled", id: "c1", seconds: 0 });
});

test("arguments that no message can carry are refused here, and say so", () => {
  link.send({ ...CALL, arguments: { text: "x".repeat(33 * 2 ** 20) } });
  assert.equal(services.begun.length, 0);
  assert.ok(heard[0]?.type === "failed" && /34,\d+,\d+ bytes.*in a cell/.test(heard[0].message));
});

test("a lost connection is said, and that it is there again", () => {
  link.look(VIEW, true);
  services.watch?.listener.hear(state("A"));
  services.watch?.listener.connected?.(false);
  assert.equal(link.condition(), "lost");
  assert.equal(link.words?.lost, "it is lost");
  link.send(CALL); // it waits for the connection
  assert.equal(services.begun.length, 1);
  services.watch?.listener.connected?.(true);
  assert.equal(link.condition(), "");
  assert.deepEqual(types(), ["state", "link", "link"]);
});

test("of a process that has ended nothing is asked, until it is there again", () => {
  link.look(VIEW, true);
  services.watch?.listener.hear(state("A"));
  const before = services.opened.at(-1);
  before?.listener.gone?.();
  assert.equal(link.condition(), "gone");
  link.send(CALL);
  page.show(false);
  page.show(true);
  assert.deepEqual([services.begun.length, services.opened.length], [0, 1]);
  link.renew();
  assert.equal(link.condition(), "");
  services.watch?.listener.hear(state("B"));
  assert.equal(link.state().services[0]?.name, "B");
});

test("a watch that is refused is the end, too", () => {
  link.look(VIEW, true);
  services.watch?.listener.hear({
    ...{ type: "failed", id: "lab-1", action: "watch", name: "UnknownRuntime", message: "none" },
    ...{ traceback: "", problems: [], seconds: 0 },
  });
  assert.equal(link.condition(), "gone");
});

test("what is closed cancels its calls, and hears no more", () => {
  link.look(VIEW, true);
  link.send(CALL);
  link.close();
  assert.equal(services.last.cancelled, 1);
  assert.equal(services.watch, undefined);
  services.last.hearer.hear({ type: "cancelled", id: "lab-7", seconds: 1 });
  link.send(CALL);
  link.renew();
  assert.deepEqual([heard.length, services.begun.length], [0, 1]);
});

test("a link needs no answer to what only widgets are asked", () => {
  link.send({ type: "kept", service: "A", api: "ask" });
  link.send({ type: "look", client: "x", on: true });
  assert.equal(services.begun.length, 0);
});
