// What must not happen: links and sessions that work for too long, texts of users and
// guests that act, other sites that borrow a session.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { context, launch, link, loggedIn, lxc, named, shows, sql, terminal, type } from "./lib.mjs";

const evil = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>"'><svg onload=window.pwned=1>`;

describe("safety", () => {
  const c3 = named("c3");
  let browser;

  before(async () => {
    browser = await launch();
    await lxc("launch", "tiny", c3, "-c", `user.x=${evil}`);
  });

  after(async () => {
    await browser?.close();
    await lxc("delete", "--force", c3);
  });

  test("a link logs in once", async () => {
    const { ctx, wrong } = await context(browser);
    const url = await link();
    const page = await ctx.newPage();
    await page.goto(url);
    await page.getByRole("heading", { name: "Overview" }).waitFor();
    assert.ok(!page.url().includes("#"), "the token stays in the address");
    const [cookie] = await ctx.cookies();
    assert.ok(cookie.httpOnly && cookie.sameSite === "Strict", JSON.stringify(cookie));
    assert.equal(await page.evaluate(() => document.cookie), "", "scripts can read the cookie");

    const other = await context(browser);
    const late = await other.ctx.newPage();
    await late.goto(url);
    await late.getByText("used already or is too old").waitFor();
    assert.deepEqual(await other.ctx.cookies(), []);
    await other.ctx.close();
    await ctx.close();
    assert.deepEqual(wrong, []);
  });

  test("a link that is too old logs nobody in", async () => {
    const { ctx } = await context(browser);
    const url = await link();
    await sql("UPDATE webui_links SET expiry_date = '2020-01-01T00:00:00Z'");
    const page = await ctx.newPage();
    await page.goto(url);
    await page.getByText("used already or is too old").waitFor();
    await ctx.close();
  });

  test("without a session the pages show how to get one, and nothing else", async () => {
    const { ctx } = await context(browser);
    const page = await ctx.newPage();
    const base = (await link()).replace(/login#.*$/, "");
    await page.goto(`${base}instances/${c3}`);
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    assert.equal(await page.getByText(c3).count(), 0);
    await ctx.close();
  });

  test("a session that is over is over on the next page, with its terminal", async () => {
    const { ctx } = await context(browser);
    const { page, base } = await loggedIn(ctx);
    await terminal(page, base, c3);
    const [id] = (await lxc("webui", "list", "--format", "csv")).split("\n").at(-1).split(",");
    await lxc("webui", "revoke", id);
    await page.getByRole("heading", { name: "Log in" }).waitFor();

    const again = await loggedIn(ctx);
    await sql("UPDATE webui_sessions SET expiry_date = '2020-01-01T00:00:00Z'");
    // The page may notice by itself before it can be clicked.
    await again.page.getByRole("link", { name: "Images" }).first().click({ timeout: 1_000 }).catch(() => {});
    await again.page.getByRole("heading", { name: "Log in" }).waitFor();
    await ctx.close();
  });

  test("log out", async () => {
    const { ctx } = await context(browser);
    const { page } = await loggedIn(ctx);
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    assert.deepEqual(await ctx.cookies(), []);
    await ctx.close();
  });

  test("texts of users and guests are texts", async () => {
    const { ctx, wrong } = await context(browser);
    await lxc("config", "set", c3, "user.note", evil);
    await lxc("query", "-X", "PATCH", "--wait", "-d", JSON.stringify({ description: evil }), `/1.0/instances/${c3}`);
    await lxc("query", "-X", "PATCH", "-d", JSON.stringify({ description: evil }), "/1.0/profiles/default");
    const fingerprint = JSON.parse(await lxc("image", "list", "--format", "json"))[0].fingerprint;
    await lxc("query", "-X", "PATCH", "-d", JSON.stringify({ properties: { description: evil } }), `/1.0/images/${fingerprint}`);
    await lxc("image", "alias", "create", "<b>alias<b>", fingerprint);
    const { page, base } = await loggedIn(ctx);
    for (const [path, there] of [
      ["", c3],
      ["instances", evil],
      [`instances/${c3}`, evil],
      [`instances/${c3}/configuration`, "From profiles"],
      ["profiles", evil],
      ["images", evil],
      ["create", "Create an instance"],
      [`instances/${encodeURIComponent(evil)}`, evil],
    ]) {
      await page.goto(base + path);
      await page.getByText(there, { exact: false }).first().waitFor();
      assert.equal(await page.evaluate(() => window.pwned), undefined, `a script ran on ${path}`);
      assert.equal(await page.locator("img[src=x]").count(), 0, `an element of a text is on ${path}`);
    }
    await terminal(page, base, c3);
    const title = await page.title();
    // A title, a link and a clipboard that a guest asks for.
    await type(page, `printf '\\033]0;stolen\\007\\033]52;c;c3RvbGVu\\007${"<script>window.pwned=1</script>"}\\n'; echo end=$((3*3))`);
    await shows(page, /^end=9$/m);
    assert.equal(await page.title(), title);
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    await ctx.close();
    assert.deepEqual(wrong, []);
    await lxc("image", "alias", "delete", "<b>alias<b>");
    await lxc("query", "-X", "PATCH", "-d", JSON.stringify({ description: "" }), "/1.0/profiles/default");
  });

  test("another site gets nothing out of a session", async () => {
    const { ctx } = await context(browser);
    const { base } = await loggedIn(ctx);
    const api = new URL(base).origin;
    const site = createServer((_, res) => res.setHeader("Content-Type", "text/html").end("<!doctype html><title>other</title>"));
    await new Promise((r) => site.listen(0, "0.0.0.0", r));
    try {
      // The same host with another port is the same site to a browser, which sends even
      // strict cookies along; 127.0.0.1 is another site.
      for (const host of [new URL(api).hostname, "127.0.0.1"]) {
        const page = await ctx.newPage();
        await page.goto(`http://${host}:${site.address().port}/`);
        const got = await page.evaluate(async (api) => {
          const attempt = async (f) => {
            try {
              return await f();
            } catch {
              return "refused";
            }
          };
          const socket = (url) =>
            new Promise((done) => {
              const s = new WebSocket(url);
              s.onopen = () => done("open");
              s.onerror = () => done("refused");
            });
          const framed = () =>
            new Promise((done) => {
              const f = document.createElement("iframe");
              f.onload = () => {
                try {
                  done(f.contentDocument === null ? "refused" : f.contentDocument.body.textContent);
                } catch {
                  done("refused");
                }
              };
              f.src = api + "/ui/";
              document.body.append(f);
            });
          const post = (body, type, mode) =>
            fetch(api + "/1.0/profiles", { method: "POST", mode, credentials: "include", body, headers: { "Content-Type": type } }).then((r) => r.type);
          return {
            read: await attempt(() => fetch(api + "/1.0/instances", { credentials: "include" }).then((r) => r.text())),
            json: await attempt(() => post('{"name":"stolen1"}', "application/json", "cors")),
            plain: await attempt(() => post('{"name":"stolen2"}', "text/plain", "no-cors")),
            socket: await socket(api.replace("http", "ws") + "/1.0/events"),
            frame: await framed(),
          };
        }, api);
        assert.equal(got.read, "refused");
        assert.equal(got.json, "refused");
        assert.equal(got.plain, "opaque"); // it was sent; what came of it is looked at below
        assert.equal(got.socket, "refused");
        assert.ok(got.frame === "refused" || got.frame === "", `a frame shows ${got.frame}`);
        // A form is a navigation, which needs no leave of the server's.
        await page.evaluate((api) => {
          const f = document.createElement("form");
          f.method = "post";
          f.action = api + "/1.0/profiles";
          f.enctype = "text/plain";
          const i = document.createElement("input");
          i.name = '{"name":"stolen3","x":"';
          i.value = '"}';
          f.append(i);
          document.body.append(f);
          f.submit();
        }, api);
        await page.waitForURL(api + "/**");
        assert.match(await page.content(), /"error_code":403/);
        await page.close();
      }
      assert.ok(!(await lxc("profile", "list", "--format", "csv")).includes("stolen"));
    } finally {
      site.close();
      site.closeAllConnections();
    }
    // The session itself is as good as before.
    const own = await ctx.newPage();
    await own.goto(base);
    await own.getByRole("heading", { name: "Overview" }).waitFor();
    await ctx.close();
  });

  test("a name that resolves to loopback is not ours", async () => {
    const base = new URL((await link()).replace(/login#.*$/, ""));
    const rebound = await launch([`--host-resolver-rules=MAP evil.example ${base.hostname}`]);
    const page = await rebound.newPage();
    const answer = await page.goto(`http://evil.example:${base.port}/1.0`);
    assert.equal(answer.status(), 421);
    await rebound.close();
  });
});
