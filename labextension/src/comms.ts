// The kernels that Jupyter's server does not see, and that have nbcompose: found by `comm_info`, asked over comms.

import { type Asking, CommChannel, type CommKernel, type Said, TARGET } from "./commChannel.ts";
import type { Listed } from "./protocol.ts";

const SEEN_WITHIN = 2000; // ms in which a server sees a process that has loaded nbcompose
const SETTLES = 2000; // ms that a list waits for kernels

/** What is known of the server: whether it has nbcompose's extension, and lets this user see services. */
export type ServerState = "unknown" | "there" | "missing" | "refused";

export interface CommListener {
  /** Others are listed, or what is listed has changed. */
  changed(): void;
  said(kernel: string, message: Said): void;
  waits(kernel: string, on: boolean): void;
  /** Nothing more comes of what was asked of it. */
  gone(kernel: string): void;
}

/**
 * `due`: since when it may have nbcompose without its being known here; null where it has been asked. `last`: how it was
 * listed last, for the time that a new comm takes to be answered. `refuses`: it has closed the comm at once, and said why.
 */
interface Entry {
  kernel: CommKernel;
  due: number | null;
  asking: boolean;
  channel: CommChannel | null;
  has: boolean;
  last: Listed | null;
  refuses: boolean;
}

/**
 * Nothing is asked of a kernel that the server sees, that runs a cell, or while nobody wants to know. One that may have
 * loaded nbcompose is asked once.
 */
export class Comms {
  #entries = new Map<string, Entry>();
  #listeners = new Set<CommListener>();
  #server: ServerState = "unknown";
  #seen: ReadonlySet<string> = new Set();
  #kept = false;
  #looks = false;

  listen(listener: CommListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // -- kernels of open notebooks

  add(kernel: CommKernel): void {
    if (this.#entries.has(kernel.id)) return;
    this.#entries.set(kernel.id, {
      kernel,
      due: null,
      asking: false,
      channel: null,
      has: false,
      last: null,
      refuses: false,
    });
    this.mayHave(kernel.id);
  }

  remove(id: string): void {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    if (entry) this.#drop(entry);
  }

  /** Something was run that may have loaded nbcompose. */
  mayHave(id: string): void {
    const entry = this.#entries.get(id);
    if (!entry || entry.has) return;
    entry.due = Date.now();
    this.#askDue();
    if (entry.due !== null) setTimeout(() => this.#askDue(), SEEN_WITHIN);
  }

  /** It has lost all that it knew. */
  restarted(id: string): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#drop(entry);
    this.mayHave(id);
  }

  /** A cell runs in it, or none does. */
  runs(id: string, on: boolean): void {
    const entry = this.#entries.get(id);
    if (!entry) return;
    if (entry.channel) entry.channel.busy = on;
    if (!on) this.#askDue();
  }

  /** Its notebook has another name. */
  renamed(id: string): void {
    if (this.#entries.get(id)?.channel) this.#tell((listener) => listener.changed());
  }

  // -- what is wanted

  /** What the server's list says. */
  setServer(state: ServerState, seen: Iterable<string>): void {
    this.#server = state;
    this.#seen = new Set(seen);
    for (const entry of this.#entries.values()) this.#update(entry);
    this.#askDue();
  }

  /** Whether anybody wants to know what runs. */
  set kept(on: boolean) {
    this.#kept = on;
    for (const entry of this.#entries.values()) this.#update(entry);
    if (on) this.#askDue();
  }

  /** Whether numbers are to come as they change. */
  set looks(on: boolean) {
    this.#looks = on;
    for (const { channel } of this.#entries.values()) if (channel) channel.looks = on;
  }

  /** Have them say how they are now. */
  async refresh(): Promise<void> {
    this.#askDue();
    const waiting = [...this.#entries.values()].map(async (entry) => {
      await entry.channel?.refresh();
    });
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, SETTLES);
    });
    await Promise.race([Promise.all(waiting), late]);
    clearTimeout(timer);
  }

  get listed(): Listed[] {
    return [...this.#entries.values()]
      .filter((entry) => this.#isOurs(entry))
      .flatMap((entry) => this.#listed(entry) ?? []);
  }

  /** Whether there is one to be asked. */
  get isAny(): boolean {
    return [...this.#entries.values()].some((entry) => this.#isOurs(entry));
  }

  has(id: string): boolean {
    const entry = this.#entries.get(id);
    return entry !== undefined && this.#isOurs(entry) && entry.channel !== null;
  }

  ask(id: string, message: Asking): void {
    this.#entries.get(id)?.channel?.send(message);
  }

  // -- who has it

  #listed(entry: Entry): Listed | null {
    const { channel, last } = entry;
    if (channel?.listed) entry.last = channel.listed;
    else if (channel && last?.comm) entry.last = { ...last, comm: { ...last.comm, waits: channel.waits } };
    return entry.last;
  }

  #isOurs({ kernel, has }: Entry): boolean {
    return has && !this.#seen.has(kernel.id) && (this.#server === "there" || this.#server === "missing");
  }

  #askDue(): void {
    for (const entry of this.#entries.values()) if (this.#isToBeAsked(entry)) void this.#ask(entry);
  }

  #isToBeAsked({ kernel, due, asking }: Entry): boolean {
    if (due === null || asking || !this.#kept || this.#seen.has(kernel.id) || !kernel.isIdle()) return false;
    return this.#server === "missing" || (this.#server === "there" && Date.now() - due >= SEEN_WITHIN);
  }

  async #ask(entry: Entry): Promise<void> {
    entry.due = null;
    entry.asking = true;
    try {
      entry.has = await entry.kernel.has(TARGET);
    } catch {
      // it has ended, or was restarted, which is told
    } finally {
      entry.asking = false;
    }
    if (this.#entries.get(entry.kernel.id) === entry) this.#update(entry);
  }

  /** Open the comm, or close it, as it is wanted. */
  #update(entry: Entry): void {
    const { channel } = entry;
    const wanted = this.#isOurs(entry) && !entry.refuses && (this.#kept || channel?.isUsed);
    if (wanted && !channel) {
      entry.channel = this.#open(entry);
      entry.channel.looks = this.#looks;
      entry.channel.busy = !entry.kernel.isIdle();
    } else if (!wanted && channel) {
      entry.channel = null;
      channel.close();
      this.#tell((listener) => listener.gone(entry.kernel.id));
    }
  }

  #open(entry: Entry): CommChannel {
    const { id } = entry.kernel;
    return new CommChannel(entry.kernel, {
      changed: () => this.#tell((listener) => listener.changed()),
      said: (message) => {
        this.#tell((listener) => listener.said(id, message));
        if (!this.#kept) this.#update(entry);
      },
      waits: (on) => {
        this.#tell((listener) => listener.waits(id, on));
        this.#tell((listener) => listener.changed());
      },
      closed: () => this.#closed(entry),
    });
  }

  /** The kernel has closed the comm: nbcompose was unloaded or loaded again, or it has refused. */
  #closed(entry: Entry): void {
    const { id } = entry.kernel;
    const last = this.#listed(entry);
    this.#drop(entry);
    if (this.#entries.get(id) !== entry || !last) return;
    if (last.trouble) {
      Object.assign(entry, { has: true, refuses: true, last });
      this.#tell((listener) => listener.changed());
    } else this.mayHave(id);
  }

  #drop(entry: Entry): void {
    const { channel } = entry;
    entry.channel = null;
    entry.has = false;
    entry.due = null;
    entry.last = null;
    entry.refuses = false;
    if (!channel) return;
    channel.close();
    this.#tell((listener) => listener.gone(entry.kernel.id));
    this.#tell((listener) => listener.changed());
  }

  #tell(say: (listener: CommListener) => void): void {
    for (const listener of [...this.#listeners]) say(listener);
  }
}
