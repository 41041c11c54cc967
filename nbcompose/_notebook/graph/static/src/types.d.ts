// What modules hand each other. What kernel and browser tell each other is in messages.d.ts.

import type { Message, Request, Service, State } from "./messages.d.ts";

/** What is used of the widget manager of JupyterLab and Notebook 7. */
export interface Managed {
  widget_manager?: { context?: { path?: string; isDisposed?: boolean } };
}

/** What is used of a widget's model. `send` throws where there is no connection that a message could go over. */
export interface Model extends Managed {
  get(name: "element" | "svg" | "empty"): string;
  get(name: "last"): Last;
  get(name: "state"): State;
  send(message: Request): void;
  on(event: string, listener: (message: any) => void): void;
  off(event: string, listener: (message: any) => void): void;
}

/** The api that was called last, of all pages; without fields: none was. */
export interface Last {
  service?: string;
  api?: string;
}

/** What is used of the model of the cards. */
export interface CardsModel extends Managed {
  get(name: "live"): Record<string, string>;
  on(event: string, listener: () => void): void;
}

/** Of the link to the kernel. `lost`: it is made again by itself, and what is asked for waits. */
export type Condition = "" | "busy" | "lost" | "gone";

/** What views hear: the kernel's messages, and that the state or the condition of the link is another one. */
export type Heard = Message | { type: "state" } | { type: "link" };

export interface Kernel {
  state(): State;
  /** What is said while no service runs. */
  empty(): string;
  last(): Last;
  condition(): Condition;
  /** What is said of its conditions, where that is not what holds in a cell. */
  words?: Partial<Record<Condition, string>>;
  send(message: Request): void;
  /** Returns what ends it. */
  listen(listener: (message: Heard) => void): () => void;
  /** Tell whether a view can be seen. */
  look(view: Element, on: boolean): void;
  /** Have pictures laid out for this width, where they can be. */
  room?(width: number): void;
  close(): void;
}

export type TabName = "Call" | "Trace" | "Numbers" | "Logs";

/** Show the panel of a service; "" as trace: the one that is chosen there. */
export type Choose = (name: string, options?: { tab?: TabName; trace?: string; focus?: boolean }) => void;

/** Do `then` when the question has been answered by `yes`. */
export type Ask = (words: string, yes: string, then: () => void) => void;

/** A tab of a panel. */
export interface Tab {
  element: HTMLElement;
  update(service: Service): void;
  hear(message: Heard): void;
  /** Called each second, and when the tab comes to be seen. */
  tick(): void;
  close(): void;
  /** Show a trace, where the tab can. */
  show?(trace: string): void;
}

export interface Extent {
  width: number;
  height: number;
}

export interface Spot {
  x: number;
  y: number;
}

/** What is seen of a picture: its scale, and how far it is scrolled. */
export interface Glance {
  scale: number;
  left: number;
  top: number;
}

/** Where a part of a picture stands in the window. */
export interface Held extends Spot {
  id: string;
}

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}
