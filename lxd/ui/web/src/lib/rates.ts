import type { InstanceState } from "../api/types.ts";

/** One look at the counters of an instance. */
export interface Sample {
  at: number; // milliseconds
  cpu: number; // nanoseconds of processor time
  memory: number; // bytes
  received: number; // bytes, all interfaces but loopback
  sent: number;
}

/** What two looks tell: at the later one's time. */
export interface Rate {
  at: number; // seconds, as graphs take it
  cpu: number; // percent of one processor
  memory: number;
  received: number; // bytes per second
  sent: number;
}

export function sample(at: number, s: InstanceState): Sample {
  let received = 0;
  let sent = 0;
  for (const [name, n] of Object.entries(s.network ?? {})) {
    if (name === "lo") continue;
    received += n.counters.bytes_received;
    sent += n.counters.bytes_sent;
  }
  return { at, cpu: s.cpu.usage, memory: s.memory.usage, received, sent };
}

/** Undefined where no time has passed or the counters began anew, as after a restart. */
export function rate(a: Sample, b: Sample): Rate | undefined {
  const ms = b.at - a.at;
  if (ms <= 0 || b.cpu < a.cpu || b.received < a.received || b.sent < a.sent) return undefined;
  return {
    at: b.at / 1000,
    cpu: ((b.cpu - a.cpu) / (ms * 1e6)) * 100,
    memory: b.memory,
    received: ((b.received - a.received) * 1000) / ms,
    sent: ((b.sent - a.sent) * 1000) / ms,
  };
}
