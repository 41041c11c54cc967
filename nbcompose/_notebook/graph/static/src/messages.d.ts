// Made by scripts/message_types.py from nbcompose/_protocol/messages.py: change that, and run it again.

export interface Api {
  name: string;
  signature: string;
  doc: string;
  stream: boolean;
}

export interface ApiNumbers {
  api: string;
  answered: number;
  failed: number;
  refused: number;
  cancelled: number;
  p50: number | null;
  p95: number | null;
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
  options: Record<string, any>;
  cell: string;
  source?: string;
  numbers?: Array<ApiNumbers>;
  memory_limit?: number | null;
  memory_over?: boolean;
  gpu_memory?: number | null;
}

export interface StoppedService {
  name: string;
  cell: string;
  source: string;
}

export interface ListedService {
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
  options: Record<string, any>;
  cell: string;
  source?: string;
  numbers?: Array<ApiNumbers>;
  memory_limit?: number | null;
  memory_over?: boolean;
  gpu_memory?: number | null;
  url: string;
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
  passed?: boolean;
}

export interface State {
  version: number;
  services: Array<Service>;
  edges: Array<Edge>;
  svg: string;
  stopped?: Array<StoppedService>;
}

export interface HelloRequest {
  id?: string;
  type: "hello";
  protocol: number;
  version: string;
}

export interface PsRequest {
  id?: string;
  type: "ps";
}

export interface WatchRequest {
  id?: string;
  type: "watch";
  services?: Array<string>;
  picture?: boolean;
  folded?: Array<string>;
  width?: number;
  brief?: boolean;
}

export interface FormRequest {
  id?: string;
  type: "form";
  service: string;
  api: string;
}

export interface Call {
  id?: string;
  type: "call";
  service: string;
  api: string;
  arguments?: any;
}

export interface Feed {
  id?: string;
  type: "feed";
  stream: string;
  item: any;
}

export interface EndFeed {
  id?: string;
  type: "end_feed";
  stream: string;
}

export interface Cancel {
  id: string;
  type: "cancel";
}

export interface LogsRequest {
  id?: string;
  type: "logs";
  service: string;
  lines?: number;
  follow?: boolean;
  level?: string;
  api?: string;
  trace?: string;
}

export interface TracesRequest {
  id?: string;
  type: "traces";
  service?: string;
  api?: string;
  state?: "answered" | "failed" | "cancelled";
  since?: number;
  text?: string;
}

export interface TraceRequest {
  id?: string;
  type: "trace";
  trace: string;
}

export interface RecordedRequest {
  id?: string;
  type: "recorded";
  trace: string;
}

export interface ForgetRequest {
  id?: string;
  type: "forget";
  service?: string;
}

export interface HistoryRequest {
  id?: string;
  type: "history";
  service: string;
}

export interface Act {
  id?: string;
  type: "restart" | "stop" | "rollback";
  service: string;
}

export interface Scale {
  id?: string;
  type: "scale";
  service: string;
  replicas: number;
}

export interface ReachRequest {
  id?: string;
  type: "reach";
  service: string;
}

export interface DebugRequest {
  id?: string;
  type: "debug";
  service: string;
  replica?: number;
  post_mortem?: boolean;
}

export interface DebugLine {
  id?: string;
  type: "debug_line";
  debugger: string;
  line: string;
}

export interface ProfileRequest {
  id?: string;
  type: "profile";
  service: string;
  seconds: number;
  replica?: number;
  native?: boolean;
}

export interface CellText {
  cell: string;
  text: string;
}

export interface PlanRequest {
  id?: string;
  type: "plan";
  cells: Array<CellText>;
}

export interface Look {
  id?: string;
  type: "look";
  client: string;
  on: boolean;
}

export interface Fold {
  id?: string;
  type: "fold";
  service: string;
  on: boolean;
}

export interface KeptRequest {
  id?: string;
  type: "kept";
  service: string;
  api: string;
}

export type Request =
  | Look
  | Fold
  | KeptRequest
  | FormRequest
  | Call
  | Feed
  | EndFeed
  | Cancel
  | LogsRequest
  | TracesRequest
  | TraceRequest
  | RecordedRequest
  | ForgetRequest
  | HistoryRequest
  | Act
  | Scale
  | PlanRequest;

export type RuntimeRequest =
  | HelloRequest
  | PsRequest
  | WatchRequest
  | FormRequest
  | Call
  | Feed
  | EndFeed
  | Cancel
  | LogsRequest
  | TracesRequest
  | TraceRequest
  | RecordedRequest
  | ForgetRequest
  | HistoryRequest
  | Act
  | Scale
  | PlanRequest
  | ReachRequest
  | DebugRequest
  | DebugLine
  | ProfileRequest;

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

export interface Hello {
  id: string;
  type: "hello";
  protocol: number;
  version: string;
  pid: number;
  kernel: string;
  session: string;
  title: string;
  messages: Array<string>;
}

export interface Ps {
  id: string;
  type: "ps";
  services: Array<ListedService>;
  stopped?: Array<StoppedService>;
}

export interface Here {
  id: string;
  type: "here";
}

export interface Changed {
  version: number;
  services: Array<Service>;
  edges: Array<Edge>;
  svg: string;
  stopped?: Array<StoppedService>;
  id: string;
  type: "state";
}

export interface Param {
  name: string;
  kind: "positional_only" | "positional_or_keyword" | "var_positional" | "keyword_only" | "var_keyword";
  required: boolean;
  text: string;
  stream?: boolean;
}

export interface Copies {
  python: string;
  script: string;
  terminal: string;
  javascript: string;
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
  variables: Record<string, Array<string>>;
  call?: string;
  lines?: string;
  events?: string;
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
  variables: Record<string, Array<string>>;
  call?: string;
  lines?: string;
  events?: string;
  id: string;
  type: "form";
}

export interface Begun {
  id: string;
  type: "begun";
}

export interface Item {
  id: string;
  type: "item";
  n: number;
  bundle: Bundle;
}

export interface Items {
  id: string;
  type: "items";
  items: Array<Item>;
}

export interface Result {
  id: string;
  type: "result";
  seconds: number;
  bundle: Bundle;
}

export interface End {
  id: string;
  type: "end";
  seconds: number;
}

export interface Cancelled {
  id: string;
  type: "cancelled";
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
  id: string | null;
  type: "failed";
  action: string;
  seconds: number;
  service?: string;
  api?: string;
  trace?: string;
}

export interface LogDetails {
  time: number;
  level: string;
  replica: number;
  api: string;
  trace: string;
}

export interface Logs {
  id: string;
  type: "logs";
  service: string;
  lines: Array<string>;
  details?: Array<LogDetails>;
}

export interface Lines {
  id: string;
  type: "lines";
  service: string;
  lines: Array<string>;
  missed: number;
  details?: Array<LogDetails>;
}

export interface Debugged {
  id: string;
  type: "debugged";
  debugger: string;
  text: string;
  prompt: string | null;
}

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
  input_wait?: number;
}

export interface Summary {
  trace: string;
  root: string;
  start: number;
  seconds: number;
  spans: number;
  error: string;
}

export interface Traces {
  id: string;
  type: "traces";
  traces: Array<Summary>;
}

export interface Trace {
  id: string;
  type: "trace";
  trace: string;
  rows: Array<SpanRow>;
}

export interface RecordedArgument {
  name: string;
  text: string;
}

export interface CallValues {
  span: string;
  arguments: Array<RecordedArgument>;
  answer: string | null;
  error: string;
  items: number | null;
  first: Array<string>;
  last: Array<string>;
  held: boolean;
  why_not: string;
}

export interface Recorded {
  id: string;
  type: "recorded";
  trace: string;
  calls: Array<CallValues>;
}

export interface UsageStep {
  calls: number;
  failed: number;
  p95: number | null;
  memory: number | null;
}

export interface History {
  id: string;
  type: "history";
  service: string;
  step: number;
  steps: Array<UsageStep>;
}

export interface Profiled {
  id: string;
  type: "profiled";
  service: string;
  text: string;
  svg: string;
}

export interface PlannedService {
  service: string;
  outcome: "nothing" | "start" | "swap" | "replace" | "unknown";
  why: string;
}

export interface PlannedCell {
  cell: string;
  services: Array<PlannedService>;
}

export interface Planned {
  id: string;
  type: "planned";
  cells: Array<PlannedCell>;
}

export interface Done {
  id: string;
  type: "done";
  action: string;
  service: string;
}

export interface Reach {
  id: string;
  type: "reach";
  service: string;
  host: string;
  port: number;
  token: string | null;
}

export interface Kept {
  id: string;
  type: "kept";
  service: string;
  api: string;
  call: string;
  seconds: number;
  count: number;
  items: Array<Item>;
  end: Result | End | Cancelled | Failed | null;
  typed?: Record<string, string>;
}

export type Event =
  | Changed
  | Lines
  | Begun
  | Item
  | Items
  | Debugged;

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
  | Kept
  | Form
  | Logs
  | Traces
  | Trace
  | Recorded
  | History
  | Planned
  | Done;

export type Message =
  | Begun
  | Item
  | Items
  | Result
  | End
  | Cancelled
  | Failed
  | Here
  | Kept
  | Form
  | Logs
  | Traces
  | Trace
  | Recorded
  | History
  | Planned
  | Done;

export type RuntimeReply =
  | Hello
  | Ps
  | Form
  | Logs
  | Traces
  | Trace
  | Recorded
  | History
  | Profiled
  | Planned
  | Done
  | Reach
  | Result
  | End
  | Cancelled
  | Failed;
