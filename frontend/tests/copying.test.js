import assert from "node:assert/strict";
import { test } from "node:test";
import { copied, usesVariable } from "../../nbcompose/_notebook/graph/static/src/copying.js";

// What Python and shells make of it is tested by tests/notebook/graph/test_copying.py.

/** @import { Param } from "../../nbcompose/_notebook/graph/static/src/messages.d.ts" */

/** @param {Record<string, Param["kind"]>} kinds @param {string | null} root */
function form(kinds, root = null) {
  const params = Object.entries(kinds).map(([name, kind]) => ({ name, kind, required: true, text: name }));
  return {
    params,
    root,
    copies: { python: "f(%(arguments)s)", script: "post(%(dict)s)", terminal: "-d %(shell)s", javascript: "" },
  };
}

const UPLOAD = { $upload: { name: "a.png", type: "image/png", data: "QQ==" } };

test("arguments are named, where Python takes names", () => {
  const kinds = form({ a: "positional_only", b: "positional_or_keyword", c: "keyword_only" });
  assert.equal(copied(kinds, "python", { a: 1, b: "x", c: [true, null] }), 'f(1, b="x", c=[True, None])');
  const many = form({ b: "positional_or_keyword", rest: "var_positional", more: "var_keyword" });
  assert.equal(copied(many, "python", { b: 1, rest: [2], more: { k: 3 } }), 'f(1, *[2], **{"k": 3})');
});

test("a body that is one argument is that argument", () => {
  const whole = form({ item: "positional_only" }, "item");
  assert.equal(copied(whole, "script", { item: { a: 1.5 } }), 'post({"a": 1.5})');
  assert.equal(copied(whole, "script", {}), "post(None)");
});

test("a file is left out in Python, and its base64 elsewhere", () => {
  const file = form({ image: "keyword_only" });
  assert.equal(copied(file, "python", { image: UPLOAD }), "f(image=...)");
  assert.equal(copied(file, "script", { image: [UPLOAD] }), 'post({"image": ["QQ=="]})');
});

test("what a shell would read is written so that it does not", () => {
  const text = form({ text: "keyword_only" });
  assert.equal(copied(text, "terminal", { text: "it's {x} $HOME $" }), `-d '{"text":"it'\\''s {x} $HOME $"}'`);
});

test("what is filled in is not read as a placeholder", () => {
  const text = form({ text: "keyword_only" });
  assert.equal(copied(text, "python", { text: "%(json)s $& $1" }), 'f(text="%(json)s $& $1")');
});

test("a variable of the notebook is found, wherever it is filled in", () => {
  assert.equal(usesVariable({ a: [{ $variable: "df" }] }), true);
  assert.equal(usesVariable({ a: null, b: [1, { c: "$variable" }], d: UPLOAD }), false);
});

test("a stream is a list in code, and lines in a terminal", () => {
  const params = ["text", "style"].map((name) => ({
    ...{ name, kind: /** @type {const} */ ("keyword_only"), required: true, text: name },
    stream: name === "text",
  }));
  const refine = { ...form({}), params, lines: "%(lines)s | curl" };
  const typed = { text: { $typed: { stream: "s", items: ["a", "it's"] } }, style: "x" };
  for (const values of [typed, { text: ["a", "it's"], style: "x" }]) {
    assert.equal(copied(refine, "python", values), `f(text=["a", "it's"], style="x")`);
    assert.equal(copied(refine, "script", values), `post({"text": ["a", "it's"], "style": "x"})`);
    const lines = `'{"style":"x"}' '{"text":"a"}' '{"text":"it'\\''s"}' | curl`;
    assert.equal(copied(refine, "terminal", values), lines);
  }
  assert.equal(copied(refine, "terminal", { text: null }), `-d '{"text":null}'`); // None is not an empty stream
});

test("the stream of a service is a call in Python, and a pipe in a terminal", () => {
  /** @param {string} service @param {string[]} names @param {string[]} streams */
  const api = (service, names, streams) => ({
    params: names.map((name) => ({
      ...{ name, kind: /** @type {const} */ ("keyword_only"), required: true, text: name },
      stream: streams.includes(name),
    })),
    root: null,
    call: `${service}.f(%(arguments)s)`,
    copies: {
      ...form({}).copies,
      python: `show(${service}.f(%(arguments)s))`,
      terminal: `curl ${service} -d %(shell)s`,
    },
    lines: streams.length ? "%(lines)s | curl" : undefined,
    events: streams.length === 1 ? `curl "${service}%(query)s" -T .` : undefined,
  });
  /** @type {Record<string, ReturnType<typeof api>>} */
  const forms = {
    Writer: api("Writer", ["topic"], []),
    Refiner: api("Refiner", ["text", "style", "n"], ["text"]),
    Both: api("Both", ["a", "b"], ["a", "b"]),
  };
  /** @param {{service: string}} source */
  const formOf = ({ service }) => forms[service] ?? null;
  /** @param {string} service @param {any} values */
  const of = (service, values) => ({ $stream: { service, api: "f", arguments: values } });
  const writer = of("Writer", { topic: "it's" });
  const events = "-H 'Accept: text/event-stream'";
  const one = { text: writer, style: 'a&b "c" $d!', n: 3 };
  assert.equal(
    copied(forms.Refiner, "python", one, formOf),
    'show(Refiner.f(text=Writer.f(topic="it\'s"), style="a&b \\"c\\" $d!", n=3))',
  );
  assert.equal(
    copied(forms.Refiner, "terminal", one, formOf),
    `curl Writer -d '{"topic":"it'\\''s"}' ${events} |\n  curl "Refiner?style=a%26b%20%22c%22%20%24d%21&n=3" -T .`,
  );
  const far = { text: of("Refiner", { text: writer }) };
  assert.equal(
    copied(forms.Refiner, "terminal", far, formOf),
    `curl Writer -d '{"topic":"it'\\''s"}' ${events} |\n  curl "Refiner" -T . ${events} |\n  curl "Refiner" -T .`,
  );
  const listed = { text: of("Refiner", { text: ["a"] }) };
  assert.equal(
    copied(forms.Refiner, "terminal", listed, formOf),
    `curl Refiner -d '{"text":["a"]}' ${events} |\n  curl "Refiner" -T .`,
  );
  for (const kind of /** @type {const} */ (["script", "javascript"])) {
    assert.equal(copied(forms.Refiner, kind, one, formOf), null);
  }
  // Neither has an address: a second stream, None, and the form that has not come.
  assert.equal(copied(forms.Both, "terminal", { a: writer, b: ["x"] }, formOf), null);
  assert.equal(copied(forms.Refiner, "terminal", { text: writer, style: null }, formOf), null);
  for (const kind of /** @type {const} */ (["python", "terminal"])) {
    assert.equal(copied(forms.Refiner, kind, { text: of("Gone", {}) }, formOf), null);
  }
});

test("among the items of a list, and elsewhere than in a stream, it is a value like others", () => {
  const literal = { $stream: { service: "Writer", api: "f", arguments: {} } };
  const params = ["text", "plain"].map((name) => ({
    ...{ name, kind: /** @type {const} */ ("keyword_only"), required: true, text: name },
    stream: name === "text",
  }));
  const values = { text: [literal], plain: literal };
  const python = '{"$stream": {"service": "Writer", "api": "f", "arguments": {}}}';
  assert.equal(copied({ ...form({}), params }, "python", values), `f(text=[${python}], plain=${python})`);
  assert.equal(copied({ ...form({}), params }, "terminal", values), `-d '${JSON.stringify(values)}'`);
});
