// The stream of a service as what the field of a stream takes: which one, and the form of the api that makes it.

/** @import { Field, FieldOptions, FormMaker, Source, SourceForm } from "./types.d.ts" */

import { h } from "./elements.js";

const STREAM = "$stream";

/** How a stream is named in a list. @param {Source} source */
const words = ({ service, api }) => `from ${service}.${api}`;

/** The value of its option, which no other way of giving items has. @param {Source} source */
const optionValue = ({ service, api }) => JSON.stringify([service, api]);

/** The stream that is chosen. @param {HTMLSelectElement} way @returns {Source | null} */
export function chosenSource(way) {
  if (!way.value.startsWith("[")) return null;
  const [service, api] = JSON.parse(way.value);
  return { service, api };
}

/**
 * The field of a stream, or the stream of a service in its place: `way` gets an option for each of these, and `own` is
 * hidden while one is chosen. Elsewhere than in a graph the field is as it was.
 *
 * @param {Field} inner
 * @param {string} label
 * @param {HTMLSelectElement} way
 * @param {HTMLElement[]} own
 * @param {FieldOptions} options
 * @param {FormMaker} make
 * @returns {Field}
 */
export function orSource(inner, label, way, own, options, make) {
  const { sources } = options;
  if (!sources) return inner;
  const { list, elsewhere, form } = sources;
  const group = h("optgroup", { label: "the stream of a service" });
  const element = h("div.nbc-source", { hidden: true, role: "group", "aria-label": `${label}: the stream` });
  /** @type {SourceForm | string | null | undefined} what is shown; null: it is still to come */
  let shown;
  /** @type {ReturnType<FormMaker> | null} */
  let fields = null;
  let listed = "";
  let built = "";

  function offer() {
    const source = chosenSource(way);
    const offered = list().map((found) => ({ value: optionValue(found), text: words(found), disabled: false }));
    if (source && !offered.some(({ value }) => value === way.value)) {
      offered.push({ value: way.value, text: `${words(source)} (not there)`, disabled: false });
    }
    for (const url of elsewhere())
      offered.push({ value: "", text: `${url}: its streams in code only`, disabled: true });
    const now = JSON.stringify(offered);
    if (now === listed) return;
    listed = now;
    const before = way.value;
    group.replaceChildren(...offered.map(({ value, text, disabled }) => h("option", { value, disabled }, text)));
    if (offered.length) way.append(group);
    else group.remove();
    way.value = before;
  }

  function show() {
    const source = chosenSource(way);
    element.hidden = !source;
    for (const part of own) part.classList.toggle("nbc-away", Boolean(source));
    if (!source) return;
    const found = form(source);
    if (found === shown) return fields?.renew();
    shown = found;
    if (!found || typeof found === "string") {
      [fields, built] = [null, ""];
      element.replaceChildren(h(found ? "div.nbc-problem" : "div.nbc-dim", {}, found ?? "…"));
      return;
    }
    // What was typed stays where the form is as it was.
    const now = JSON.stringify([source, found.description.schema, found.description.parts]);
    if (now === built) return fields?.renew();
    built = now;
    fields = make(found.description);
    element.replaceChildren(h("div.nbc-code.nbc-dim", {}, `${source.service}.${found.signature}`), ...fields.elements);
  }

  function renew() {
    offer();
    show();
  }

  const check = () => {
    if (fields) return fields.check();
    return typeof shown === "string" ? shown : "the form of this stream has not come yet";
  };

  way.addEventListener("change", () => {
    inner.problem("");
    show();
  });
  (way.closest(".nbc-or") ?? way).after(element);
  renew();
  return {
    ...inner,
    get() {
      const source = chosenSource(way);
      return source ? { [STREAM]: { ...source, arguments: fields?.get() ?? {} } } : inner.get();
    },
    check: () => (chosenSource(way) ? check() : inner.check()),
    used: () => Boolean(chosenSource(way)) || inner.used(),
    focus: () => (!chosenSource(way) ? inner.focus() : fields?.wrong() ? fields.wrong()?.focus() : way.focus()),
    problem(text, [key, part, ...loc] = []) {
      if (!chosenSource(way) || !fields) return inner.problem(text);
      // What is wrong with one of its arguments stands there.
      if (key === STREAM && part === "arguments" && loc.length) return fields.problems([{ loc, msg: text }]);
      inner.problem(fields.mark() ? "" : text);
    },
    renew,
  };
}
