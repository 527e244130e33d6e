import type { Instance, InstanceState } from "../api/types.ts";

/** The addresses by which others reach an instance, of one family ("inet", "inet6"). */
export function addresses(state: InstanceState | null | undefined, family?: string): string[] {
  const out: string[] = [];
  for (const [name, n] of Object.entries(state?.network ?? {})) {
    if (name === "lo") continue;
    for (const a of n.addresses ?? []) {
      if (a.scope === "global" && (family === undefined || a.family === family)) out.push(a.address);
    }
  }
  return out;
}

/** Whether an instance fits what somebody types to search: all words, anywhere. */
export function matches(i: Instance, search: string): boolean {
  const all = [i.name, i.description, i.status, i.location, i.project, ...i.profiles, ...addresses(i.state)].join("\n").toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/)
    .every((w) => all.includes(w));
}

export type Action = "start" | "stop" | "restart" | "freeze" | "unfreeze";

/** Whether an instance runs. One whose guest has said that it is ready does too. */
export function isRunning(status: string): boolean {
  return status === "Running" || status === "Ready";
}

/** What can be done with an instance in a state. */
export function actions(status: string): Action[] {
  switch (status.toLowerCase()) {
    case "running":
    case "ready":
      return ["stop", "restart", "freeze"];
    case "frozen":
      return ["unfreeze", "stop"];
    case "stopped":
      return ["start"];
    case "error":
      return ["stop", "start"];
    default: // on its way somewhere
      return ["stop"];
  }
}

/** Why a name cannot be an instance's, as a key of a message; undefined when it can. */
export function nameProblem(name: string): "empty" | "long" | "start" | "characters" | "end" | undefined {
  if (name === "") return "empty";
  if (name.length > 63) return "long";
  if (!/^[a-zA-Z]/.test(name)) return "start";
  if (!/^[a-zA-Z0-9-]+$/.test(name)) return "characters";
  if (name.endsWith("-")) return "end";
  return undefined;
}
