import assert from "node:assert/strict";
import { test } from "node:test";
import type { Instance, InstanceState } from "../api/types.ts";
import { draftOf, newDevice, newRow, problemOf, putOf, same } from "./draft.ts";
import { browserName, bytes, time } from "./format.ts";
import { actions, addresses, isRunning, matches, nameProblem } from "./instance.ts";
import { rate, sample } from "./rates.ts";

function state(over: Partial<InstanceState> = {}): InstanceState {
  return {
    status: "Running",
    cpu: { usage: 0 },
    memory: { usage: 0, usage_peak: 0 },
    network: null,
    pid: 1,
    processes: 1,
    ...over,
  };
}

function nic(addresses: [string, string, string][], received = 0, sent = 0) {
  return {
    addresses: addresses.map(([family, address, scope]) => ({ family, address, scope, netmask: "24" })),
    counters: { bytes_received: received, bytes_sent: sent },
    hwaddr: "",
    state: "up",
    type: "broadcast",
  };
}

function instance(over: Partial<Instance> = {}): Instance {
  return {
    name: "web1",
    status: "Running",
    type: "container",
    location: "m1",
    project: "default",
    created_at: "",
    last_used_at: "",
    architecture: "x86_64",
    config: { "limits.cpu": "2", "volatile.uuid": "u", "image.os": "x" },
    devices: { root: { type: "disk", path: "/" } },
    expanded_config: {},
    expanded_devices: {},
    ephemeral: false,
    profiles: ["default"],
    stateful: false,
    description: "the shop",
    ...over,
  };
}

test("sizes read as people write them", () => {
  assert.equal(bytes(0), "0 B");
  assert.equal(bytes(1023), "1023 B");
  assert.equal(bytes(1536), "1.5 KiB");
  assert.equal(bytes(250 * 1024 * 1024), "250 MiB");
  assert.equal(bytes(-1), "–");
  assert.equal(bytes(Number.NaN), "–");
});

test("times that stand for never are empty", () => {
  assert.equal(time("0001-01-01T00:00:00Z"), "");
  assert.equal(time("1970-01-01T00:00:00Z"), "");
  assert.equal(time("nonsense"), "");
  assert.notEqual(time("2026-01-02T03:04:05Z"), "");
});

test("browsers are known by name", () => {
  const agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
  assert.equal(browserName(agent), "Chrome 156");
  assert.equal(browserName(agent + " Edg/156.0"), "Edge 156");
  assert.equal(browserName("curl/8.1 x"), "curl/8.1");
});

test("addresses are those that others reach", () => {
  const s = state({
    network: {
      lo: nic([["inet", "127.0.0.1", "global"]]),
      eth0: nic([
        ["inet", "10.0.0.2", "global"],
        ["inet6", "fe80::1", "link"],
        ["inet6", "fd00::2", "global"],
      ]),
    },
  });
  assert.deepEqual(addresses(s), ["10.0.0.2", "fd00::2"]);
  assert.deepEqual(addresses(s, "inet6"), ["fd00::2"]);
  assert.deepEqual(addresses(null), []);
});

test("a search finds all its words, anywhere", () => {
  const i = instance({ state: state({ network: { eth0: nic([["inet", "10.0.0.2", "global"]]) } }) });
  assert.ok(matches(i, ""));
  assert.ok(matches(i, "WEB shop"));
  assert.ok(matches(i, "10.0.0"));
  assert.ok(!matches(i, "web nothing"));
});

test("what can be done depends on the state", () => {
  assert.deepEqual(actions("Stopped"), ["start"]);
  assert.ok(actions("Running").includes("stop"));
  assert.ok(!actions("Running").includes("start"));
  assert.deepEqual(actions("Frozen"), ["unfreeze", "stop"]);
});

test("an instance that is ready runs", () => {
  assert.ok(isRunning("Running"));
  assert.ok(isRunning("Ready"));
  assert.ok(!isRunning("Frozen"));
  assert.ok(!isRunning("Stopped"));
});

test("names of instances", () => {
  assert.equal(nameProblem("web-1"), undefined);
  assert.equal(nameProblem(""), "empty");
  assert.equal(nameProblem("1web"), "start");
  assert.equal(nameProblem("web_1"), "characters");
  assert.equal(nameProblem("web-"), "end");
  assert.equal(nameProblem("a".repeat(64)), "long");
  assert.equal(nameProblem("a<script>"), "characters");
});

test("rates come from two looks, and from none when counters began anew", () => {
  const a = sample(1000, state({ cpu: { usage: 0 }, network: { lo: nic([], 9e9, 9e9), eth0: nic([], 100, 0) } }));
  const b = sample(3000, state({ cpu: { usage: 1e9 }, network: { eth0: nic([], 2100, 0) } }));
  assert.deepEqual(rate(a, b), { at: 3, cpu: 50, memory: 0, received: 1000, sent: 0 });
  assert.equal(rate(b, a), undefined);
  assert.equal(rate(a, a), undefined);
  assert.equal(rate(b, { ...b, at: 5000, cpu: 0 }), undefined);
});

test("a draft keeps what the form does not show", () => {
  const i = instance();
  const d = draftOf(i);
  assert.deepEqual(
    d.rows.map((r) => r.key),
    ["limits.cpu"],
  );
  assert.ok(same(d, draftOf(i)));
  d.rows.push(newRow("user.x", "1"));
  assert.ok(!same(d, draftOf(i)));
  const put = putOf(i, d);
  assert.deepEqual(put.config, { "limits.cpu": "2", "volatile.uuid": "u", "image.os": "x", "user.x": "1" });
  assert.deepEqual(put.devices, i.devices);
});

test("a draft that means two things is not saved", () => {
  const d = draftOf(instance());
  assert.equal(problemOf(d), undefined);
  assert.deepEqual(problemOf({ ...d, rows: [...d.rows, newRow("limits.cpu ", "3")] }), { is: "keyTwice", key: "limits.cpu" });
  assert.deepEqual(problemOf({ ...d, rows: [newRow("", "3")] }), { is: "keyMissing" });
  assert.deepEqual(problemOf({ ...d, devices: [...d.devices, newDevice("root", {})] }), { is: "deviceTwice", name: "root" });
  assert.deepEqual(problemOf({ ...d, devices: [newDevice(" ", {})] }), { is: "deviceMissing" });
});
