// One api: its form, its buttons, and the outcome of its last call.

/** @import { CallMessage, Copies, Form } from "./messages.d.ts" */
/** @import { Heard, Kernel } from "./types.d.ts" */

import { button, fresh, h } from "../../../../_replica/http/static/elements.js";
import { form } from "../../../../_replica/http/static/form.js";
import { outcome } from "../../../../_replica/http/static/outcome.js";
import { failure } from "../../../../_replica/http/static/result.js";
import { copied } from "./copying.js";
import { rendered } from "./markup.js";

/** @type {Record<keyof Copies, string>} */
const KINDS = { python: "Python", httpx: "httpx", curl: "curl" };

/** @param {Kernel} kernel @param {string} name @param {string} api */
export function caller(kernel, name, api) {
  const about = h("div.nbc-signature");
  const area = h("form.nbc-form", { novalidate: true }, h("div.nbc-dim", {}, "…"));
  const call = h("button.nbc-button.nbc-primary", { type: "submit" }, "Call");
  const cancel = button("Cancel", () => current && kernel.send({ type: "cancel", id: current }), { hidden: true });
  const note = h("span.nbc-note", { role: "status" });
  const result = outcome(`${name}.${api}`, rendered);
  /** @param {keyof Copies} kind */
  const quiet = (kind) => ({ class: "nbc-button nbc-quiet", "data-copy": kind });
  const kinds = /** @type {(keyof Copies)[]} */ (Object.keys(KINDS));
  const copies = kinds.map((kind) => button(KINDS[kind], () => copy(kind), quiet(kind)));
  const copyAs = [h("span.nbc-space"), h("span.nbc-dim", {}, "Copy as"), ...copies];
  const foot = h("div.nbc-foot", {}, call, cancel, ...copyAs, note);
  const element = h("div", {}, about, area, result.element);
  /** @type {Form | null} */
  let told = null;
  let known = "";
  /** @type {ReturnType<typeof form> | null} */
  let fields = null;
  let current = "";

  const renew = () => kernel.send({ type: "form", service: name, api });

  /** @param {Form} message */
  function build(message) {
    const now = JSON.stringify(message);
    if (now === known) return;
    // What was typed stays where the form is as it was.
    /** @param {Form | null} of */
    const shape = (of) => JSON.stringify([of?.schema, of?.parts]);
    const same = shape(told) === shape(message);
    [known, told] = [now, message];
    const doc = message.doc ? h("div.nbc-about", {}, message.doc) : "";
    about.replaceChildren(h("span.nbc-code", {}, message.signature), doc);
    if (same) return;
    const { schema, parts, variables } = message;
    fields = form({ schema, root: schema, parts, reads: true, variables });
    area.replaceChildren(...fields.elements, foot);
  }

  /** @param {Event} event */
  function begin(event) {
    event.preventDefault();
    const values = !current && kernel.condition() !== "gone" ? fields?.values() : null;
    if (!values) return;
    const hadFocus = document.activeElement === call;
    current = fresh();
    busy(true);
    if (hadFocus) cancel.focus();
    result.begin();
    if (kernel.condition() === "busy") result.wait();
    kernel.send({ type: "call", id: current, service: name, api, arguments: values });
  }

  /** @param {boolean} on */
  function busy(on) {
    call.disabled = on;
    cancel.hidden = !on;
    if (!on) current = "";
  }

  /** @param {keyof Copies} kind */
  async function copy(kind) {
    const values = fields?.values();
    if (!told || !values) return;
    await toClipboard(copied(told, kind, values));
    note.textContent = "copied";
    setTimeout(() => {
      note.textContent = "";
    }, 2000);
  }

  /** @param {CallMessage} message */
  function settle(message) {
    result.begun();
    if (message.type === "begun") return;
    if (message.type === "item") return result.items([message.bundle]);
    if (message.type === "items") return result.items(message.items.map((m) => m.bundle));
    const { seconds } = message;
    if (message.type === "result") result.end("done", "done in", seconds, rendered(message.bundle));
    else if (message.type === "end") result.end("done", "", seconds);
    else if (message.type === "cancelled") result.end("cancelled", "cancelled after", seconds);
    else {
      result.end("failed", "failed after", seconds, ...failure(message));
      fields?.problems(message.problems);
    }
    rest();
  }

  /** Nothing is under way any more. A button that goes away hands the focus on. */
  function rest() {
    const hadFocus = document.activeElement === cancel;
    busy(false);
    if (hadFocus) call.focus();
  }

  area.addEventListener("submit", begin);
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.shiftKey)) begin(event);
  });
  renew();
  return {
    element,
    renew,
    /** @param {Heard} message */
    hear(message) {
      const mine = "api" in message && message.service === name && message.api === api;
      if (message.type === "form" && mine) build(message);
      else if (message.type === "failed" && message.action === "form" && mine) {
        area.replaceChildren(h("div.nbc-error", {}, message.message));
      } else if (message.type === "link" && current) {
        if (kernel.condition() === "busy") result.wait();
        else if (kernel.condition() === "gone") {
          result.end("failed", "the kernel is gone");
          rest();
        }
      } else if ("id" in message && message.id === current) settle(/** @type {CallMessage} */ (message));
    },
    close() {
      if (current) kernel.send({ type: "cancel", id: current });
    },
  };
}

/** @param {string} text */
async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { style: "position:fixed;opacity:0" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}
