// Made by scripts/message_types.py from ../../messages.py: change that, and run it again.

export interface SpanRow {
  span: string;
  parent: string;
  service: string;
  api: string;
  replica: number;
  depth: number;
  start: number;
  queued: number;
  seconds: number;
  first_item: number | null;
  last_item: number | null;
  error: string;
}

export interface Summary {
  trace: string;
  root: string;
  start: number;
  seconds: number;
  spans: number;
  error: string;
}

export interface Api {
  name: string;
  signature: string;
  doc: string;
  stream: boolean;
}

export interface Service {
  name: string;
  id: string;
  state: "starting" | "waiting" | "ready" | "failed" | "stopped";
  reason: string;
  phase: string;
  coming: string;
  reversible: boolean;
  device: string;
  up: number;
  wanted: number;
  in_flight: number;
  calls: number;
  errors: number;
  rate: number;
  p50_ms: number | null;
  memory: number | null;
  error: string;
  behind: string;
  stale: Array<string>;
  notes: Array<string>;
  serving: number;
  apis: Array<Api>;
  dependencies: Array<string>;
}

export interface Edge {
  from: string;
  to: string;
  id: string;
  calls: number;
  in_flight: number;
  streaming: number;
  sent: number;
  received: number;
}

export interface State {
  version: number;
  services: Array<Service>;
  edges: Array<Edge>;
  svg: string;
}

export interface Look {
  type: "look";
  client: string;
  on: boolean;
}

export interface FormRequest {
  type: "form";
  service: string;
  api: string;
}

export interface Call {
  type: "call";
  id: string;
  service: string;
  api: string;
  arguments: Record<string, any>;
}

export interface Cancel {
  type: "cancel";
  id: string;
}

export interface LogsRequest {
  type: "logs";
  service: string;
  lines?: number;
}

export interface TracesRequest {
  type: "traces";
}

export interface TraceRequest {
  type: "trace";
  trace: string;
}

export interface Act {
  type: "restart" | "stop" | "rollback";
  service: string;
}

export interface Scale {
  type: "scale";
  service: string;
  replicas: number;
}

export type Request =
  | Look
  | FormRequest
  | Call
  | Cancel
  | LogsRequest
  | TracesRequest
  | TraceRequest
  | Act
  | Scale;

export interface Bundle {
  "text/plain"?: string;
  "text/html"?: string;
  "text/markdown"?: string;
  "text/latex"?: string;
  "image/svg+xml"?: string;
  "image/png"?: string;
  "image/jpeg"?: string;
  "application/json"?: any;
}

export interface Here {
  type: "here";
}

export interface Param {
  name: string;
  kind: "positional_only" | "positional_or_keyword" | "var_positional" | "keyword_only" | "var_keyword";
  required: boolean;
  text: string;
}

export interface Copies {
  python: string;
  httpx: string;
  curl: string;
}

export interface FormContent {
  service: string;
  api: string;
  schema: Record<string, any>;
  parts: Record<string, any>;
  params: Array<Param>;
  root: string | null;
  stream: boolean;
  doc: string;
  signature: string;
  copies: Copies;
}

export interface Form {
  service: string;
  api: string;
  schema: Record<string, any>;
  parts: Record<string, any>;
  params: Array<Param>;
  root: string | null;
  stream: boolean;
  doc: string;
  signature: string;
  copies: Copies;
  type: "form";
}

export interface Begun {
  type: "begun";
  id: string;
}

export interface Item {
  type: "item";
  id: string;
  n: number;
  bundle: Bundle;
}

export interface Items {
  type: "items";
  id: string;
  items: Array<Item>;
}

export interface Result {
  type: "result";
  id: string;
  seconds: number;
  bundle: Bundle;
}

export interface End {
  type: "end";
  id: string;
  seconds: number;
}

export interface Cancelled {
  type: "cancelled";
  id: string;
  seconds: number;
}

export interface Problem {
  loc: Array<string | number>;
  msg: string;
}

export interface Failure {
  name: string;
  message: string;
  traceback: string;
  problems: Array<Problem>;
}

export interface Failed {
  name: string;
  message: string;
  traceback: string;
  problems: Array<Problem>;
  type: "failed";
  id: string;
  seconds: number;
}

export interface Logs {
  type: "logs";
  service: string;
  lines: Array<string>;
}

export interface Traces {
  type: "traces";
  traces: Array<Summary>;
}

export interface Trace {
  type: "trace";
  trace: string;
  rows: Array<SpanRow>;
}

export interface Done {
  type: "done";
  action: string;
  service: string;
}

export interface Refused {
  type: "refused";
  action: string;
  message: string;
  service?: string;
  api?: string;
  trace?: string;
}

export type CallMessage =
  | Begun
  | Item
  | Items
  | Result
  | End
  | Cancelled
  | Failed;

export type Reply =
  | Here
  | Form
  | Logs
  | Traces
  | Trace
  | Done
  | Refused;

export type Message =
  | Begun
  | Item
  | Items
  | Result
  | End
  | Cancelled
  | Failed
  | Here
  | Form
  | Logs
  | Traces
  | Trace
  | Done
  | Refused;
