// Brings what vite has built into the folder that the daemon embeds. Text goes there
// compressed only, as most of what is ever sent.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, extname, join, relative } from "node:path";
import { constants, gzipSync } from "node:zlib";

const from = new URL("../out", import.meta.url).pathname;
const to = new URL("../../dist", import.meta.url).pathname;
const text = new Set([".html", ".js", ".css", ".svg", ".json"]);

for (const entry of existsSync(to) ? readdirSync(to) : []) {
  if (entry !== ".keep") rmSync(join(to, entry), { recursive: true });
}
for (const entry of readdirSync(from, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile()) continue;
  const path = join(entry.parentPath, entry.name);
  const target = join(to, relative(from, path));
  mkdirSync(dirname(target), { recursive: true });
  const body = readFileSync(path);
  if (text.has(extname(entry.name))) writeFileSync(target + ".gz", gzipSync(body, { level: constants.Z_BEST_COMPRESSION }));
  else writeFileSync(target, body);
}
