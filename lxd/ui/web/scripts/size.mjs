// Adds up what a browser loads before it shows the first page, compressed as it is
// sent, and fails when that is more than it may be.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const most = 400 * 1024;
const out = new URL("../out/", import.meta.url);
const html = readFileSync(new URL("index.html", out));
const names = [...html.toString().matchAll(/(?:src|href)="\/ui\/([^"]+)"/g)].map((m) => m[1]);
let sum = gzipSync(html, { level: 9 }).length;
for (const name of names) sum += gzipSync(readFileSync(new URL(name, out)), { level: 9 }).length;
console.log(`first load: ${(sum / 1024).toFixed(1)} KiB compressed, ${names.length + 1} files (at most ${most / 1024} KiB)`);
if (sum > most) process.exit(1);
