// Kernels that the server does not see: when they are asked, and what `Services` hears of them. Made-up kernels and time.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import type { CommHearer, CommKernel, CommLike } from "../src/commChannel.ts";
import { JoinedServer } from "../src/commServer.ts";
import { Comms } from "../src/comms.ts";
import type { Listed, RuntimeReply, Service } from "../src/protocol.ts";
import { ListError, RequestFailed, type Server, Services, type SocketLike } from "../src/services.ts";
import { runtime, service } from "./making.ts";

const STOPPED = [{ name: "Past", cell: "id1", source: "s" }];

type Sent = { type: string; id: string; brief?: boolean };

class FakeComm implements CommLike {
  sent: Sent[] = [];
  isClosed = false;
  services: Service[] | null = null; // how they are, once it has said so: each watch begins with it
  constructor(
    readonly data: Record<string, unknown>,
    readonly hearer: CommHearer,
  ) {}
  send(message: object) {
    assert.ok(!this.isClosed);
    this.sent.push(message as Sent);
    const { services } = this;
    if ((message as Sent).type === "watch" && services) queueMicrotask(() => this.state(services));
  }
  close() {
    this.isClosed = true;
  }
  say(message: object) {
    this.hearer.hear(message);
  }
  asked(type: string): Sent {
    const found = this.sent.findLast((message) => message.type === type);
    assert.ok(found, `${type} was not asked`);
    return found;
  }
  state(services: Service[]) {
    this.services = services;
    this.say({ type: "state", id: this.asked("watch").id, version: 1, services, edges: [], svg: "", stopped: STOPPED });
  }
}

class FakeKernel implements CommKernel {
  comms: FakeComm[] = [];
  infos = 0;
  idle = true;
  loaded = true;
  constructor(readonly id: string) {}
  path() {
    return "folder/far.ipynb";
  }
  isIdle() {
    return this.idle;
  }
  async has(target: string) {
    assert.equal(target, "nbcompose");
    this.infos += 1;
    return this.loaded;
  }
  async open(_: string, data: object, hearer: CommHearer) {
    const comm = new FakeComm(data as Record<string, unknown>, hearer);
    this.comms.push(comm);
    return comm;
  }
  get comm() {
    const comm = this.comms[this.comms.length - 1];
    assert.ok(comm, "no comm was opened");
    return comm;
  }
  greet(services: Service[] = [FAR]) {
    this.comm.say({ type: "hello", id: "comm-hello", pid: 77, version: "0.1.0", kernel: "of another machine" });
    this.comm.state(services);
  }
}

class FakeSocket implements SocketLike {
  readyState = 0;
  sent: string[] = [];
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  send(text: string) {
    this.sent.push(text);
  }
  close() {
    this.readyState = 3;
  }
  open() {
    this.readyState = 1;
    this.onopen?.();
  }
  say(message: unknown) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

class FakeServer implements Server {
  lists = 0;
  status = 404;
  runtimes: Listed[] = [];
  sockets: FakeSocket[] = [];
  async list() {
    this.lists += 1;
    if (this.status !== 200) throw new ListError(this.status);
    return this.runtimes;
  }
  connect() {
    const socket = new FakeSocket();
    this.sockets.push(socket);
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

const FAR = service("Far", { link: "" });
let server: FakeServer;
let page: FakePage;
let comms: Comms;
let services: Services;
let kernel: FakeKernel;
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
const pass = async (ms: number) => {
  await settled();
  mock.timers.tick(ms);
  await settled();
};
const names = () => services.runtimes.flatMap(({ services }) => services.map(({ name }) => name));

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_000_000 });
  server = new FakeServer();
  page = new FakePage();
  comms = new Comms();
  const joined = new JoinedServer(server, comms);
  services = new Services(joined, page as never, () => 1);
  joined.changed = () => services.note();
  kernel = new FakeKernel("k7");
});

/** A kernel that the server does not see is listed. */
async function found() {
  comms.add(kernel);
  const keep = services.keep();
  await pass(2000); // a server that works has had its time
  await pass(200);
  kernel.greet();
  await pass(200);
  return keep;
}

test("without the server extension a notebook's kernel is found, and listed as its process says, without addresses", async () => {
  await found();
  assert.equal(services.condition, "listed");
  const [listed] = services.runtimes;
  assert.deepEqual(
    { ...listed, comm: undefined },
    {
      ...runtime("k7", [FAR]),
      pid: 77,
      path: "folder/far.ipynb",
      title: "far.ipynb",
      stopped: STOPPED,
      comm: undefined,
    },
  );
  assert.deepEqual(kernel.comm.data, {
    id: "comm-hello",
    type: "hello",
    protocol: 1,
    version: "nbcompose's extension of JupyterLab",
  });
  assert.equal(kernel.comm.asked("watch").brief, true);
});

test("what has changed is listed, and a server without the extension is not asked for that", async () => {
  await found();
  const before = server.lists;
  kernel.comm.state([FAR, service("Second")]);
  await pass(200);
  assert.deepEqual(names(), ["Far", "Second"]);
  assert.equal(server.lists, before);
  assert.equal(kernel.infos, 1);
});

test("a kernel that the server sees is not asked, nor one before the server has had the time to see it", async () => {
  server.status = 200;
  server.runtimes = [runtime("k7", [service("Near")])];
  const other = new FakeKernel("k8");
  comms.add(kernel);
  comms.add(other);
  services.keep();
  await pass(1900);
  assert.deepEqual([kernel.infos, other.infos], [0, 0]);
  await pass(200);
  assert.deepEqual([kernel.infos, other.infos], [0, 1]);
  await pass(200);
  other.greet();
  await pass(200);
  assert.deepEqual(names(), ["Near", "Far"]);
});

test("nothing is asked while a cell runs, nobody wants to know, or the page is hidden, and no kernel twice", async () => {
  kernel.loaded = false;
  comms.add(kernel);
  await pass(3000);
  assert.equal(kernel.infos, 0); // nobody wants to know
  page.hidden = true;
  services.keep();
  await pass(3000);
  assert.equal(kernel.infos, 0);
  assert.equal(server.lists, 0);
  kernel.idle = false;
  page.show(true);
  await pass(3000);
  assert.equal(kernel.infos, 0);
  kernel.idle = true;
  comms.runs("k7", false);
  await pass(3000);
  comms.runs("k7", false);
  services.note();
  await pass(3000);
  assert.equal(kernel.infos, 1);
  assert.equal(kernel.comms.length, 0);
  assert.equal(services.condition, "missing");
  kernel.loaded = true;
  comms.mayHave("k7"); // a cell that names it has run
  await pass(200);
  kernel.greet();
  await pass(200);
  assert.deepEqual(names(), ["Far"]);
});

test("a user who may not see services has none by this way", async () => {
  server.status = 403;
  comms.add(kernel);
  services.keep();
  await pass(3000);
  assert.equal(services.condition, "refused");
  assert.equal(kernel.infos, 0);
});

test("the comm is closed with whatever shows services, and while the page is hidden", async () => {
  const keep = await found();
  page.show(false);
  assert.ok(kernel.comm.isClosed);
  page.show(true);
  await pass(0);
  assert.equal(kernel.comms.length, 2);
  assert.deepEqual(names(), ["Far"]);
  kernel.greet();
  keep.dispose();
  assert.ok(kernel.comm.isClosed);
});

test("what looks has the numbers come, without any server", async () => {
  await found();
  const connected = server.sockets.length;
  const look = services.look();
  await pass(0);
  assert.equal(kernel.comm.asked("watch").brief, false);
  kernel.comm.state([service("Far", { calls: 5 })]);
  await pass(0);
  assert.equal(services.condition, "live");
  assert.equal(services.runtimes[0]?.services[0]?.calls, 5);
  assert.deepEqual(services.runtimes[0]?.stopped, STOPPED);
  assert.equal(server.sockets.length, connected);
  look.dispose();
  await pass(2000);
  assert.equal(kernel.comm.asked("watch").brief, true);
});

test("requests go to the kernel, and its answers to who has asked", async () => {
  await found();
  const heard: string[] = [];
  const answer = services.request("k7", { type: "stop", service: "Far" });
  const conversation = services.converse(
    "k7",
    { type: "call", service: "Far", api: "say" },
    { hear: ({ type }) => heard.push(type), fail: ({ message }) => heard.push(message) },
  );
  await pass(0);
  const stop = kernel.comm.asked("stop");
  kernel.comm.say({ type: "done", id: stop.id, action: "stop", service: "Far" });
  assert.equal(((await answer) as RuntimeReply).type, "done");
  const { id } = kernel.comm.asked("call");
  kernel.comm.say({ type: "items", id, items: [] });
  conversation.cancel();
  assert.equal(kernel.comm.asked("cancel").id, id);
  kernel.comm.say({ type: "cancelled", id, seconds: 1 });
  assert.deepEqual(heard, ["items", "cancelled"]);
});

test("what is no message is not heard", async () => {
  await found();
  for (const wrong of [null, 3, "x", [], {}, { type: 3, id: "a" }, { type: "state" }]) kernel.comm.hearer.hear(wrong);
  assert.deepEqual(names(), ["Far"]);
});

test("a process that was ended, or a kernel that was restarted, is not listed, and who waits is told", async () => {
  await found();
  const failed = assert.rejects(services.request("k7", { type: "stop", service: "Far" }), RequestFailed);
  await pass(0);
  kernel.loaded = false;
  comms.restarted("k7");
  await failed;
  await pass(200);
  await pass(200);
  assert.deepEqual(names(), []);
  assert.equal(services.condition, "missing");
  assert.equal(kernel.infos, 2);
});

test("a kernel that closes the comm at once is not asked again and again", async () => {
  comms.add(kernel);
  services.keep();
  await pass(200);
  kernel.comm.say({ type: "failed", id: "comm-hello", name: "ProtocolError", message: "too old", action: "hello" });
  kernel.comm.hearer.closed();
  await pass(5000);
  assert.equal(kernel.comms.length, 1);
  assert.equal(kernel.infos, 1);
  assert.equal(services.runtimes[0]?.trouble, "too old");
  comms.restarted("k7");
  await pass(200);
  assert.equal(kernel.comms.length, 2);
});

test("while a cell runs it is asked once whether it hears; what was said before stands, with the time", async () => {
  await found();
  const waits: boolean[] = [];
  services.open("k7", { type: "watch" }, { hear: () => {}, waits: (on) => waits.push(on) });
  await pass(0);
  kernel.idle = false;
  comms.runs("k7", true);
  await pass(1000);
  const ping = kernel.comm.asked("look");
  await pass(1000);
  assert.deepEqual(waits, [true]);
  await pass(60_000);
  assert.equal(kernel.comm.sent.filter(({ type }) => type === "look").length, 1);
  assert.equal(services.runtimes[0]?.comm?.waits, true);
  kernel.comm.say({ type: "here", id: ping.id });
  comms.runs("k7", false);
  await pass(200);
  assert.deepEqual(waits, [true, false]);
  assert.equal(services.runtimes[0]?.comm?.waits, false);
});

test("a kernel that hears over a subshell is not said to be busy", async () => {
  await found();
  const waits: boolean[] = [];
  services.open("k7", { type: "watch" }, { hear: () => {}, waits: (on) => waits.push(on) });
  comms.runs("k7", true);
  await pass(1000);
  kernel.comm.say({ type: "here", id: kernel.comm.asked("look").id });
  await pass(5000);
  assert.deepEqual(waits, []);
});

test("beside a server that works its list and the kernels' are one", async () => {
  server.status = 200;
  server.runtimes = [runtime("k1", [service("Near")])];
  await found();
  services.look();
  const [socket] = server.sockets;
  socket?.open();
  assert.ok(socket?.sent[0]?.includes('"look"'));
  await pass(0);
  socket?.say({ type: "runtimes", runtimes: server.runtimes });
  assert.deepEqual(names(), ["Near", "Far"]);
  void services.request("k1", { type: "stop", service: "Near" }).catch(() => undefined);
  assert.match(socket?.sent.at(-1) ?? "", /"to":"k1"/);
  assert.ok(!kernel.comm.sent.some(({ type }) => type === "stop"));
  socket?.say({ type: "runtimes", runtimes: [...server.runtimes, runtime("k7", [service("Seen")])] });
  await pass(0);
  assert.deepEqual(names(), ["Near", "Seen"]);
  assert.ok(kernel.comm.isClosed);
});
