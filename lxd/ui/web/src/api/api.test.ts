import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff, EventStream, touched } from "./events.ts";
import { failed, finished, instancesOf, isOver, newest, operationID, percent, progressText } from "./operations.ts";
import { ApiError, path, request, websocketURL } from "./request.ts";
import type { ApiEvent, Operation } from "./types.ts";

function operation(over: Partial<Operation> = {}): Operation {
  return {
    id: "1",
    class: "task",
    description: "",
    created_at: "",
    updated_at: "",
    status: "Running",
    status_code: 103,
    resources: null,
    metadata: null,
    may_cancel: false,
    err: "",
    location: "none",
    ...over,
  };
}

function answer(status: number, body: unknown, headers: Record<string, string> = {}): void {
  globalThis.fetch = () =>
    Promise.resolve(new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers }));
}

test("path elements and parameters are escaped", () => {
  assert.equal(path(["instances", "a/../b?c"], { project: "x&y", target: "", none: undefined }), "/1.0/instances/a%2F..%2Fb%3Fc?project=x%26y");
  assert.equal(path([]), "/1.0");
});

test("what has ended is listed once, the last to end first", () => {
  const at = (id: string, ended: string, err = "") => operation({ id, ended_at: `2026-01-01T00:00:${ended}Z`, status_code: 200, err });
  const unknown = operation({ id: "4", updated_at: "2026-01-01T00:00:25Z", status_code: 401 });
  const all = newest([at("1", "10", "as told just now"), unknown], [at("1", "10"), at("2", "30"), at("3", "20"), operation({ id: "5" })]);
  assert.deepEqual(all.map((o) => o.id), ["2", "4", "3", "1"]);
  assert.equal(all[3]?.err, "as told just now");
});

test("websockets are as secret as the page", () => {
  assert.equal(websocketURL({ protocol: "https:", host: "h:1" }, "/1.0/events"), "wss://h:1/1.0/events");
  assert.equal(websocketURL({ protocol: "http:", host: "h" }, "/x"), "ws://h/x");
});

test("an error of the API keeps its sentence", async () => {
  answer(404, { type: "error", error: "Instance not found", error_code: 404 });
  await assert.rejects(request("GET", "/1.0/x"), (e) => e instanceof ApiError && e.status === 404 && e.message === "Instance not found");
  answer(502, "<html>proxy</html>");
  await assert.rejects(request("GET", "/1.0/x"), (e) => e instanceof ApiError && e.status === 502);
});

test("an answer brings its ETag without quotes", async () => {
  answer(200, { type: "sync", metadata: { a: 1 } }, { ETag: '"abc"' });
  assert.deepEqual(await request("GET", "/1.0/x"), { metadata: { a: 1 }, etag: "abc", operation: "" });
});

test("operations tell how they are", () => {
  assert.ok(!isOver(operation()));
  assert.ok(isOver(operation({ status_code: 200 })));
  assert.ok(!failed(operation({ status_code: 200 })));
  assert.ok(failed(operation({ status_code: 400 })));
  assert.equal(progressText(operation({ metadata: { create_progress: "rootfs: 45% (1MB/s)" } })), "rootfs: 45% (1MB/s)");
  assert.equal(percent("rootfs: 45% (1MB/s)"), 45);
  assert.equal(percent("12.3MB"), undefined);
  assert.equal(operationID("/1.0/operations/abc?project=x"), "abc");
  assert.deepEqual(instancesOf(operation({ resources: { instances: ["/1.0/instances/c%201?project=p"] } })), ["c 1"]);
});

test("an operation's end comes by asking when events do not tell", async () => {
  const events = new EventStream(() => "default");
  answer(200, { type: "sync", metadata: operation({ status_code: 200, status: "Success" }) });
  assert.equal((await finished(events, "/1.0/operations/1")).status, "Success");
  answer(200, { type: "sync", metadata: operation({ status_code: 400, err: "No space" }) });
  await assert.rejects(finished(events, "/1.0/operations/1"), /No space/);
});

test("an operation that the server has forgotten while we watched is over", async () => {
  const events = new EventStream(() => "default");
  let asked = 0;
  globalThis.fetch = () =>
    Promise.resolve(
      asked++ === 0
        ? new Response(JSON.stringify({ type: "sync", metadata: operation() }), { status: 200 })
        : new Response(JSON.stringify({ type: "error", error: "not found", error_code: 404 }), { status: 404 }),
    );
  assert.equal((await finished(events, "/1.0/operations/1", () => {}, 5)).status_code, 200);
});

test("events name what they touch", () => {
  const e = (source: string, action = "x"): ApiEvent => ({ type: "lifecycle", timestamp: "", metadata: { source, action } });
  assert.deepEqual(touched(e("/1.0/instances/c1")), ["instances"]);
  assert.deepEqual(touched(e("/1.0/instances/c1", "instance-exec")), []);
  assert.deepEqual(touched(e("/1.0/profiles/p?project=x")), ["profiles", "instances"]);
  assert.deepEqual(touched(e("/1.0/cluster/members/m")), ["members", "server"]);
  assert.deepEqual(touched({ type: "operation", timestamp: "", metadata: {} }), ["operations"]);
});

test("waiting grows and has an end", () => {
  assert.equal(backoff(0), 500);
  assert.equal(backoff(20), 15_000);
});
