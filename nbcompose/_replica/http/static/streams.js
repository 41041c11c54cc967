// The field of a parameter that takes a stream: its items, and in the live graph those that are typed while it runs.

/** @import { Feed, Field, FieldOptions, FormMaker, ItemKind, Schema, Upload } from "./types.d.ts" */

import { button, fresh, h } from "./elements.js";
import { controlled, previewOf, uploaded } from "./fields.js";
import { itemFrom, itemKind, itemsFrom, writtenLines } from "./items.js";
import { jsonHint, resolved } from "./schema.js";
import { chosenSource, orSource } from "./sources.js";
import { jsonFrom, messageOf } from "./values.js";
import { plural } from "./words.js";

const SLOWLY = 300; // ms until it is said that an item waits to be taken
/** @type {Record<ItemKind, string>} */
const EXAMPLES = { text: "one item per line", number: "1\n2", boolean: "true\nfalse", json: "" };

/**
 * @param {string} label
 * @param {Schema} schema of the list of its items
 * @param {FieldOptions} options
 * @param {FormMaker} make
 * @returns {Field}
 */
export function streamField(label, schema, options, make) {
  const item = resolved(schema.items, options.root);
  return item.contentEncoding === "base64"
    ? filesField(label, item, options, make)
    : itemsField(label, schema, item, options, make);
}

/**
 * @param {string} label
 * @param {Schema} schema
 * @param {Schema} item
 * @param {FieldOptions} options
 * @param {FormMaker} make
 * @returns {Field}
 */
function itemsField(label, schema, item, options, make) {
  const kind = itemKind(item);
  const hints = { lines: EXAMPLES[kind] || jsonHint(item), list: jsonHint({ type: "array", items: item }) };
  const control = h(kind === "text" ? "textarea.nbc-input" : "textarea.nbc-input.nbc-code", { rows: 3 });
  const lines = kind === "json" ? "one JSON value per line" : "one per line";
  const ways = [h("option", { value: "lines" }, lines), h("option", { value: "list" }, "a JSON list")];
  const way = h("select.nbc-input", { "aria-label": `${label}: how its items are written` }, ...ways);
  const count = h("span.nbc-dim.nbc-count");
  const more = h("input", { type: "checkbox", id: fresh() });
  const goesOn = h("span.nbc-inline", {}, more, h("label", { for: more.id }, "type more while it runs"));
  goesOn.hidden = !options.live;
  const typing = typed(label, item, kind);
  let written = way.value; // how its items are, also while they come from a service
  const isList = () => written === "list";
  const list = { ...schema, type: "array" };
  const read = () => (isList() ? jsonFrom(list, control.value) : itemsFrom(item, kind, control.value));
  const made = controlled(label, { ...schema, description: item.description }, control, options, read);
  let touched = false;

  /** @param {any[]} items */
  const words = (items) => (items.length ? plural(items.length, "item") : "no items");

  function tell() {
    count.textContent = made.check() ? "" : words(read());
  }

  /** What is there is written in the other way, where it can be. */
  function rewrite() {
    if (chosenSource(way) || way.value === written) return;
    written = way.value;
    const before = control.value;
    try {
      const items = isList() ? itemsFrom(item, kind, before) : jsonFrom(list, before);
      control.value = isList() ? (items.length ? JSON.stringify(items) : "") : (writtenLines(kind, items) ?? before);
    } catch {
      control.value = before;
    }
    hint();
    made.problem(control.value ? made.check() : "");
    tell();
  }

  function hint() {
    control.placeholder = isList() ? hints.list : hints.lines;
    control.spellcheck = kind === "text" && !isList();
  }

  if (Array.isArray(schema.default)) control.value = writtenLines(kind, schema.default) ?? "";
  control.addEventListener("input", tell);
  way.addEventListener("change", rewrite);
  made.element.addEventListener("input", () => {
    touched = true;
  });
  hint();
  tell();
  control.after(h("div.nbc-or", {}, way, count, h("span.nbc-space"), goesOn), typing.element);
  /** @type {Field} */
  const field = {
    ...made,
    get: () => (more.checked ? { $typed: { stream: fresh(), items: control.value ? read() : [] } } : read()),
    // Who is going to type items need not have any.
    check: () => (more.checked && !control.value ? "" : made.check()),
    used: () => touched || made.used(),
    run(feed, sent) {
      for (const part of [control, way, more]) part.disabled = feed !== null;
      typing.run(feed, sent);
    },
  };
  return orSource(field, label, way, [control, count, goesOn], options, make);
}

/**
 * A line for the next item of a stream whose call is under way.
 *
 * @param {string} label
 * @param {Schema} schema of an item
 * @param {ItemKind} kind
 */
function typed(label, schema, kind) {
  const next = h("input.nbc-input", { type: "text", "aria-label": `${label}: next item`, placeholder: "next item" });
  const send = button("Send", () => tell(true));
  const end = button("End the stream", () => tell(false));
  const said = h("span.nbc-dim", { role: "status" });
  const problem = h("div.nbc-problem", { id: fresh(), role: "alert" });
  const row = h("div.nbc-or", {}, next, send, end);
  const element = h("div.nbc-typed", { hidden: true }, row, said, problem);
  /** @type {Feed | null} */
  let feed = null;
  let sent = 0;
  let since = "";
  let waits = false;
  next.setAttribute("aria-describedby", problem.id);

  /** @param {string} text */
  function wrong(text) {
    problem.textContent = text;
    text ? next.setAttribute("aria-invalid", "true") : next.removeAttribute("aria-invalid");
  }

  /** @param {boolean} over */
  function ended(over) {
    row.hidden = over;
    const words = `${plural(sent, "item")} sent${since}`;
    said.textContent = over ? `the stream has ended, ${words}` : words;
  }

  /** Send what is typed, or the end. @param {boolean} isItem */
  async function tell(isItem) {
    const [to, text] = [feed, next.value];
    if (!to || waits) return;
    if (isItem && !text) return wrong("type an item first, or end the stream");
    if (!isItem && text) return wrong("this item has not been sent: send it, or empty the line, then end the stream");
    /** @type {any} */
    let item;
    try {
      item = isItem ? itemFrom(schema, kind, text) : null;
    } catch (error) {
      return wrong(messageOf(error));
    }
    wrong("");
    waits = true;
    const slow = setTimeout(() => {
      said.textContent = "waiting: the api has not taken the items before yet";
    }, SLOWLY);
    const refused = await to(isItem ? { item } : {});
    clearTimeout(slow);
    waits = false;
    if (feed !== to) return; // the call has ended meanwhile
    if (refused) wrong(refused.problems.map((found) => found.msg).join("; ") || refused.message);
    else if (isItem) {
      sent += 1;
      // What was typed meanwhile stays.
      next.value = next.value === text ? "" : next.value;
    }
    // What is wrong with no item in particular is that none is taken any more.
    const over = refused ? !refused.problems.length : !isItem;
    ended(over && !refused);
    row.hidden = over;
    if (!over) next.focus();
  }

  next.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    // It would make a call of the form.
    event.preventDefault();
    event.stopPropagation();
    tell(true);
  });
  return {
    element,
    /**
     * Take items for a call that has the first ones already; null: it is over.
     *
     * @param {Feed | null} to
     * @param {number} [first] how many; not known to a page that was loaded later
     */
    run(to, first) {
      const began = to !== null && feed === null;
      feed = to;
      element.hidden = to === null;
      if (!began) return;
      [sent, waits, next.value] = [first ?? 0, false, ""];
      since = first === undefined ? " since this page was loaded" : "";
      wrong("");
      ended(false);
      next.focus();
    },
  };
}

/**
 * Several files in order: each choice adds to those before.
 *
 * @param {string} label
 * @param {Schema} item
 * @param {FieldOptions} options
 * @param {FormMaker} make
 * @returns {Field}
 */
function filesField(label, item, options, make) {
  const isImage = Boolean(item.contentMediaType?.startsWith("image/"));
  const accept = isImage ? "image/*" : null;
  const control = h("input.nbc-file", { type: "file", multiple: true, accept });
  const chosen = h("ol.nbc-files");
  const count = h("span.nbc-dim.nbc-count");
  const clear = button("remove all", () => take([]), { class: "nbc-button nbc-quiet" });
  /** @type {Upload[]} */
  let files = [];
  let reading = false;
  let touched = false;
  const made = controlled(label, { description: "" }, control, options, () => {
    if (reading) throw new Error("the files are still being read");
    return files.map((file) => file.data);
  });

  /** @param {Upload[]} next */
  function take(next) {
    files = next;
    const rows = files.map((file) => {
      const image = file.type.startsWith("image/") ? previewOf(file) : null;
      const remove = button("remove", () => take(files.filter((other) => other !== file)), {
        class: "nbc-button nbc-quiet",
        "aria-label": `remove ${file.name}`,
      });
      return h("li", {}, h("span.nbc-inline", {}, image, file.name, remove));
    });
    chosen.replaceChildren(...rows);
    count.textContent = files.length ? plural(files.length, "item") : "no items";
    clear.hidden = files.length < 2;
    made.problem(made.check());
  }

  control.addEventListener("change", async () => {
    reading = touched = true;
    const added = await Promise.all([...(control.files ?? [])].map(uploaded));
    reading = false;
    control.value = ""; // so that the same file can be chosen once more
    take([...files, ...added]);
  });
  const preview = h("div.nbc-preview", {}, chosen);
  const way = h("select.nbc-input", { "aria-label": `${label}: where its items come from` });
  way.append(h("option", { value: "files" }, "files"));
  control.after(preview, h("div.nbc-or", {}, options.sources ? way : null, count, clear));
  take([]);
  const field = { ...made, used: () => touched || options.required };
  return orSource(field, label, way, [control, preview, count, clear], options, make);
}
