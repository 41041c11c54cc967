// The model against a server that is made up, with time that the tests move.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import type { Listed, RuntimeReply } from "../src/protocol.ts";
import { ListError, type Page, RequestFailed, type Server, Services, type SocketLike } from "../src/services.ts";
import { runtime, service } from "./making.ts";

interface Sent {
  type?: string;
  on?: boolean;
  to?: string;
  message?: { id: string; type: string };
}

class FakeSocket implements SocketLike {
  readyState = 0;
  sent: Sent[] = [];
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.readyState = 3;
  }
  open() {
    this.readyState = 1;
    this.onopen?.();
  }
  lose() {
    this.readyState = 3;
    this.onclose?.();
  }
  say(message: unknown) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

class FakeServer implements Server {
  sockets: FakeSocket[] = [];
  lists = 0;
  status = 200;
  runtimes: Listed[] = [runtime("k1", [service("Answer")])];
  async list() {
    this.lists += 1;
    if (this.status === 0) throw new TypeError("network");
    if (this.status !== 200) throw new ListError(this.status);
    return this.runtimes;
  }
  connect() {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket;
  }
  get last() {
    const socket = this.sockets[this.sockets.length - 1];
    assert.ok(socket, "nothing has connected");
    return socket;
  }
}

class FakePage {
  hidden = false;
  #listeners = new Set<() => void>();
  addEventListener(_: string, listener: () => void) {
    this.#listeners.add(listener);
  }
  removeEventListener(_: string, listener: () => void) {
    this.#listeners.delete(listener);
  }
  show(on: boolean) {
    this.hidden = !on;
    for (const listener of this.#listeners) listener();
  }
}

let server: FakeServer;
let page: FakePage;
let services: Services;
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
const pass = async (ms: number) => {
  mock.timers.tick(ms);
  await settled();
};
const types = (socket: FakeSocket) => socket.sent.map((said) => said.type ?? said.message?.type);

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  server = new FakeServer();
  page = new FakePage();
  services = new Services(server, page as unknown as Page, () => 1);
});

test("nothing is asked while nobody wants to know, nor while the page is hidden", async () => {
  services.note();
  await pass(1000);
  assert.equal(server.lists + server.sockets.length, 0);
  page.show(false);
  services.keep();
  services.look();
  services.note();
  await pass(60_000);
  assert.equal(server.lists + server.sockets.length, 0);
  page.show(true);
  assert.equal(server.sockets.length, 1);
});

test("who keeps the list has it fetched when it changes, once for several changes", async () => {
  const kept = services.keep();
  await settled();
  assert.equal(services.condition, "listed");
  assert.equal(services.runtimes[0]?.services[0]?.name, "Answer");
  for (let i = 0; i < 5; i += 1) services.note();
  await pass(1000);
  assert.equal(server.lists, 2);
  page.show(false);
  services.note();
  await pass(1000);
  assert.equal(server.lists, 2);
  page.show(true);
  await settled();
  assert.equal(server.lists, 3);
  kept.dispose();
  services.note();
  await pass(1000);
  assert.equal(server.lists, 3);
});

test("a change while the list is fetched is not missed", async () => {
  let answer = (_: Listed[]): void => {};
  const answered = new Promise<Listed[]>((resolve) => {
    answer = resolve;
  });
  mock.method(server, "list", () => answered, { times: 1 });
  services.keep();
  services.note();
  await pass(1000);
  answer([runtime("k1", [service("Answer", { state: "starting" })])]);
  await settled();
  assert.equal(server.lists, 1);
  assert.equal(services.runtimes[0]?.services[0]?.state, "ready");
});

test("who looks has it come, and the server is told when nobody looks any more", async () => {
  const look = services.look();
  const again = services.look();
  server.last.open();
  assert.deepEqual(server.last.sent, [{ type: "look", on: true }]);
  server.last.say({ type: "runtimes", runtimes: [] });
  assert.equal(services.condition, "live");
  services.note();
  await pass(1000);
  assert.equal(server.lists, 0);
  again.dispose();
  look.dispose();
  assert.deepEqual(server.last.sent[1], { type: "look", on: false });
  assert.equal(services.condition, "listed");
  await pass(5000);
  assert.equal(server.last.readyState, 3);
  assert.equal(server.sockets.length, 1);
});

test("a hidden page lets go of its connection, and has it again when it is seen", async () => {
  services.look();
  server.last.open();
  page.show(false);
  await pass(5000);
  assert.equal(server.last.readyState, 3);
  page.show(true);
  assert.equal(server.sockets.length, 2);
});

test("a lost connection is made again, later each time", async () => {
  services.look();
  server.last.open();
  server.last.say({ type: "runtimes", runtimes: [] });
  server.status = 0;
  server.last.lose();
  assert.equal(services.condition, "lost");
  await pass(0);
  assert.equal(server.lists, 1);
  const waits = [1000, 2000, 4000, 8000, 16000, 30000, 30000];
  for (const [i, wait] of waits.entries()) {
    await pass(wait - 1);
    assert.equal(server.lists, i + 1);
    await pass(1);
    assert.equal(server.lists, i + 2);
  }
  server.status = 200;
  await pass(30000);
  server.last.open();
  server.last.say({ type: "runtimes", runtimes: server.runtimes });
  assert.equal(services.condition, "live");
  assert.equal(server.sockets.length, 2);
});

test("without the server extension it is said once, and not asked again", async () => {
  const said: string[] = [];
  services.changed.connect(() => said.push(services.condition));
  server.status = 404;
  services.keep();
  services.look();
  await settled();
  server.last.lose();
  await pass(0);
  await pass(120_000);
  page.show(false);
  page.show(true);
  await pass(120_000);
  assert.equal(services.condition, "missing");
  assert.equal(said.filter((condition) => condition === "missing").length, 1);
  assert.ok(
    server.lists <= 2 && server.sockets.length === 1,
    `${server.lists} lists, ${server.sockets.length} sockets`,
  );
  const asked = services.request("k1", { type: "stop", service: "Answer" });
  const refused = assert.rejects(asked, (e: Error) => e instanceof RequestFailed && e.kind === "Unavailable");
  server.last.lose();
  await pass(0);
  await refused;
});

test("a server that comes to have the extension is heard of by its events", async () => {
  server.status = 404;
  services.keep();
  await settled();
  assert.equal(services.condition, "missing");
  server.status = 200;
  services.note();
  await pass(1000);
  assert.equal(services.condition, "listed");
});

test("403 is another thing than 404", async () => {
  server.status = 403;
  services.keep();
  await settled();
  assert.equal(services.condition, "refused");
});

test("a request has its answer by its id, and the connection goes when there is nothing more to hear", async () => {
  const first = services.request("k1", { type: "stop", service: "Answer" });
  const second = services.request("k2", { type: "restart", service: "Writer" });
  server.last.open();
  const [a, b] = server.last.sent;
  assert.deepEqual([a?.to, b?.to], ["k1", "k2"]);
  server.last.say({ from: "k2", message: { id: b?.message?.id, type: "failed", name: "ValueError", message: "no" } });
  await assert.rejects(second, { message: "no" });
  server.last.say({ from: "k1", message: { id: a?.message?.id, type: "done", action: "stop", service: "Answer" } });
  assert.equal((await first).type, "done");
  await pass(5000);
  assert.equal(server.last.readyState, 3);
  assert.equal(server.lists, 0);
});

test("what may have been done is not asked twice when the connection is lost", async () => {
  const asked = services.request("k1", { type: "stop", service: "Answer" });
  server.last.open();
  server.last.lose();
  await assert.rejects(asked, /connection/);
  await pass(60_000);
  assert.equal(server.sockets.length, 1);
});

test("what lasts is asked again after the connection was lost, and cancelled at its end", async () => {
  const heard: string[] = [];
  const connected: boolean[] = [];
  const watch = services.open(
    "k1",
    { type: "watch" },
    {
      hear: (message) => heard.push(message.type),
      connected: (on) => connected.push(on),
    },
  );
  server.last.open();
  const id = server.last.sent[0]?.message?.id;
  server.last.say({ from: "k1", message: { id, type: "state", version: 1, services: [], edges: [], svg: "" } });
  server.last.lose();
  await pass(0);
  server.last.open();
  assert.deepEqual(types(server.last), ["watch"]);
  assert.deepEqual(connected, [true, false, true]);
  watch.dispose();
  assert.deepEqual(types(server.last), ["watch", "cancel"]);
  assert.deepEqual(heard, ["state"]);
});

test("what is answered in pieces is heard to its end, and is cancelled by its answer", async () => {
  const heard: string[] = [];
  const failed: (string | undefined)[] = [];
  const hearer = {
    hear: (message: { type: string }) => heard.push(message.type),
    fail: (error: Error) => failed.push(error instanceof RequestFailed ? error.kind : undefined),
  };
  const call = { type: "call", service: "Answer", api: "ask" } as const;
  services.converse("k1", call, hearer).cancel(); // nothing was asked yet
  assert.deepEqual(failed, ["Cancelled"]);
  const begun = services.converse("k1", call, hearer);
  server.last.open();
  assert.deepEqual(types(server.last), ["call"]);
  const id = server.last.sent[0]?.message?.id;
  server.last.say({ from: "k1", message: { id, type: "item", n: 0, bundle: {} } });
  begun.cancel();
  assert.deepEqual(server.last.sent[1], { to: "k1", message: { type: "cancel", id } });
  server.last.say({ from: "k1", message: { id, type: "cancelled", seconds: 1 } });
  begun.cancel();
  assert.deepEqual(heard, ["item", "cancelled"]);
  assert.equal(server.last.sent.length, 2);
  services.converse("k1", call, hearer);
  server.last.lose();
  await pass(60_000);
  assert.deepEqual(failed, ["Cancelled", undefined]);
  assert.equal(types(server.last).filter((type) => type === "call").length, 2);
});

test("of a process that ended nothing is waited for", async () => {
  let gone = 0;
  services.open("k1", { type: "watch" }, { hear() {}, gone: () => (gone += 1) });
  const asked: Promise<RuntimeReply> = services.request("k1", { type: "restart", service: "Answer" });
  const other = services.request("k2", { type: "restart", service: "Writer" });
  server.last.open();
  server.last.say({ type: "gone", runtime: "k1" });
  await assert.rejects(asked, /ended/);
  assert.equal(gone, 1);
  server.last.say({ from: "k2", message: { id: server.last.sent[2]?.message?.id, type: "done", action: "restart" } });
  assert.equal((await other).type, "done");
});
