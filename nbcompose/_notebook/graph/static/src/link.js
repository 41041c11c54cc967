// The link to the kernel: one for each model, shared by its views.

/** @import { Message, Request } from "./messages.d.ts" */
/** @import { Condition, Heard, Kernel, Model } from "./types.d.ts" */

import { fresh } from "../../../../_replica/http/static/elements.js";

const PATIENCE = 800; // ms until an answer that has not come means that the kernel is busy
// Either may come without the other: what is folded changes the picture alone.
const PARTS = ["change:svg", "change:state"];
/** @type {Set<Request["type"]>} whose answer is their end */
const SLOW = new Set(["cancel", "restart", "stop", "scale", "rollback"]);

/**
 * What a view needs to ask the kernel and to hear from it.
 *
 * @param {Model} model
 * @param {Pick<Document, "hidden" | "addEventListener" | "removeEventListener">} page
 * @returns {Kernel}
 */
export function link(model, page = document) {
  /** @type {Set<(message: Heard) => void>} */
  const listeners = new Set();
  const client = fresh();
  /** @type {Set<Element>} */
  const visible = new Set();
  /** @type {Condition} */
  let condition = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let waiting;
  /** @param {Heard} message */
  const tell = (message) => [...listeners].forEach((listener) => listener(message));
  const onState = () => tell({ type: "state" });
  const tellLook = () => send({ type: "look", client, on: visible.size > 0 && !page.hidden });
  const renew = setInterval(() => visible.size && tellLook(), 10000);

  /** @param {Condition} now */
  function become(now) {
    if (condition === now || condition === "gone") return;
    condition = now;
    tell({ type: "link" });
  }

  /** @param {Request} message */
  function send(message) {
    if (condition === "gone") return;
    try {
      model.send({ id: fresh(), ...message });
    } catch {
      lose(); // its connection was closed, with its notebook: nothing comes over it any more
      return;
    }
    if (!SLOW.has(message.type)) waiting ||= setTimeout(() => become("busy"), PATIENCE);
  }

  /** Whatever the kernel says, it is not busy. @param {Message} message */
  function onMessage(message) {
    clearTimeout(waiting);
    waiting = undefined;
    become("");
    tell(message);
  }

  /** The front end says that the comm is dead: a kernel that was restarted, or has ended, knows nothing of it. */
  function lose() {
    clearTimeout(waiting);
    clearInterval(renew);
    become("gone");
  }

  model.on("msg:custom", onMessage);
  for (const part of PARTS) model.on(part, onState);
  model.on("comm_live_update", lose);
  page.addEventListener("visibilitychange", tellLook);
  return {
    state: () => ({ ...model.get("state"), svg: model.get("svg") }),
    empty: () => model.get("empty"),
    last: () => model.get("last"),
    condition: () => condition,
    send,
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    look(view, on) {
      const before = visible.size;
      on ? visible.add(view) : visible.delete(view);
      if (!before !== !visible.size) tellLook();
    },
    close() {
      lose();
      listeners.clear();
      model.off("msg:custom", onMessage);
      for (const part of PARTS) model.off(part, onState);
      model.off("comm_live_update", lose);
      page.removeEventListener("visibilitychange", tellLook);
    },
  };
}
