import assert from "node:assert/strict";
import { test } from "node:test";
import { Flow } from "./flow.ts";

test("the server is held back above a mark and let go below another", () => {
  const said: boolean[] = [];
  const f = new Flow((on) => said.push(on), 100, 20);
  f.took(90);
  assert.deepEqual(said, []);
  f.took(20);
  f.took(20);
  assert.deepEqual(said, [true]);
  f.drew(90);
  assert.deepEqual(said, [true]);
  f.drew(30);
  assert.deepEqual(said, [true, false]);
  f.took(200);
  assert.deepEqual(said, [true, false, true]);
});
