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
}

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
  /** Show what is wrong. */
  problem(text: string): void;
}

/** `depth`: how many field sets a field is in. `file`: of a parameter that may be one. `variables`: names
 * of the notebook that it takes instead. */
export interface FieldOptions extends Pick<Description, "root" | "reads"> {
  required: boolean;
  depth: number;
  file?: FileKind;
  variables?: string[];
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
