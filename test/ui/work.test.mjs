// A day's work in the browser: launch, look, type, attach, change, stop, delete.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { context, launch, loggedIn, lxc, named, prompt, screen, shows, terminal, type } from "./lib.mjs";

describe("work", () => {
  const c1 = named("c1");
  let browser, ctx, wrong, page, base;
  let broken = false;

  // Each goes on where the one before it has ended.
  const step = (name, f) =>
    test(name, async (t) => {
      if (broken) return t.skip("an earlier step has failed");
      broken = true;
      await f();
      broken = false;
    });

  before(async () => {
    browser = await launch();
    ({ ctx, wrong } = await context(browser));
    await ctx.grantPermissions(["clipboard-read", "clipboard-write"]);
    ({ page, base } = await loggedIn(ctx));
  });

  after(async () => {
    await browser?.close();
    assert.deepEqual(wrong, [], "errors in the pages");
  });

  step("launch from the form until the guest has an address", async () => {
    await page.getByRole("link", { name: "Instances", exact: true }).first().click();
    await page.getByRole("link", { name: "Create an instance" }).click();
    await page.getByRole("button", { name: "Create", exact: true }).click();
    await page.getByText("An instance needs a name.").waitFor();
    await page.getByLabel("Name").fill(c1);
    await page.getByRole("combobox", { name: "Image" }).click();
    await page.getByRole("option", { name: /^tiny/ }).click();
    await page.getByRole("button", { name: "Create", exact: true }).click();
    await page.getByText("Ready", { exact: true }).waitFor();
    await page.getByText(/\d+\.\d+\.\d+\.\d+|[0-9a-f:]+::?[0-9a-f:]+/).first().waitFor();
    assert.match(await lxc("list", "--format", "csv", "--columns", "ns", c1), /RUNNING/);
    await page.getByRole("link", { name: "Open a terminal" }).click();
    await page.locator('[data-phase="live"]').waitFor();
  });

  step("type in the terminal and read the answer", async () => {
    await terminal(page, base, c1);
    await type(page, "echo answer=$((6*7)); hostname");
    const text = await shows(page, /answer=42/);
    assert.match(text, /answer=42/);
    await shows(page, new RegExp(`^${c1}$`, "m"));
  });

  step("wide characters take two cells and arrive whole", async () => {
    await type(page, "clear; printf '漢字|äöü|🙂|\\n'");
    await shows(page, /^漢字\|äöü\|🙂\|$/m);
    await type(page, "printf 漢字 | wc -c");
    await shows(page, /^6$/m);
  });

  step("the guest knows the size of the screen, and when it changes", async () => {
    const columns = async () => {
      await type(page, "clear; echo w=$(stty size | cut -d' ' -f2).");
      const text = await shows(page, /^w=(\d+)\.$/m);
      return Number(/^w=(\d+)\.$/m.exec(text)[1]);
    };
    const wide = await columns();
    assert.ok(wide > 90, `the screen is ${wide} columns wide`);
    await page.setViewportSize({ width: 700, height: 800 });
    await page.waitForFunction(() => document.querySelector(".xterm-screen")?.clientWidth < 700);
    // The size goes its own way, beside what is typed.
    let narrow = await columns();
    for (let i = 0; i < 20 && narrow >= wide; i++) narrow = await columns();
    assert.ok(narrow < wide, `after shrinking it is ${narrow}, was ${wide}`);
    await page.setViewportSize({ width: 1280, height: 800 });
  });

  step("big output does not drown the page", async () => {
    await type(page, "clear; seq 1 300000; echo all-$((40+2))-done");
    await shows(page, /^300000\nall-42-done$/m);
    await type(page, "clear; echo still=$((1+1))");
    await shows(page, /^still=2$/m);
  });

  step("copy and paste", async () => {
    await page.evaluate(() => navigator.clipboard.writeText("echo pasted=$((5+5))"));
    // The clipboard is read meanwhile: a key that comes first would press the button again.
    await prompt(page);
    await page.getByRole("button", { name: "Paste" }).click();
    await shows(page, /echo pasted=\$\(\(5\+5\)\)$/m);
    await page.locator(".xterm-helper-textarea:visible").focus();
    await page.keyboard.press("Enter");
    await shows(page, /^pasted=10$/m);
    await page.locator(".xterm-rows > div", { hasText: /^pasted=10/ }).first().dblclick({ position: { x: 10, y: 8 }, force: true });
    await page.getByRole("button", { name: "Copy" }).click();
    await page.getByText("Copied", { exact: true }).first().waitFor();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /pasted/);
  });

  step("several terminals at a time, each its own shell", async () => {
    await type(page, "clear; mark=first");
    await page.getByRole("button", { name: "New terminal" }).click();
    await page.locator('[data-phase="live"]:visible').waitFor();
    await type(page, "echo [$mark]");
    await shows(page, /^\[\]$/m);
    await page.getByRole("tab", { name: "Shell 1" }).click();
    await type(page, "echo [$mark]");
    await shows(page, /^\[first\]$/m);
    await page.getByRole("button", { name: "Close terminal 2" }).click();
    assert.equal(await page.getByRole("tab", { name: "Shell 2" }).count(), 0);
  });

  step("a shell that has ended can be opened again", async () => {
    await type(page, "exit 3");
    await page.getByText("The shell has ended with code 3.").waitFor();
    await page.getByRole("button", { name: "Connect again" }).click();
    await page.locator('[data-phase="live"]:visible').waitFor();
    await type(page, "echo back=$((2+2))");
    await shows(page, /^back=4$/m);
  });

  step("attach to the console and read its log", async () => {
    await lxc("exec", c1, "--", "sh", "-c", "echo said-before >/dev/console");
    await page.getByRole("tab", { name: "Console" }).click();
    await shows(page, /said-before/, "the log");
    await page.getByRole("button", { name: "Attach" }).click();
    await page.locator('[data-phase="live"]:visible').waitFor();
    await lxc("exec", c1, "--", "sh", "-c", "echo said-after >/dev/console");
    await shows(page, /said-before[\s\S]*said-after/, "the console");
    await page.getByRole("button", { name: "Detach" }).click();
    await shows(page, /said-after/, "the log");
  });

  step("graphs draw what the guest does", async () => {
    await page.getByRole("tab", { name: "Graphs" }).click();
    await page.locator(".uplot canvas").first().waitFor();
    await page.getByText(/\d+(\.\d)? %/).first().waitFor();
  });

  step("operations are shown and can be cancelled", async () => {
    await page.goto(`${base}operations`);
    await page.getByText("Nothing is being done right now.").waitFor();
    const sleeping = lxc("exec", c1, "--", "sleep", "600").catch((e) => e);
    const row = page.getByRole("table", { name: /Running/ }).getByRole("row", { name: new RegExp(c1) });
    await row.getByRole("button", { name: "Cancel: Executing command" }).click();
    await page.getByRole("table", { name: /Ended/ }).getByText("Cancelled", { exact: true }).waitFor();
    await row.waitFor({ state: "detached" });
    await sleeping;
    await page.reload(); // the server remembers it
    await page.getByRole("table", { name: /Ended/ }).getByText("Cancelled", { exact: true }).first().waitFor();
  });

  step("change the configuration, and not over somebody else's change", async () => {
    await page.goto(`${base}instances/${c1}/configuration`);
    await page.getByRole("button", { name: "Add a key" }).first().click();
    await page.getByLabel("Key", { exact: true }).first().fill("user.note");
    await page.getByLabel("Value: user.note").fill("<b>bold</b>");
    // What is written while the server takes its time to save, or to tell how it is now, is kept.
    const slow = new RegExp(`/1\\.0/instances/${c1}(\\?|$)`);
    await page.route(slow, (route) => setTimeout(() => void route.continue(), 400));
    await page.getByRole("button", { name: "Save the changes" }).click();
    await page.getByLabel("Value: user.note").fill("mine");
    await page.getByText(`${c1} is changed`).waitFor();
    await page.unroute(slow);
    assert.equal(await lxc("config", "get", c1, "user.note"), "<b>bold</b>");

    await lxc("config", "set", c1, "user.note", "theirs");
    await page.getByRole("button", { name: "Save the changes" }).click();
    await page.getByText("Somebody else has changed it meanwhile").waitFor();
    assert.equal(await lxc("config", "get", c1, "user.note"), "theirs");
    await page.getByRole("button", { name: "Discard" }).click();
    await page.waitForFunction(() => document.querySelector('textarea[aria-label="Value: user.note"]')?.value === "theirs");

    await page.getByLabel("Value: user.note").fill("x");
    await page.getByLabel("Key", { exact: true }).first().fill("limits.memory");
    await page.getByLabel("Value: limits.memory").fill("lots");
    await page.getByRole("button", { name: "Save the changes" }).click();
    await page.getByRole("alert").filter({ hasText: "limits.memory" }).waitFor();
    await page.getByRole("button", { name: "Discard" }).click();
  });

  step("the list follows what others do", async () => {
    await page.goto(`${base}instances`);
    const row = page.getByRole("row", { name: new RegExp(c1) });
    await row.getByText("Running").waitFor();
    await lxc("stop", "--force", c1);
    await row.getByText("Stopped").waitFor({ timeout: 5_000 });
    await row.getByRole("button", { name: `Start: ${c1}` }).click();
    await row.getByText("Running").waitFor();
    await page.getByLabel("Search the instances").fill("nothing-like-this");
    await page.getByText("No instance fits the search.").waitFor();
    await page.getByLabel("Search the instances").fill(c1.slice(0, 4));
    await row.waitFor();
  });

  step("stop and delete, several at once", async () => {
    const c2 = named("c2");
    await lxc("launch", "tiny", c2);
    await page.goto(`${base}instances`);
    for (const name of [c1, c2]) await page.getByLabel(`Choose ${name}`).check();
    await page.getByText("2 instances chosen").waitFor();
    await page.getByRole("toolbar").getByRole("button", { name: "Stop" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Stop" }).click();
    for (const name of [c1, c2]) await page.getByRole("row", { name: new RegExp(name) }).getByText("Stopped").waitFor();
    for (const name of [c1, c2]) await page.getByLabel(`Choose ${name}`).check();
    await page.getByRole("toolbar").getByRole("button", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    for (const name of [c1, c2]) await page.getByRole("row", { name: new RegExp(name) }).waitFor({ state: "detached" });
    assert.equal(await lxc("list", "--format", "csv", "--columns", "n"), "");
  });

  step("an error is told in the server's own words", async () => {
    await page.goto(`${base}instances/${named("nobody")}`);
    await page.getByText(`There is no instance ${named("nobody")}`).waitFor();
    await page.goto(`${base}nothing-here`);
    await page.getByText("There is no such page").waitFor();
  });
});
