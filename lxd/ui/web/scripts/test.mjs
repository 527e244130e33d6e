// Runs the unit tests: bundles each *.test.ts by vite, which is here anyway, and gives
// the result to node's own test runner.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "vite";

const root = new URL("..", import.meta.url).pathname;
const tests = readdirSync(join(root, "src"), { recursive: true }).filter((f) => f.endsWith(".test.ts"));
const outDir = mkdtempSync(join(root, "node_modules", ".unit-"));
try {
  await build({
    root,
    configFile: false,
    logLevel: "warn",
    build: {
      ssr: true,
      outDir,
      emptyOutDir: true,
      minify: false,
      rollupOptions: {
        input: Object.fromEntries(tests.map((f) => [f.replaceAll("/", "-").replace(/\.ts$/, ""), join(root, "src", f)])),
        output: { entryFileNames: "[name].mjs" },
      },
    },
  });
  const files = readdirSync(outDir).filter((f) => f.endsWith(".test.mjs"));
  const run = spawnSync(process.execPath, ["--test", "--test-reporter=dot", ...files], { cwd: outDir, stdio: "inherit" });
  process.exitCode = run.status ?? 1;
} finally {
  rmSync(outDir, { recursive: true, force: true });
}
