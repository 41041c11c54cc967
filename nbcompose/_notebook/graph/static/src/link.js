// The link to the kernel: one for each model, shared by its views.

/** @typedef {{name: string, state: string, reason: string, phase: string, coming: string, reversible: boolean,
 *   device: string, up: number, wanted: number, in_flight: number, calls: number, errors: number, rate: number,
 *   p50_ms: ?number, memory: ?number, error: string, behind: string, stale: string[], notes: string[], serving: number,
 *   id: string, dependencies: string[],
 *   apis: {name: string, signature: string, doc: string, stream: boolean}[]}} Service */
/** @typedef {{from: string, to: string, id: string, calls: number, in_flight: number, streaming: number, sent: number,
 *   received: number}} Edge */
/** @typedef {{services: Service[], edges: Edge[], svg: string}} State */

import { fresh } from "./elements.js";

const PATIENCE = 800; // ms until an answer that has not come means that the kernel is busy
const ANSWERS = new Set([
  "here", "begun", "item", "items", "result", "end", "failed", "form", "logs", "traces", "trace", "done", "refused",
]);
const SLOW = new Set(["cancel", "restart", "stop", "scale", "rollback"]); // whose answer is their end

/** What a view needs to ask the kernel and to hear from it. */
export function link(model) {
  const listeners = new Set();
  const client = fresh();
  const visible = new Set();
  let condition = "";
  let waiting = 0;
  const tell = (message) => [...listeners].forEach((listener) => listener(message));
  const onState = () => tell({ type: "state" });
  const tellLook = () => send({ type: "look", client, on: visible.size > 0 && !document.hidden });
  const renew = setInterval(() => visible.size && tellLook(), 10000);

  function become(now) {
    if (condition === now || condition === "gone") return;
    condition = now;
    tell({ type: "link" });
  }

  function send(message) {
    if (condition === "gone") return;
    model.send(message);
    if (!SLOW.has(message.type)) waiting ||= setTimeout(() => become("busy"), PATIENCE);
  }

  function onMessage(message) {
    if (ANSWERS.has(message.type)) {
      clearTimeout(waiting);
      waiting = 0;
      become("");
    }
    tell(message);
  }

  /** The front end says that the comm is dead: a kernel that was restarted, or has ended, knows nothing of it. */
  function lose() {
    clearTimeout(waiting);
    clearInterval(renew);
    become("gone");
  }

  model.on("msg:custom", onMessage);
  model.on("change:state", onState);
  model.on("comm_live_update", lose);
  document.addEventListener("visibilitychange", tellLook);
  return {
    /** @returns {State} */
    state: () => model.get("state"),
    /** @returns {"" | "busy" | "gone"} */
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
      model.off("change:state", onState);
      model.off("comm_live_update", lose);
      document.removeEventListener("visibilitychange", tellLook);
    },
  };
}
