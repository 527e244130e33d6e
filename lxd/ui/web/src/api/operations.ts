import type { EventStream } from "./events.ts";
import { operationOf } from "./events.ts";
import { ApiError, get, path } from "./request.ts";
import type { Operation } from "./types.ts";

/** Status codes from here on mean that an operation is over. */
const over = 200;

export function isOver(o: Operation): boolean {
  return o.status_code >= over;
}

export function failed(o: Operation): boolean {
  return o.status_code >= 400;
}

/** How many operations that have ended are shown. */
const most = 50;

/** The operations of two lists that have ended, each once, the last to end first. What the first list says counts. */
export function newest(a: Operation[], b: Operation[]): Operation[] {
  const all = new Map([...b, ...a].map((o) => [o.id, o]));
  const end = (o: Operation) => Date.parse(o.ended_at ?? o.updated_at);
  return [...all.values()]
    .filter(isOver)
    .sort((x, y) => end(y) - end(x))
    .slice(0, most);
}

/** What an operation says of how far it is: "rootfs: 45% (12.3MB/s)" or the like. */
export function progressText(o: Operation): string {
  for (const [k, v] of Object.entries(o.metadata ?? {})) {
    if (k.endsWith("_progress") && typeof v === "string") return v;
  }
  return "";
}

/** The percentage in a progress text, when it has one. */
export function percent(text: string): number | undefined {
  const m = /(\d{1,3})(?:\.\d+)?%/.exec(text);
  return m ? Math.min(100, Number(m[1])) : undefined;
}

/** The id in "/1.0/operations/ID". */
export function operationID(url: string): string {
  return (url.split("?")[0] ?? "").split("/").pop() ?? "";
}

/** The names of the instances that an operation is about. */
export function instancesOf(o: Operation): string[] {
  return (o.resources?.["instances"] ?? o.resources?.["containers"] ?? []).map((u) =>
    decodeURIComponent((u.split("?")[0] ?? "").split("/")[3] ?? ""),
  );
}

/**
 * Waits for an operation to end. Events tell of it; asking now and then makes up for
 * those that a lost connection has taken. A long request for the end would be simpler,
 * but a browser has no more than six at a time. Throws when the operation fails.
 */
export async function finished(
  events: EventStream,
  url: string,
  onProgress: (o: Operation) => void = () => {},
  every = 5_000,
): Promise<Operation> {
  const id = operationID(url);
  return new Promise((resolve, reject) => {
    let done = false;
    let last: Operation | undefined;
    const take = (o: Operation) => {
      if (done) return;
      last = o;
      if (!isOver(o)) {
        onProgress(o);
        return;
      }
      end();
      if (failed(o)) reject(new ApiError(o.status_code, o.err || o.status));
      else resolve(o);
    };
    const ask = async () => {
      try {
        take(await get<Operation>(path(["operations", id])));
      } catch (e) {
        if (done || !(e instanceof ApiError)) return; // the network: asked again later
        end();
        // Operations are forgotten a while after their end. What it came to nobody knows
        // then; the lists are read anew anyway.
        if (e.status === 404 && last !== undefined) resolve({ ...last, status_code: over });
        else reject(e);
      }
    };
    const timer = setInterval(() => void ask(), every);
    const leave = [
      events.subscribe((e) => {
        const o = operationOf(e);
        if (o?.id === id) take(o);
      }),
      events.returned(() => void ask()),
    ];
    const end = () => {
      done = true;
      clearInterval(timer);
      leave.forEach((f) => f());
    };
    void ask();
  });
}
