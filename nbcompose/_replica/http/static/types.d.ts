// What the form engine takes and gives: shared by the page at /docs and the live graph.

/** What is read of the JSON schema of an input. */
export interface Schema {
  type?: string | string[];
  format?: string;
  pattern?: string;
  description?: string;
  default?: any;
  enum?: any[];
  const?: any;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  anyOf?: Schema[];
  allOf?: Schema[];
  oneOf?: Schema[];
  prefixItems?: Schema[];
  title?: string;
  contentEncoding?: string;
  contentMediaType?: string;
  $ref?: string;
  $defs?: Record<string, Schema>;
}

/** What a form is made from. */
export interface Description {
  /** Of the object of parameters. */
  schema: Schema;
  /** The document that references are in. */
  root: any;
  /** Of the parameters in a multipart form: those that may be files say of which type. */
  parts: Record<string, Schema>;
  /** Whether chosen files are read, as base64; otherwise they stay files. */
  reads: boolean;
  /** In a notebook: the names of its variables that a parameter takes, by parameter. */
  variables?: Record<string, string[]>;
  /** The parameters that take a stream, which are lists in the schema. */
  streams?: string[];
  /** Whether their items can be typed while the call runs. */
  live?: boolean;
  /** In a graph: the streams of its services, which may be theirs. */
  sources?: Sources;
}

/** An api that yields. */
export interface Source {
  service: string;
  api: string;
}

/** The form of an api that yields. */
export interface SourceForm {
  signature: string;
  description: Description;
}

export interface Sources {
  list(): Source[];
  /** The URLs of services whose streams a form cannot name. */
  elsewhere(): string[];
  /** Its form: the same object while it is the same; null while it is still to come, or why there is none. */
  form(source: Source): SourceForm | string | null;
}

/** Makes a form (`form.js`), for a field that has one within. */
export type FormMaker = (description: Description) => {
  elements: HTMLElement[];
  get(): Record<string, any>;
  check(): string;
  wrong(): Field | null;
  mark(): boolean;
  problems(problems: Problem[]): void;
  renew(): void;
};

/** How an item of a stream is written in a line. */
export type ItemKind = "text" | "number" | "boolean" | "json";

/** Sends an item of a stream whose call is under way, or without one its end; returns what was wrong with it. */
export type Feed = (what: { item?: any }) => Promise<{ message: string; problems: Problem[] } | null>;

/** That a parameter may be a file. */
export interface FileKind {
  kind: "image" | "file" | "array" | "table";
  many: boolean;
}

/** A field of a form. */
export interface Field {
  element: HTMLElement;
  /** The value; throws where there is none yet. */
  get(): any;
  /** What is wrong, or "". */
  check(): string;
  focus(): void;
  /** Whether it counts: it is required, or its user has changed it. */
  used(): boolean;
  /** Show what is wrong; `loc`: with which part of the value. */
  problem(text: string, loc?: Problem["loc"]): void;
  /** Of a stream: there may be other streams of services than there were. */
  renew?(): void;
  /** Of a stream: take further items for a call that has `sent` of them; null: it takes no more. */
  run?(feed: Feed | null, sent?: number): void;
}

/** `depth`: how many field sets a field is in. `file`: of a parameter that may be one. `variables`: names
 * of the notebook that it takes instead. `stream`: it is the list of a stream's items. */
export interface FieldOptions extends Pick<Description, "root" | "reads" | "live" | "sources"> {
  required: boolean;
  depth: number;
  file?: FileKind;
  variables?: string[];
  stream?: boolean;
}

/** What is wrong with a parameter, as the server says. */
export interface Problem {
  loc: (string | number)[];
  msg: string;
}

/** A file whose content (base64) has been read. */
export interface Upload {
  name: string;
  type: string;
  data: string;
}

/** A value as a notebook shows it, by media type. */
export interface Bundle {
  "text/plain"?: string;
  "image/svg+xml"?: string;
  "image/png"?: string;
  "image/jpeg"?: string;
  "application/json"?: any;
}

/** A null attribute, and a false one, is left out; `on…` are listeners. */
export type Attributes = Record<string, string | number | boolean | null | undefined | ((event: any) => void)>;

type TagName<T extends string> = T extends `${infer Name}.${string}` ? Name : T;

/** The element that a tag such as "input.class" makes. */
export type ElementOf<T extends string> =
  TagName<T> extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[TagName<T>] : HTMLElement;
