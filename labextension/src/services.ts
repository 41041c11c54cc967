// The model: which services run, and a connection for what is asked of them.

import { DisposableDelegate, type IDisposable } from "@lumino/disposable";
import { type ISignal, Signal } from "@lumino/signaling";
import {
  isReply,
  type Listed,
  type RuntimeEvent,
  type RuntimeReply,
  type RuntimeRequest,
  type Told,
} from "./protocol.ts";

/**
 * What is known of the server. `idle`: nothing was asked yet; `listed`: the list was fetched, and is fetched again when
 * it changes; `live`: it comes as it changes, with numbers; `lost`: the server cannot be reached at present; `missing`:
 * it runs without nbcompose's server extension; `refused`: this user may not see services.
 */
export type Condition = "idle" | "listed" | "live" | "lost" | "missing" | "refused";

/** A request without an id: the connection gives it one. */
export type Asked = RuntimeRequest extends infer R ? (R extends unknown ? Omit<R, "id"> : never) : never;

/** Who hears of a request that lasts. */
export interface Listener {
  hear(message: RuntimeReply | RuntimeEvent): void;
  /** The connection is lost, or it is there again: the request was made anew. */
  connected?(on: boolean): void;
  /** The process does not hear what is asked for as long as a cell runs, or hears again. */
  waits?(on: boolean): void;
  /** The process has ended; nothing more comes. */
  gone?(): void;
}

/** Who hears of a request that is made once. */
export interface Hearer {
  /** What the process says, its refusal too. */
  hear(message: RuntimeReply | RuntimeEvent): void;
  /** Nothing comes from the process. */
  fail(error: Error): void;
}

export interface Conversation {
  /** Ask for its end, which the process's answer says. */
  cancel(): void;
}

/** What the server answered instead of a list. */
export class ListError extends Error {
  constructor(readonly status: number) {
    super(`the list of services could not be fetched (${status})`);
  }
}

/** A process refused a request, or could not do it. */
export class RequestFailed extends Error {
  constructor(
    readonly kind: string,
    message: string,
  ) {
    super(message || kind);
  }
}

export type SocketLike = {
  readonly readyState: number;
  send(text: string): void;
  close(): void;
  onopen: (() => void) | null;
  onclose: (() => void) | null;
  onmessage: ((event: { data: string }) => void) | null;
};

export interface Server {
  /** Fetch the list; a `ListError` has the status of another answer. */
  list(): Promise<Listed[]>;
  connect(): SocketLike;
  /** Whether anybody wants to know what runs, with the page in sight. */
  keep?(on: boolean): void;
}

export type Page = Pick<Document, "hidden" | "addEventListener" | "removeEventListener">;

const OPEN = 1; // WebSocket.OPEN, which node does not have
const LINGERS = 2000; // ms that a connection is kept which nobody needs
const SHORTEST = 1000; // ms between attempts to connect: doubled each time, up to the longest
const LONGEST = 30000;
const GATHERS = 200; // ms in which several changes of the list are fetched once

interface Pending {
  runtime: string;
  request: Asked;
  listener: Listener;
  lasts: boolean;
  fail(error: Error): void;
}

/**
 * The services of all processes that the server knows of.
 *
 * Nothing is asked of the server while nobody wants to know or the page is hidden. Who shows the list holds a lease:
 * `keep()` has it fetched again when it has changed, `look()` has it come over a WebSocket, with numbers.
 */
export class Services implements IDisposable {
  #runtimes: readonly Listed[] = [];
  #condition: Condition = "idle";
  #changed = new Signal<this, void>(this);
  #keepers = 0;
  #lookers = 0;
  #kept = false; // what `Server.keep` was told last
  #socket: SocketLike | null = null;
  #looks = false; // what the server was told last
  #isDue = true; // the list may have changed since it was fetched
  #fetching: Promise<void> | null = null;
  #pending = new Map<string, Pending>();
  #serial = 0;
  #attempts = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #linger: ReturnType<typeof setTimeout> | undefined;
  #gather: ReturnType<typeof setTimeout> | undefined;
  #isDisposed = false;

  constructor(
    private readonly server: Server,
    private readonly page: Page = document,
    private readonly random: () => number = Math.random,
  ) {
    page.addEventListener("visibilitychange", this.#seen);
  }

  get runtimes(): readonly Listed[] {
    return this.#runtimes;
  }

  get condition(): Condition {
    return this.#condition;
  }

  /** The list or the condition is another one. */
  get changed(): ISignal<this, void> {
    return this.#changed;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /** Have the list fetched when it has changed. */
  keep(): IDisposable {
    this.#keepers += 1;
    this.#tellKept();
    this.#fetchIfDue();
    return new DisposableDelegate(() => {
      this.#keepers -= 1;
      this.#tellKept();
    });
  }

  /** Have the list come as it changes, with its numbers. */
  look(): IDisposable {
    this.#lookers += 1;
    this.#tellKept();
    this.#update();
    return new DisposableDelegate(() => {
      this.#lookers -= 1;
      this.#update();
      this.#tellKept();
    });
  }

  /** The server says that the list has changed. */
  note(): void {
    if (this.#isUnavailable) this.#become("idle");
    this.#isDue = true;
    clearTimeout(this.#gather);
    this.#gather = setTimeout(() => {
      this.#fetchIfDue();
      this.#update();
    }, GATHERS);
  }

  /** Fetch the list now. */
  refresh(): Promise<void> {
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = null;
      this.#fetchIfDue(); // it may have changed after the server had answered
    });
    return this.#fetching;
  }

  /** Ask a process for something that it answers once. */
  request(runtime: string, request: Asked): Promise<RuntimeReply> {
    return new Promise((resolve, reject) => {
      const hear = (message: RuntimeReply | RuntimeEvent) => {
        if (!isReply(message)) return;
        if (message.type === "failed") reject(new RequestFailed(message.name, message.message));
        else resolve(message);
      };
      this.converse(runtime, request, { hear, fail: reject });
    });
  }

  /** Ask a process for something that it may answer in pieces, such as a call. It is not asked twice. */
  converse(runtime: string, request: Asked, { hear, fail }: Hearer): Conversation {
    const gone = () => fail(new RequestFailed("Gone", "the process that ran the services has ended"));
    const id = this.#add({ runtime, request, listener: { hear, gone }, lasts: false, fail });
    return {
      cancel: () => {
        if (!this.#pending.has(id)) return;
        if (this.#socket?.readyState === OPEN) {
          this.#say({ to: runtime, message: { type: "cancel", id } });
          return;
        }
        this.#pending.delete(id); // it was never asked
        this.#update();
        fail(new RequestFailed("Cancelled", "cancelled before the server was asked"));
      },
    };
  }

  /** Ask a process for something that lasts, such as `watch`: it is asked again after the connection was lost. */
  open(runtime: string, request: Asked, listener: Listener): IDisposable {
    const id = this.#add({ runtime, request, listener, lasts: true, fail: () => listener.gone?.() });
    return new DisposableDelegate(() => {
      if (!this.#pending.delete(id)) return;
      this.#say({ to: runtime, message: { type: "cancel", id } });
      this.#update();
    });
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.page.removeEventListener("visibilitychange", this.#seen);
    for (const timer of [this.#retry, this.#linger, this.#gather]) clearTimeout(timer);
    this.#drop();
    Signal.clearData(this);
  }

  // -- the list

  #take(runtimes: readonly Listed[], condition: Condition): void {
    this.#runtimes = runtimes;
    this.#condition = condition;
    this.#changed.emit();
  }

  #become(condition: Condition): void {
    if (this.#condition === condition) return;
    this.#condition = condition;
    if (condition === "missing" || condition === "refused") this.#runtimes = [];
    this.#changed.emit();
  }

  #fetchIfDue(): void {
    if (this.page.hidden || !this.#isDue || this.#keepers === 0) return;
    if (this.#socket && this.#lookers > 0) return; // it comes by itself
    void this.refresh();
  }

  async #fetch(): Promise<void> {
    this.#isDue = false; // until somebody says that it has changed, or asks
    try {
      const runtimes = await this.server.list();
      this.#take(runtimes, this.#condition === "live" ? "live" : "listed");
    } catch (error) {
      this.#become(conditionOf(error));
    }
  }

  // -- the connection

  get #isWanted(): boolean {
    return this.#pending.size > 0 || (this.#lookers > 0 && !this.page.hidden);
  }

  /** Nobody would answer, and trying again does not help. */
  get #isUnavailable(): boolean {
    return this.#condition === "missing" || this.#condition === "refused";
  }

  #seen = (): void => {
    this.#attempts = 0; // who comes back does not wait for the next attempt
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#tellKept();
    this.#update();
    this.#fetchIfDue();
  };

  #tellKept(): void {
    const on = !this.page.hidden && this.#keepers + this.#lookers > 0;
    if (on === this.#kept) return;
    this.#kept = on;
    this.server.keep?.(on);
  }

  /** Connect or let go, and tell the server whether somebody looks. */
  #update(): void {
    if (this.#isDisposed) return;
    if (!this.#isWanted) {
      this.#tellLook();
      clearTimeout(this.#retry);
      this.#retry = undefined;
      if (this.#socket) this.#linger ??= setTimeout(() => this.#isWanted || this.#drop(), LINGERS);
      return;
    }
    clearTimeout(this.#linger);
    this.#linger = undefined;
    if (this.#socket) this.#tellLook();
    else if (!this.#retry && !this.#isUnavailable) this.#connect();
  }

  #connect(): void {
    const socket = this.server.connect();
    let opened = false;
    this.#socket = socket;
    this.#looks = false;
    socket.onopen = () => {
      opened = true;
      this.#attempts = 0;
      this.#tellLook();
      for (const [id, pending] of this.#pending) {
        this.#send(id, pending);
        pending.listener.connected?.(true);
      }
    };
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data) as Told);
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#lose(opened);
    };
  }

  /** The connection has ended, or there was none: find out why, and try again where that may help. */
  #lose(opened: boolean): void {
    this.#isDue = true;
    const error = new Error("The connection to Jupyter's server was lost; try again.");
    for (const [id, pending] of this.#pending) {
      if (pending.lasts) pending.listener.connected?.(false);
      else if (opened) {
        this.#pending.delete(id); // whether it was done is not known: it is not asked twice
        pending.fail(error);
      }
    }
    if (!this.#isWanted) {
      if (this.#condition === "live") this.#become("listed");
      return;
    }
    if (this.#isUnavailable) {
      this.#failAll();
      return;
    }
    this.#become("lost");
    this.#later();
  }

  /** The first attempt is made at once: it finds out whether there is anybody to connect to. */
  #later(): void {
    const wait = this.#attempts
      ? Math.min(LONGEST, SHORTEST * 2 ** (this.#attempts - 1)) * (0.5 + this.random() / 2)
      : 0;
    this.#attempts += 1;
    this.#retry = setTimeout(async () => {
      await this.refresh();
      this.#retry = undefined;
      if (this.#condition === "lost" && this.#isWanted) this.#later();
      else this.#settle();
    }, wait);
  }

  #settle(): void {
    if (this.#isUnavailable) this.#failAll();
    this.#update();
  }

  /** Nobody answers here: who waits is told. */
  #failAll(): void {
    const error = new RequestFailed("Unavailable", `nbcompose's server extension ${this.#condition}`);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { fail } of pending) fail(error);
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#linger = undefined;
    socket?.close();
    this.#isDue = true;
    if (this.#condition === "live") this.#become("listed");
  }

  #tellLook(): void {
    const on = this.#lookers > 0 && !this.page.hidden;
    if (on === this.#looks || this.#socket?.readyState !== OPEN) return;
    this.#looks = on;
    this.#say({ type: "look", on });
    if (!on && this.#condition === "live") {
      this.#isDue = true;
      this.#become("listed");
      this.#fetchIfDue(); // the last list may have been on its way when it changed
    }
  }

  #hear(told: Told): void {
    if (told.type === "runtimes") {
      this.#isDue = false;
      this.#take(told.runtimes, "live");
    } else if (told.type === "gone") this.#end(told.runtime);
    else if (told.type === "waits") {
      for (const { runtime, listener } of this.#pending.values()) {
        if (runtime === told.runtime) listener.waits?.(told.on);
      }
    } else if (told.type === "failed") console.warn(`nbcompose: ${told.message}`);
    else {
      const { message } = told;
      const id = message.id ?? "";
      const pending = this.#pending.get(id);
      if (!pending) return;
      if (isReply(message)) this.#pending.delete(id);
      pending.listener.hear(message);
      this.#update();
    }
  }

  /** A process has ended. */
  #end(runtime: string): void {
    for (const [id, pending] of this.#pending) {
      if (pending.runtime !== runtime) continue;
      this.#pending.delete(id);
      pending.listener.gone?.();
    }
    this.#update();
  }

  // -- what is said

  #add(pending: Pending): string {
    this.#serial += 1;
    const id = `lab-${this.#serial}`;
    this.#pending.set(id, pending);
    if (this.#socket?.readyState === OPEN) this.#send(id, pending);
    if (this.#isUnavailable) this.#become("idle"); // it may be there now
    this.#update();
    return id;
  }

  #send(id: string, { runtime, request }: Pending): void {
    this.#say({ to: runtime, message: { ...request, id } });
  }

  #say(message: unknown): void {
    if (this.#socket?.readyState === OPEN) this.#socket.send(JSON.stringify(message));
  }
}

function conditionOf(error: unknown): Condition {
  if (!(error instanceof ListError)) return "lost";
  if (error.status === 404) return "missing";
  return error.status === 401 || error.status === 403 ? "refused" : "lost";
}
