// One api: its form, its buttons, and the outcome of its last call.

/** @import { CallMessage, Copies, Form, Item, Kept } from "./messages.d.ts" */
/** @import { Feed } from "../../../../_replica/http/static/types.d.ts" */
/** @import { Heard, Kernel } from "./types.d.ts" */

import { button, fresh, h } from "../../../../_replica/http/static/elements.js";
import { form } from "../../../../_replica/http/static/form.js";
import { outcome } from "../../../../_replica/http/static/outcome.js";
import { failure } from "../../../../_replica/http/static/result.js";
import { copied, toClipboard, usesVariable } from "./copying.js";
import { rendered } from "./markup.js";
import { described, streamSources } from "./producers.js";

/** @type {Record<keyof Copies, string>} */
const KINDS = { python: "notebook", script: "Python script", terminal: "terminal", javascript: "Node script" };

const NO_PIPE = "not copied: there is code for the stream of a service in a notebook, and in a terminal";
/** Why a call that takes streams of services is not copied. @type {Record<keyof Copies, string>} */
const NO_CODE = {
  python: "not copied yet: the form of a stream is still to come",
  script: NO_PIPE,
  terminal: "not copied: a pipe has one stream, and arguments that an address can have",
  javascript: NO_PIPE,
};

const NOTED = 4000; // ms that the note stands which says that something was copied

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
  const copyAs = [h("span.nbc-space"), h("span.nbc-dim", {}, "Copy for"), ...copies];
  const foot = h("div.nbc-foot", {}, call, cancel, ...copyAs, note);
  const element = h("div", {}, about, area, result.element);
  const sources = streamSources(kernel);
  /** @type {Form | null} */
  let told = null;
  let known = "";
  /** @type {ReturnType<typeof form> | null} */
  let fields = null;
  let current = "";
  let begun = false; // whether a call has been made here
  let next = 0; // the number of the item that comes next
  /** @type {Record<string, {feed: Feed, sent?: number}>} the streams that are typed for the call under way */
  let typed = {};
  let wasTyping = false;
  /** @type {Map<string, (answer: Heard | null) => void>} what hears of an item that was sent, by request */
  const fed = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let noted;

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
    fields = form({ ...described(message, sources), live: true });
    area.replaceChildren(...fields.elements, foot);
    fields.run(typed);
  }

  /** @param {Event} event */
  function begin(event) {
    event.preventDefault();
    if (current || kernel.condition() === "gone" || !fields) return;
    const values = fields.values();
    if (!values) {
      result.hide();
      return;
    }
    const hadFocus = document.activeElement === call;
    current = fresh();
    [begun, next] = [true, 0];
    busy(true);
    if (hadFocus) cancel.focus({ preventScroll: true }); // what is in sight is the result
    result.begin();
    if (kernel.condition() === "busy") result.wait();
    kernel.send({ type: "call", id: current, service: name, api, arguments: values });
    for (const [parameter, value] of Object.entries(values)) {
      if (value?.$typed) typed[parameter] = { feed: feeding(value.$typed.stream), sent: value.$typed.items.length };
    }
    type();
  }

  /** Show of the form only the lines that are typed while the call runs: the answers stand below them, in sight. */
  function type() {
    const typing = Object.keys(typed).length > 0;
    const changed = element.classList.toggle("nbc-typing", typing) !== wasTyping;
    wasTyping = typing;
    fields?.run(typed);
    if (changed) result.element.scrollIntoView?.({ block: "nearest" });
  }

  /** What sends the items of a stream. @param {string} stream @returns {Feed} */
  function feeding(stream) {
    return (what) =>
      new Promise((resolve) => {
        const id = fresh();
        fed.set(id, (answer) => {
          const refused = answer?.type === "failed" ? answer : null;
          resolve(refused && { message: refused.message, problems: refused.problems });
        });
        if ("item" in what) kernel.send({ type: "feed", id, stream, item: what.item });
        else kernel.send({ type: "end_feed", id, stream });
      });
  }

  /** Go on with a call that another page has made, or this one before it was loaded anew. @param {Kept} kept */
  function resume(kept) {
    if (begun || !kept.call) return;
    [begun, next] = [true, 0];
    result.begin(kept.seconds);
    current = kept.call;
    busy(true);
    for (const [parameter, stream] of Object.entries(kept.typed ?? {})) {
      typed[parameter] = { feed: feeding(stream) };
    }
    type();
    take(kept.items);
    result.missed(kept.count - next);
    next = kept.count;
    if (kept.end) settle(kept.end);
  }

  /** Items that have not come yet: some may be on the way that the kernel has told of already. @param {Item[]} items */
  function take(items) {
    const fresh = items.filter((item) => item.n >= next);
    if (!fresh.length) return;
    next = fresh[fresh.length - 1].n + 1;
    result.items(fresh.map((item) => item.bundle));
  }

  /** @param {boolean} on */
  function busy(on) {
    cancel.hidden = !on;
    if (!on) current = "";
    lock();
  }

  /** One call at a time, and none where nobody is to make it. */
  function lock() {
    const gone = kernel.condition() === "gone";
    call.disabled = gone || current !== "";
    call.title = gone ? "the kernel was restarted or has ended" : "";
  }

  /** @param {keyof Copies} kind */
  async function copy(kind) {
    const values = fields?.values();
    if (!told || !values) return;
    const stays = kind !== "python" && usesVariable(values);
    const text = stays ? null : copied(told, kind, values, sources.told);
    if (text !== null) await toClipboard(text);
    note.textContent =
      text !== null
        ? `copied for a ${KINDS[kind]}`
        : stays
          ? "not copied: a variable is known in the notebook only"
          : NO_CODE[kind];
    clearTimeout(noted);
    noted = setTimeout(() => {
      note.textContent = "";
    }, NOTED);
  }

  /** @param {CallMessage} message */
  function settle(message) {
    result.begun();
    if (message.type === "begun") return;
    if (message.type === "item") return take([message]);
    if (message.type === "items") return take(message.items);
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
    typed = {};
    type();
    for (const answer of fed.values()) answer(null);
    fed.clear();
    busy(false);
    if (hadFocus) call.focus({ preventScroll: true });
  }

  area.addEventListener("submit", begin);
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.shiftKey)) begin(event);
  });
  renew();
  kernel.send({ type: "kept", service: name, api });
  return {
    element,
    renew,
    /** The graph may have other streams than it had. */
    offer: () => fields?.renew(),
    /** @param {Heard} message */
    hear(message) {
      const mine = "api" in message && message.service === name && message.api === api;
      if (sources.hear(message)) fields?.renew();
      if (message.type === "form" && mine) build(message);
      else if (message.type === "kept" && mine) resume(message);
      else if (message.type === "failed" && message.action === "form" && mine) {
        area.replaceChildren(h("div.nbc-error", {}, message.message));
      } else if (message.type === "link") {
        lock();
        if (!current) return;
        if (kernel.condition() === "busy") result.wait();
        else if (kernel.condition() === "gone") {
          result.end("failed", "the kernel is gone");
          rest();
        }
      } else if ("id" in message && message.id && fed.has(message.id)) {
        fed.get(message.id)?.(message);
        fed.delete(message.id);
      } else if ("id" in message && message.id === current) settle(/** @type {CallMessage} */ (message));
    },
    /** The api is gone. A page that is only closed leaves its call: it may come back. */
    cancel() {
      if (current) kernel.send({ type: "cancel", id: current });
    },
  };
}
