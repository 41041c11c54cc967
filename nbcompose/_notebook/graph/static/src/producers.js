// The streams of the graph's services, of which a call can take one as an argument, and their forms.

/** @import { Form } from "./messages.d.ts" */
/** @import { Description, Source, SourceForm, Sources } from "../../../../_replica/http/static/types.d.ts" */
/** @import { Heard, Kernel } from "./types.d.ts" */

/**
 * What a form is made from.
 *
 * @param {Form} message
 * @param {Sources} sources
 * @returns {Description}
 */
export function described({ schema, parts, variables, params }, sources) {
  const streams = params.filter((p) => p.stream).map((p) => p.name);
  return { schema, root: schema, parts, reads: true, variables, streams, sources };
}

/** @param {Source} source */
const keyOf = ({ service, api }) => JSON.stringify([service, api]);

/** @param {Pick<Kernel, "state" | "send">} kernel */
export function streamSources(kernel) {
  /**
   * By what makes the stream: the version of its service that was asked, and what that has said.
   *
   * @type {Map<string, {serving: number, told: Form | null, text: string, form: SourceForm | string | null}>}
   */
  const known = new Map();
  const services = () => kernel.state().services;
  const streams = {
    list: () =>
      services().flatMap(({ name, apis }) =>
        apis.filter((api) => api.stream).map((api) => ({ service: name, api: api.name })),
      ),
    elsewhere: () => [...new Set(services().flatMap((s) => s.dependencies.filter((d) => d.includes("://"))))],
    /** @param {Source} source */
    form(source) {
      const serving = services().find((s) => s.name === source.service)?.serving ?? 0;
      const before = known.get(keyOf(source));
      if (before && (!serving || before.serving === serving)) return before.form;
      const now = before ?? { serving, told: null, text: "", form: null };
      known.set(keyOf(source), { ...now, serving });
      kernel.send({ type: "form", ...source });
      return now.form;
    },
    /** The form that has come, as the kernel has sent it. @param {Source} source */
    told: (source) => known.get(keyOf(source))?.told ?? null,
    /** Returns whether a form is another one now. @param {Heard} message */
    hear(message) {
      if (!(message.type === "form" || (message.type === "failed" && message.action === "form"))) return false;
      const { service = "", api = "" } = message;
      const before = known.get(keyOf({ service, api }));
      if (!before) return false;
      const { id, ...content } = message;
      const text = message.type === "form" ? JSON.stringify(content) : message.message;
      if (text === before.text) return false;
      const told = message.type === "form" ? message : null;
      const form = told ? { signature: told.signature, description: described(told, streams) } : text;
      known.set(keyOf({ service, api }), { ...before, told, text, form });
      return true;
    },
  };
  return streams;
}
