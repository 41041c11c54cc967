// Jupyter's server and the kernels that it does not see, as one: what `Services` asks.

import type { Asking, Said } from "./commChannel.ts";
import type { CommListener, Comms } from "./comms.ts";
import { isReply, type Listed, type Told } from "./protocol.ts";
import { ListError, type Server, type SocketLike } from "./services.ts";

const ASKS_AGAIN = 60_000; // ms until a server without the extension is asked again while comms do its work
const [CONNECTING, OPEN, CLOSED] = [0, 1, 3]; // of WebSocket, which node does not have
/** Of the server's messages only lists are of interest, and their type comes first: large ones are not read twice. */
const LIST = '"runtimes"';
const HEAD = 40; // characters

export class JoinedServer implements Server {
  /** Called when the list may have changed. */
  changed: () => void = () => {};
  #sockets = new Set<JoinedSocket>();
  #missing = 0; // since when the server is known to lack the extension

  constructor(
    private readonly server: Server,
    private readonly comms: Comms,
  ) {
    comms.listen({
      changed: () => {
        const looking = [...this.#sockets].filter((socket) => socket.looks);
        for (const socket of looking) socket.changed();
        if (!looking.length) this.changed();
      },
      said: (kernel, message) => this.#each((socket) => socket.said(kernel, message)),
      waits: (kernel, on) => this.#each((socket) => socket.waits(kernel, on)),
      gone: (kernel) => this.#each((socket) => socket.gone(kernel)),
    });
  }

  keep(on: boolean): void {
    this.comms.kept = on;
  }

  async list(): Promise<Listed[]> {
    let listed: Listed[] = [];
    let error: unknown = null;
    const isSpared = this.#missing > 0 && Date.now() - this.#missing < ASKS_AGAIN && this.comms.isAny;
    if (!isSpared) {
      try {
        listed = await this.server.list();
        this.#missing = 0;
        this.comms.setServer("there", idsOf(listed));
      } catch (caught) {
        if (!(caught instanceof ListError)) throw caught;
        error = caught;
        this.#missing = caught.status === 404 ? Date.now() : 0;
        if (caught.status === 404) this.comms.setServer("missing", []);
        else if (caught.status === 401 || caught.status === 403) this.comms.setServer("refused", []);
      }
    }
    await this.comms.refresh();
    if (error && !(this.#missing && this.comms.isAny)) throw error;
    return [...listed, ...this.comms.listed];
  }

  connect(): SocketLike {
    const below = this.#missing && this.comms.isAny ? null : this.server.connect();
    const socket = new JoinedSocket(below, this.comms, () => {
      this.#sockets.delete(socket);
      this.#look();
    });
    socket.looked = () => this.#look();
    this.#sockets.add(socket);
    return socket;
  }

  #look(): void {
    this.comms.looks = [...this.#sockets].some((socket) => socket.looks);
  }

  #each(say: (socket: JoinedSocket) => void): void {
    for (const socket of [...this.#sockets]) say(socket);
  }
}

const idsOf = (runtimes: readonly Listed[]): string[] => runtimes.map(({ id }) => id);

/** `below`: the server's, where it has the extension. */
class JoinedSocket implements SocketLike, CommListener {
  onopen: (() => void) | null = null;
  onclose: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  looks = false;
  looked: () => void = () => {};
  #state = CONNECTING;
  #listed: readonly Listed[] | null = null; // by the server
  #asked = new Map<string, string>(); // kernels by the ids of what was asked of them here

  constructor(
    private readonly below: SocketLike | null,
    private readonly comms: Comms,
    private readonly left: () => void,
  ) {
    if (!below) {
      queueMicrotask(() => this.#open());
      return;
    }
    below.onopen = () => this.#open();
    below.onclose = () => this.#lose();
    below.onmessage = (event) => this.#hear(event);
  }

  get readyState(): number {
    return this.#state;
  }

  send(text: string): void {
    const said = JSON.parse(text) as { type?: string; on?: boolean; to?: string; message?: Asking };
    if (said.type === "look") {
      this.looks = Boolean(said.on);
      this.looked();
      this.below?.send(text);
      if (this.looks) this.changed();
    } else if (said.to !== undefined && said.message && this.comms.has(said.to)) {
      if (said.message.type !== "cancel") this.#asked.set(said.message.id, said.to);
      this.comms.ask(said.to, said.message);
    } else if (this.below) this.below.send(text);
    else if (said.to !== undefined) this.#tell({ type: "gone", runtime: said.to });
  }

  close(): void {
    if (this.#state === CLOSED) return;
    this.#leave();
    this.below?.close();
  }

  // -- of the comms

  changed(): void {
    if (this.#state !== OPEN || !this.looks || (this.below && !this.#listed)) return;
    // Without anybody to ask it is found out anew who is there.
    if (!this.below && !this.comms.isAny) this.#lose();
    else this.#tell({ type: "runtimes", runtimes: [...(this.#listed ?? []), ...this.comms.listed] });
  }

  said(kernel: string, message: Said): void {
    if (!message.id || !this.#asked.has(message.id)) return;
    if (isReply(message)) this.#asked.delete(message.id);
    this.#tell({ from: kernel, message });
  }

  waits(kernel: string, on: boolean): void {
    this.#tell({ type: "waits", runtime: kernel, on });
  }

  gone(kernel: string): void {
    for (const [id, asked] of this.#asked) if (asked === kernel) this.#asked.delete(id);
    this.#tell({ type: "gone", runtime: kernel });
  }

  // -- of the server

  #hear(event: { data: string }): void {
    const told = event.data.slice(0, HEAD).includes(LIST) ? (JSON.parse(event.data) as Told) : null;
    if (told?.type !== "runtimes") {
      this.onmessage?.(event);
      return;
    }
    this.#listed = told.runtimes;
    this.comms.setServer("there", idsOf(told.runtimes));
    this.changed();
  }

  #open(): void {
    if (this.#state !== CONNECTING) return;
    this.#state = OPEN;
    this.onopen?.();
  }

  #lose(): void {
    if (this.#state === CLOSED) return;
    this.#leave();
    this.onclose?.();
  }

  /** What was asked of kernels is not heard any more: they need not go on with it. */
  #leave(): void {
    this.#state = CLOSED;
    this.looks = false;
    for (const [id, kernel] of this.#asked) this.comms.ask(kernel, { type: "cancel", id });
    this.#asked.clear();
    this.left();
  }

  #tell(told: Told): void {
    if (this.#state === OPEN) this.onmessage?.({ data: JSON.stringify(told) });
  }
}
