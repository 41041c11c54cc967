// One comm to a kernel, which carries the messages of the runtime protocol where Jupyter's server cannot.

import {
  isReply,
  type Listed,
  type RuntimeEvent,
  type RuntimeReply,
  type Service,
  type StoppedService,
} from "./protocol.ts";

export const TARGET = "nbcompose";
const PROTOCOL = 1; // of the runtime protocol, which the kernel checks
const RENEWS = 20_000; // ms between two signs of life: the kernel takes a page for gone after a minute without one
const PATIENCE = 1000; // ms after which a kernel that runs a cell is asked whether it hears, and in which it answers
const OWN = "comm-"; // begins the ids of what is asked here; `Services` has others

export type Said = RuntimeReply | RuntimeEvent;
/** What is asked: checked by the kernel. */
export type Asking = { id: string; type: string } & Record<string, unknown>;

export interface CommLike {
  send(message: object): void;
  close(): void;
}

export interface CommHearer {
  hear(data: unknown): void;
  closed(): void;
}

/** A kernel of an open notebook, as far as it is used. */
export interface CommKernel {
  readonly id: string;
  /** The notebook's path. */
  path(): string;
  isIdle(): boolean;
  /** Whether it has comms of this target. */
  has(target: string): Promise<boolean>;
  open(target: string, data: object, hearer: CommHearer): Promise<CommLike>;
}

export interface ChannelHooks {
  /** Its services are others. */
  changed(): void;
  /** Something was said of what `send` has asked. */
  said(message: Said): void;
  /** The kernel does not hear since a cell runs, or hears again. */
  waits(on: boolean): void;
  /** The kernel has closed it. */
  closed(): void;
}

export class CommChannel {
  #comm: CommLike | null = null;
  #queue: object[] = []; // until it is open
  #version = "";
  #pid = 0;
  #services: readonly Service[] | null = null;
  #stopped: StoppedService[] = [];
  #trouble = "";
  #heard = 0; // when it said something last
  #serial = 0;
  #looks = false;
  #watch = "";
  #isFresh = false; // the watch has said something since it was asked
  #waiters: (() => void)[] = [];
  #requests = new Set<string>();
  #ping = "";
  #waits = false;
  #renewal: ReturnType<typeof setInterval> | undefined;
  #doubt: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(
    private readonly kernel: CommKernel,
    private readonly hooks: ChannelHooks,
  ) {
    void this.#open();
  }

  /** The process as the server would list it; null before it has said who it is. */
  get listed(): Listed | null {
    if (!this.#trouble && (!this.#pid || !this.#services)) return null;
    const path = this.kernel.path();
    return {
      id: this.kernel.id,
      kind: "kernel",
      pid: this.#pid,
      title: path.split("/").pop() ?? path,
      path,
      kernel: this.kernel.id,
      version: this.#version,
      trouble: this.#trouble,
      // Its addresses are those of another machine, which this server does not reach.
      services: (this.#services ?? []).map((service) => ({ ...service, link: "" })),
      stopped: this.#stopped,
      comm: { heard: this.#heard, waits: this.#waits },
    };
  }

  /** The kernel does not hear since a cell runs. */
  get waits(): boolean {
    return this.#waits;
  }

  /** Something was asked that has not ended. */
  get isUsed(): boolean {
    return this.#requests.size > 0;
  }

  /** Whether numbers come too, as they change. */
  set looks(on: boolean) {
    if (on === this.#looks) return;
    this.#looks = on;
    this.#rewatch();
  }

  /** Have it say how the services are now; resolved once it has, or cannot. */
  refresh(): Promise<void> {
    if (this.#isFresh && !this.#looks) this.#rewatch();
    if (this.#isFresh || this.#trouble || this.#isClosed) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  send(message: Asking): void {
    if (message.type !== "cancel") this.#requests.add(message.id);
    this.#say(message);
  }

  /** A cell runs in the kernel, or none does. */
  set busy(on: boolean) {
    clearTimeout(this.#doubt);
    this.#doubt = on ? setTimeout(this.#ask, PATIENCE) : undefined;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#end();
    this.#comm?.close();
  }

  async #open(): Promise<void> {
    const version = "nbcompose's extension of JupyterLab";
    const hello = { id: `${OWN}hello`, type: "hello", protocol: PROTOCOL, version };
    const hear = (data: unknown) => this.#hear(data);
    const closed = () => this.#lose();
    try {
      const comm = await this.kernel.open(TARGET, hello, { hear, closed });
      if (this.#isClosed) {
        comm.close();
        return;
      }
      this.#comm = comm;
    } catch {
      this.#lose(); // the kernel has ended meanwhile
      return;
    }
    for (const message of this.#queue.splice(0)) this.#comm.send(message);
    if (!this.#watch) this.#rewatch();
    this.#renewal = setInterval(this.#renew, RENEWS);
  }

  #say(message: object): void {
    if (this.#isClosed) return;
    if (this.#comm) this.#comm.send(message);
    else this.#queue.push(message);
  }

  #id(): string {
    this.#serial += 1;
    return `${OWN}${this.#serial}`;
  }

  #rewatch(): void {
    if (this.#watch) this.#say({ type: "cancel", id: this.#watch });
    this.#watch = this.#id();
    this.#isFresh = false;
    this.#say({ type: "watch", id: this.#watch, brief: !this.#looks });
  }

  /** Say that there is still somebody; not while the last time has not been answered. */
  #renew = (): void => {
    if (this.#ping) return;
    this.#ping = this.#id();
    this.#say({ type: "look", id: this.#ping, client: "lab", on: true });
  };

  /** A cell has run for some time: with subshells the kernel hears all the same. It is asked once. */
  #ask = (): void => {
    this.#renew();
    this.#doubt = setTimeout(() => this.#ping && this.#wait(true), PATIENCE);
  };

  #wait(on: boolean): void {
    if (on === this.#waits) return;
    this.#waits = on;
    this.hooks.waits(on);
  }

  #hear(data: unknown): void {
    if (this.#isClosed || !isSaid(data)) return;
    this.#heard = Date.now();
    const { id } = data;
    if (data.type === "hello") {
      this.#pid = data.pid;
      this.#version = data.version;
    } else if (id === this.#watch) this.#show(data);
    else if (id === this.#ping) {
      this.#ping = "";
      this.#wait(false);
    } else if (id === `${OWN}hello` || id === null) this.#fail(data);
    else if (!id.startsWith(OWN)) {
      if (isReply(data)) this.#requests.delete(id);
      this.hooks.said(data);
    }
  }

  #show(message: Said): void {
    if (message.type !== "state") {
      if (message.type !== "cancelled") this.#fail(message);
      return;
    }
    this.#services = message.services;
    this.#stopped = message.stopped ?? [];
    this.#trouble = "";
    this.#isFresh = true;
    if (!this.#settle()) this.hooks.changed();
  }

  #fail(message: Said): void {
    if (message.type === "failed") this.#trouble = message.message;
    if (!this.#settle()) this.hooks.changed();
  }

  /** Whether somebody has waited. */
  #settle(): boolean {
    const waiters = this.#waiters.splice(0);
    for (const resolve of waiters) resolve();
    return waiters.length > 0;
  }

  #lose(): void {
    if (this.#isClosed) return;
    this.#end();
    this.hooks.closed();
  }

  #end(): void {
    this.#isClosed = true;
    clearInterval(this.#renewal);
    clearTimeout(this.#doubt);
    this.#settle();
  }
}

/** Whether the kernel's data is a message: what it means was defined by the same version of the protocol. */
function isSaid(data: unknown): data is Said {
  if (typeof data !== "object" || data === null) return false;
  const { id, type } = data as Record<string, unknown>;
  return typeof type === "string" && (typeof id === "string" || id === null);
}
