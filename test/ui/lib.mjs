// What the browser tests share: a browser, the client, and waiting.
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { promisify } from "node:util";

// The packages are the web interface's own.
const require = createRequire(new URL("../../lxd/ui/web/package.json", import.meta.url));
export const { chromium } = require("playwright-core");

const exec = promisify(execFile);

// The client reads what stands in its standard input, so that must have an end.
function run(program, args) {
  const running = exec(program, args, { timeout: 60_000 });
  running.child.stdin.end();
  return running;
}

/** Runs the client against the daemon of the test. */
export async function lxc(...args) {
  const { stdout } = await run(process.env.SETT_LXC, args);
  return stdout.trim();
}

/** Runs a statement on the daemon's database. */
export async function sql(statement) {
  await run(process.env.SETT_LXD, ["sql", "global", statement]);
}

export const link = () => lxc("webui");

/** Instances of other daemons on this machine have other names. */
export const named = (name) => `${name}-${process.env.SETT_TOKEN}`;

/**
 * A browser whose terminals are drawn by elements, which can be read; what is drawn by
 * WebGL is pixels.
 */
export function launch(args = []) {
  return chromium.launch({
    executablePath: process.env.SETT_CHROMIUM,
    args: ["--no-sandbox", "--disable-3d-apis", "--disable-dev-shm-usage", ...args],
  });
}

/** A context in which everything that goes wrong in a page is collected. */
export async function context(browser, options = {}) {
  const ctx = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", ...options });
  ctx.setDefaultTimeout(30_000);
  const wrong = [];
  ctx.on("weberror", (e) => wrong.push(e.error().message));
  ctx.on("console", (m) => {
    // Refused requests are part of the tests; violations of the policy are not.
    if (m.type() === "error" && /Content Security Policy|Refused to/i.test(m.text())) wrong.push(m.text());
  });
  return { ctx, wrong };
}

/** Logs in and returns the page and the address that pages begin with. */
export async function loggedIn(ctx) {
  const page = await ctx.newPage();
  const url = await link();
  await page.goto(url);
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  return { page, base: url.replace(/login#.*$/, "") };
}

/** What a terminal shows, lines joined where they were wrapped. */
export async function screen(page) {
  const rows = await page.locator(".xterm-rows:visible > div").allTextContents();
  return rows.map((r) => r.replaceAll("\u00a0", " ").trimEnd()).join("\n");
}

/** Waits until a terminal shows something, and returns all that it shows. */
export async function shows(page, pattern, what = "the terminal") {
  const until = Date.now() + 30_000;
  let text = "";
  while (Date.now() < until) {
    text = await screen(page);
    if (pattern.test(text)) return text;
    await new Promise((r) => setTimeout(r, 50));
  }
  throw new Error(`${what} does not show ${pattern}; it shows:\n${text}`);
}

/** Opens an instance's terminal and waits until it is connected. */
export async function terminal(page, base, instance) {
  await page.goto(`${base}instances/${instance}/terminal`);
  await page.locator('[data-phase="live"]:visible').waitFor();
  await prompt(page);
}

/** Waits until a shell's prompt is the last thing that a terminal shows. */
export const prompt = (page) => shows(page, /[#$]\s*$/);

/**
 * Types a line for a shell that waits for one. A shell asks for the place of the cursor
 * when it prompts; the answer lands in the output of a command that runs already.
 */
export async function type(page, text) {
  await prompt(page);
  await page.locator(".xterm-helper-textarea:visible").focus();
  await page.keyboard.type(text + "\n");
}
