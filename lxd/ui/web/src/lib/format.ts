// Numbers and times for people.

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** 1536 -> "1.5 KiB" */
export function bytes(n: number): string {
  if (!Number.isFinite(n) || n < 0) return "–";
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  const digits = i === 0 || n >= 100 ? 0 : n >= 10 ? 1 : 2;
  return `${Number(n.toFixed(digits))} ${units[i]}`;
}

/** A time of the API's as the browser's language writes it; nothing for "never". */
export function time(s: string | undefined): string {
  if (!s || s.startsWith("0001-") || s.startsWith("1970-01-01T00:00:00")) return "";
  const d = new Date(s);
  return Number.isNaN(d.getTime()) ? "" : d.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** The time of day of a number of seconds, to the minute. */
export function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, { timeStyle: "short" });
}

/** The first twelve digits of a fingerprint. */
export function short(fingerprint: string): string {
  return fingerprint.slice(0, 12);
}

/** What a browser calls itself, shortened to a name. All claim to be others too, so the order counts. */
export function browserName(agent: string): string {
  for (const [mark, name] of [
    ["Edg/", "Edge"],
    ["OPR/", "Opera"],
    ["Firefox/", "Firefox"],
    ["Chrome/", "Chrome"],
    ["Safari/", "Safari"],
  ] as const) {
    const at = agent.indexOf(mark);
    if (at >= 0) return `${name} ${agent.slice(at + mark.length).split(".")[0]}`;
  }
  return agent.split(" ")[0] ?? "";
}
