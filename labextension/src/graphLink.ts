// The link of a graph to a process, through Jupyter's server. What `link.js` is over the comm of a widget.

import type { IDisposable } from "@lumino/disposable";
import type { Request, State } from "../../nbcompose/_notebook/graph/static/src/messages.d.ts";
import type { Condition, Heard, Kernel, Last } from "../../nbcompose/_notebook/graph/static/src/types.d.ts";
import { isReply, type RuntimeEvent, type RuntimeReply } from "./protocol.ts";
import { type Asked, type Conversation, type Page, RequestFailed, type Services } from "./services.ts";

const PACE = 50; // ms between messages of one stream to the views: more would overload the browser
const MOST_CALL = 32 * 2 ** 20 - 4096; // of the runtime protocol's messages, less what is around a call
const SETTLES = 150; // ms in which a width is the same before the picture is laid out for it
const NOTHING: State = { version: 0, services: [], edges: [], svg: "" };

type Items = Extract<RuntimeEvent, { type: "item" }>[];

/** What is said where there is nothing to be seen, and of the link's conditions. */
export interface LinkWords {
  empty: string;
  busy?: string;
  lost: string;
  gone: string;
}

/**
 * One view's link. It watches while the view can be seen, has folded what the view has folded, and has the picture laid
 * out for the view's width.
 *
 * A process that ends leaves it `gone` until `renew()`: a kernel that is restarted has its id again.
 */
export class GraphLink implements Kernel {
  readonly words: Kernel["words"];
  #state = NOTHING;
  #condition: Condition = "";
  #last: Last = {};
  #listeners = new Set<(message: Heard) => void>();
  #views = new Set<Element>();
  #folded = new Set<string>();
  #width = 0; // for which pictures are laid out; 0: not known
  #resizing: ReturnType<typeof setTimeout> | undefined;
  #asked = new Map<string, Conversation>(); // by the view's id
  #streams = new Map<string, Stream>();
  #serial = 0;
  #watch: IDisposable | null = null;
  #isShown = true;
  #isClosed = false;

  constructor(
    private readonly services: Pick<Services, "open" | "converse">,
    readonly runtime: string,
    private readonly said: LinkWords,
    private readonly page: Page = document,
  ) {
    this.words = {
      // Made when it is shown: it may say since when.
      get busy() {
        return said.busy;
      },
      lost: said.lost,
      gone: said.gone,
    };
    page.addEventListener("visibilitychange", this.#update);
  }

  state(): State {
    return this.#state;
  }

  empty(): string {
    return this.said.empty;
  }

  last(): Last {
    return this.#last;
  }

  condition(): Condition {
    return this.#condition;
  }

  /** Whether what the view is in can be seen at all. */
  set isShown(shown: boolean) {
    this.#isShown = shown;
    this.#update();
  }

  send(message: Request): void {
    if (this.#isClosed || this.#condition === "gone") return;
    if (message.type === "fold") this.#fold(message.service, message.on);
    else if (message.type === "cancel") this.#asked.get(message.id)?.cancel();
    // The other two are a widget's: looks are seen to here, and no call outlives the page that made it.
    else if (message.type !== "look" && message.type !== "kept") this.#ask(message);
  }

  listen(listener: (message: Heard) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  look(view: Element, on: boolean): void {
    if (on) this.#views.add(view);
    else this.#views.delete(view);
    this.#update();
  }

  /** The first width is taken at once, others when nobody drags any more. */
  room(width: number): void {
    clearTimeout(this.#resizing);
    if (width === this.#width || this.#isClosed) return;
    if (!this.#width) this.#width = width;
    else
      this.#resizing = setTimeout(() => {
        this.#width = width;
        this.#again();
      }, SETTLES);
  }

  /** Take up again: the process is there, or another one in its place. */
  renew(): void {
    if (this.#isClosed) return;
    this.#watch?.dispose();
    this.#watch = null;
    this.#become("");
    this.#update();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.page.removeEventListener("visibilitychange", this.#update);
    clearTimeout(this.#resizing);
    this.#listeners.clear();
    this.#update();
    for (const asked of [...this.#asked.values()]) asked.cancel();
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
  }

  // -- the state

  #update = (): void => {
    const isSeen = this.#isShown && this.#views.size > 0 && !this.page.hidden;
    const wanted = isSeen && !this.#isClosed && this.#condition !== "gone";
    if (wanted) this.#watch ??= this.#open();
    else {
      this.#watch?.dispose();
      this.#watch = null;
    }
  };

  #open(): IDisposable {
    const width = this.#width ? { width: this.#width } : {};
    const request: Asked = { type: "watch", picture: true, folded: [...this.#folded].sort(), ...width };
    return this.services.open(this.runtime, request, {
      hear: (message) => this.#show(message),
      connected: (on) => this.#condition !== "gone" && this.#become(on ? "" : "lost"),
      waits: (on) => this.#wait(on),
      gone: () => this.#lose(),
    });
  }

  #show(message: RuntimeReply | RuntimeEvent): void {
    if (message.type === "state") {
      const { version, services, edges, svg } = message;
      this.#state = { version, services, edges, svg };
      if (this.#condition !== "busy") this.#become("");
      this.#tell({ type: "state" });
    } else if (isReply(message)) this.#lose(); // it stops, or it refuses
  }

  /** The kernel runs a cell, and hears nothing: what it says of itself may come all the same. */
  #wait(on: boolean): void {
    if (this.#condition === (on ? "" : "busy")) this.#become(on ? "busy" : "");
  }

  #lose(): void {
    this.#watch = null;
    this.#become("gone");
  }

  #become(condition: Condition): void {
    if (this.#condition === condition) return;
    this.#condition = condition;
    this.#tell({ type: "link" });
  }

  #fold(service: string, on: boolean): void {
    if (on) this.#folded.add(service);
    else this.#folded.delete(service);
    this.#again();
  }

  /** Watch otherwise: the state is said at once. */
  #again(): void {
    this.#watch?.dispose();
    this.#watch = null;
    this.#update();
  }

  // -- what is asked

  #ask(message: Exclude<Request, { type: "look" | "fold" | "kept" | "cancel" }>): void {
    this.#serial += 1;
    const { id = `graph-${this.#serial}`, ...request } = message;
    if (request.type === "call") {
      this.#last = { service: request.service, api: request.api };
      const length = JSON.stringify(request).length;
      if (length > MOST_CALL) {
        const words = `The arguments take ${length.toLocaleString()} bytes; from a form they can take ${MOST_CALL.toLocaleString()}. Make the call in a cell.`;
        this.#tell(failed(id, message, new RequestFailed("ValueError", words)));
        return;
      }
    }
    const conversation = this.services.converse(this.runtime, request as Asked, {
      hear: (said) => this.#hear(id, said),
      fail: (error) => {
        this.#end(id);
        this.#tell(failed(id, message, error));
      },
    });
    this.#asked.set(id, conversation);
  }

  #hear(id: string, said: RuntimeReply | RuntimeEvent): void {
    const message = { ...said, id } as Heard;
    if (message.type === "item") {
      const stream = this.#streams.get(id) ?? new Stream((items) => this.#tell({ type: "items", id, items }));
      this.#streams.set(id, stream);
      stream.put(message);
      return;
    }
    if (isReply(said)) this.#end(id);
    this.#tell(message);
  }

  /** All that has come of it is said before its end. */
  #end(id: string): void {
    this.#asked.delete(id);
    this.#streams.get(id)?.close();
    this.#streams.delete(id);
  }

  #tell(message: Heard): void {
    for (const listener of [...this.#listeners]) listener(message);
  }
}

/** The items of one call: the first at once, later ones in groups. */
class Stream {
  #waiting: Items = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly tell: (items: Items) => void) {}

  put(item: Items[number]): void {
    this.#waiting.push(item);
    if (this.#timer === undefined) this.#flush();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#tell();
  }

  #flush = (): void => {
    this.#timer = this.#waiting.length ? setTimeout(this.#flush, PACE) : undefined;
    this.#tell();
  };

  #tell(): void {
    const items = this.#waiting;
    this.#waiting = [];
    if (items.length) this.tell(items);
  }
}

/** A request that has not come to its process, as the process would say it. */
function failed(id: string, request: Request, error: Error): Heard {
  const name = error instanceof RequestFailed ? error.kind : "ConnectionError";
  if (name === "Cancelled") return { type: "cancelled", id, seconds: 0 };
  return {
    type: "failed",
    id,
    action: request.type,
    ...("service" in request && { service: request.service }),
    ...("api" in request && { api: request.api }),
    ...("trace" in request && { trace: request.trace }),
    name,
    message: error.message,
    traceback: "",
    problems: [],
    seconds: 0,
  };
}
