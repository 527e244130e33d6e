import type { Config, Devices, Instance, InstancePut } from "../api/types.ts";

/** A key and its value while somebody edits them; the id stays when the key changes. */
export interface Row {
  id: number;
  key: string;
  value: string;
}

export interface DeviceDraft {
  id: number;
  name: string;
  rows: Row[];
}

/** What can be edited of an instance, in the shape of the form. */
export interface Draft {
  description: string;
  profiles: string[];
  rows: Row[];
  devices: DeviceDraft[];
}

/** Keys that the server writes for itself: shown on request, saved as they are. */
export function isVolatile(key: string): boolean {
  return key.startsWith("volatile.") || key.startsWith("image.");
}

let nextID = 1;

export function newRow(key = "", value = ""): Row {
  return { id: nextID++, key, value };
}

export function newDevice(name: string, options: Record<string, string>): DeviceDraft {
  return { id: nextID++, name, rows: rowsOf(options) };
}

function rowsOf(c: Config): Row[] {
  return Object.keys(c)
    .sort()
    .map((k) => newRow(k, c[k]));
}

export function draftOf(i: Instance): Draft {
  return {
    description: i.description,
    profiles: [...i.profiles],
    rows: rowsOf(Object.fromEntries(Object.entries(i.config).filter(([k]) => !isVolatile(k)))),
    devices: Object.keys(i.devices)
      .sort()
      .map((name) => newDevice(name, i.devices[name] ?? {})),
  };
}

export type Problem =
  | { is: "keyMissing" }
  | { is: "keyTwice"; key: string }
  | { is: "deviceMissing" }
  | { is: "deviceTwice"; name: string };

function rowProblem(rows: Row[]): Problem | undefined {
  const seen = new Set<string>();
  for (const { key } of rows) {
    if (key.trim() === "") return { is: "keyMissing" };
    if (seen.has(key.trim())) return { is: "keyTwice", key: key.trim() };
    seen.add(key.trim());
  }
  return undefined;
}

/** Why a draft cannot be saved; what values may be is for the server to say. */
export function problemOf(d: Draft): Problem | undefined {
  const first = rowProblem(d.rows);
  if (first) return first;
  const seen = new Set<string>();
  for (const dev of d.devices) {
    if (dev.name.trim() === "") return { is: "deviceMissing" };
    if (seen.has(dev.name.trim())) return { is: "deviceTwice", name: dev.name.trim() };
    seen.add(dev.name.trim());
    const p = rowProblem(dev.rows);
    if (p) return p;
  }
  return undefined;
}

function configOf(rows: Row[]): Config {
  return Object.fromEntries(rows.map((r) => [r.key.trim(), r.value]));
}

/** The request that saves a draft: what the form does not show stays as it is. */
export function putOf(i: Instance, d: Draft): InstancePut {
  const kept = Object.fromEntries(Object.entries(i.config).filter(([k]) => isVolatile(k)));
  const devices: Devices = Object.fromEntries(d.devices.map((dev) => [dev.name.trim(), configOf(dev.rows)]));
  return {
    architecture: i.architecture,
    config: { ...kept, ...configOf(d.rows) },
    devices,
    ephemeral: i.ephemeral,
    profiles: d.profiles,
    stateful: i.stateful,
    description: d.description,
  };
}

/** Whether two drafts say the same, whatever their ids. */
export function same(a: Draft, b: Draft): boolean {
  const plain = (d: Draft) =>
    JSON.stringify({
      d: d.description,
      p: d.profiles,
      r: d.rows.map((r) => [r.key, r.value]),
      v: d.devices.map((x) => [x.name, x.rows.map((r) => [r.key, r.value])]),
    });
  return plain(a) === plain(b);
}
