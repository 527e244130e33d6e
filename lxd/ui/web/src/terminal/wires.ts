import { operationID } from "../api/operations.ts";
import { path, request, websocketURL } from "../api/request.ts";
import { inProject } from "../app.tsx";
import type { Operation } from "../api/types.ts";

export interface Size {
  cols: number;
  rows: number;
}

/** The two websockets of a terminal's far end, and the operation behind them. */
export interface Wires {
  data: WebSocket;
  control: WebSocket;
  operation: string;
}

/** A login shell: bash where there is one. */
export const shell = ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash -l; fi; exec sh -l"];

export function openShell(project: string, instance: string, size: Size): Promise<Wires> {
  return open(path(["instances", instance, "exec"], inProject(project)), {
    command: shell,
    environment: { TERM: "xterm-256color" },
    interactive: true,
    "wait-for-websocket": true,
    width: size.cols,
    height: size.rows,
  });
}

/** The console has one viewer at a time; force takes it from another one. */
export function openConsole(project: string, instance: string, size: Size, force: boolean): Promise<Wires> {
  return open(path(["instances", instance, "console"], inProject(project)), {
    type: "console",
    force,
    width: size.cols,
    height: size.rows,
  });
}

async function open(url: string, body: unknown): Promise<Wires> {
  const { operation, metadata } = await request<Operation>("POST", url, { body });
  const fds = (metadata.metadata?.["fds"] ?? {}) as Record<string, string>;
  const dial = (name: string) => {
    const p = path(["operations", operationID(operation), "websocket"], { secret: fds[name] ?? "" });
    const socket = new WebSocket(websocketURL(window.location, p));
    socket.binaryType = "arraybuffer";
    return socket;
  };
  return { data: dial("0"), control: dial("control"), operation };
}

/** Sends a command to the far end, once its websocket is there; sizes may be late. */
export function control(socket: WebSocket, command: string, args: Record<string, string>): void {
  const send = () => socket.send(JSON.stringify({ command, args }));
  if (socket.readyState === WebSocket.OPEN) send();
  else if (socket.readyState === WebSocket.CONNECTING) socket.addEventListener("open", send, { once: true });
}
