import type { ApiEvent, Operation } from "./types.ts";
import { websocketURL } from "./request.ts";

type Listener = (e: ApiEvent) => void;
export type Connection = "connecting" | "open" | "lost";

/** How long to wait before the n-th attempt to connect again, in milliseconds. */
export function backoff(attempt: number): number {
  return Math.min(500 * 2 ** attempt, 15_000);
}

/** The events of the server, over one websocket that comes back when it is lost. */
export class EventStream {
  private socket: WebSocket | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private attempt = 0;
  private stopped = true;
  private everOpen = false;
  private narrow = false; // callers of some projects only may not listen to all
  private readonly listeners = new Set<Listener>();
  private readonly watchers = new Set<() => void>();
  private readonly onReturn = new Set<() => void>();
  private state: Connection = "connecting";

  private readonly project: () => string;

  constructor(project: () => string) {
    this.project = project;
  }

  readonly connection = (): Connection => this.state;

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    this.socket?.close();
    this.socket = undefined;
  }

  /** Calls a function for each event; returns what ends that. */
  subscribe(f: Listener): () => void {
    this.listeners.add(f);
    return () => this.listeners.delete(f);
  }

  /** Calls a function when the connection changes, for React. */
  readonly watch = (f: () => void): (() => void) => {
    this.watchers.add(f);
    return () => this.watchers.delete(f);
  };

  /** Calls a function when the connection is back: events may have been missed. */
  returned(f: () => void): () => void {
    this.onReturn.add(f);
    return () => this.onReturn.delete(f);
  }

  private set(state: Connection): void {
    if (this.state === state) return;
    this.state = state;
    this.watchers.forEach((f) => f());
  }

  private connect(): void {
    const which = this.narrow ? "project=" + encodeURIComponent(this.project()) : "all-projects=true";
    const socket = new WebSocket(websocketURL(window.location, "/1.0/events?type=operation,lifecycle&" + which));
    this.socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.attempt = 0;
      const again = this.everOpen;
      this.everOpen = true;
      this.set("open");
      if (again) this.onReturn.forEach((f) => f());
    };
    socket.onmessage = (m) => {
      if (typeof m.data !== "string") return;
      let event: ApiEvent;
      try {
        event = JSON.parse(m.data) as ApiEvent;
      } catch {
        return;
      }
      this.listeners.forEach((f) => f(event));
    };
    socket.onclose = () => {
      if (this.stopped || this.socket !== socket) return;
      if (!opened && !this.everOpen) this.narrow = !this.narrow;
      this.set(this.everOpen || this.attempt > 1 ? "lost" : "connecting");
      this.timer = setTimeout(() => this.connect(), backoff(this.attempt++));
    };
  }
}

export function operationOf(e: ApiEvent): Operation | undefined {
  return e.type === "operation" ? (e.metadata as unknown as Operation) : undefined;
}

/** The kinds of things that an event is about: what was read of them is out of date. */
export function touched(e: ApiEvent): string[] {
  if (e.type === "operation") return ["operations"];
  if (e.type !== "lifecycle") return [];
  const source = String(e.metadata["source"] ?? "");
  const action = String(e.metadata["action"] ?? "");
  const kind = source.split("?")[0]?.split("/")[2] ?? "";
  switch (kind) {
    case "instances":
    case "containers":
    case "virtual-machines":
      // A shell that somebody opens changes nothing of the instance.
      return action === "instance-exec" || action === "instance-console" ? [] : ["instances"];
    case "profiles":
      return ["profiles", "instances"];
    case "images":
      return ["images"];
    case "networks":
      return ["networks"];
    case "storage-pools":
      return ["storage-pools"];
    case "projects":
      return ["projects"];
    case "cluster":
      return ["members", "server"];
    case "":
      return ["server"];
    default:
      return [kind];
  }
}
