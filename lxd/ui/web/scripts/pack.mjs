// Brings what vite has built into the folder that the daemon embeds. Text goes there
// compressed only, as most of what is ever sent.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, extname, join, relative } from "node:path";
import { constants, gzipSync } from "node:zlib";

const from = new URL("../out", import.meta.url).pathname;
const to = new URL("../../dist", import.meta.url).pathname;
const text = new Set([".html", ".js", ".css", ".svg", ".json", ".txt"]);

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

// The licences of what went into the pages; they ask to be passed on. Packages that only
// help to build are no part of them.
const root = new URL("..", import.meta.url).pathname;
const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
let licences = "The web interface contains these packages.\n";
for (const [path, p] of Object.entries(lock.packages)) {
  if (path === "" || p.dev || p.optional || p.devOptional || !existsSync(join(root, path))) continue;
  const file = readdirSync(join(root, path)).find((f) => /^licen[cs]e/i.test(f));
  const words = file === undefined ? "" : readFileSync(join(root, path, file), "utf8").trim() + "\n";
  licences += `\n${"-".repeat(72)}\n${path.replace(/^.*node_modules\//, "")} ${p.version} (${p.license})\n\n${words}`;
}
writeFileSync(join(to, "licences.txt.gz"), gzipSync(licences, { level: constants.Z_BEST_COMPRESSION }));
