// Measures how long a key takes to come back: in the browser's terminal, and in 'lxc
// exec' on a terminal of this machine. The echo is the guest's terminal's own, so that no
// shell is measured. Run by TestMeasureKeystrokes; see test/system/measure_test.go.
import { spawn } from "node:child_process";
import { context, launch, loggedIn, named, terminal, type } from "./lib.mjs";

const instance = named("c1");
const keys = 200;
const pause = 30; // milliseconds between keys, as of somebody who types fast

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

function report(what, times) {
  times.sort((a, b) => a - b);
  const at = (q) => times[Math.round(q * (times.length - 1))].toFixed(2);
  console.log(`${what}: median ${at(0.5)} ms, p90 ${at(0.9)} ms, min ${at(0)} ms, max ${at(1)} ms of ${times.length}`);
}

async function inTheClient() {
  // script(1) gives the client a terminal.
  const client = spawn("script", ["--quiet", "--command", `${process.env.SETT_LXC} exec ${instance} -- sh -c 'echo ready; exec cat >/dev/null'`, "/dev/null"]);
  let heard = () => {};
  let text = "";
  client.stdout.on("data", (b) => {
    text += b;
    heard();
  });
  const until = (found) =>
    new Promise((done) => {
      heard = () => found() && done();
      heard();
    });
  await until(() => text.includes("ready"));
  await wait(300);
  const times = [];
  for (let i = 0; i < keys; i++) {
    text = "";
    const start = performance.now();
    client.stdin.write("x");
    await until(() => text.includes("x"));
    times.push(performance.now() - start);
    await wait(pause);
  }
  client.kill();
  return times;
}

async function inTheBrowser(args) {
  const browser = await launch(args);
  const { ctx } = await context(browser);
  // The times of each key, of the websocket that brings its echo, and of the next picture.
  await ctx.addInitScript(() => {
    const marks = { came: [], drawn: [], start: 0 };
    window.marks = marks;
    addEventListener("keydown", (e) => (marks.start = e.timeStamp), { capture: true });
    const Socket = window.WebSocket;
    window.WebSocket = class extends Socket {
      constructor(...a) {
        super(...a);
        this.addEventListener("message", (m) => {
          if (typeof m.data === "string" || marks.start === 0) return;
          const start = marks.start;
          marks.start = 0;
          marks.came.push(performance.now() - start);
          requestAnimationFrame(() => {
            const c = new MessageChannel(); // after the picture
            c.port1.onmessage = () => marks.drawn.push(performance.now() - start);
            c.port2.postMessage(0);
          });
        });
      }
    };
  });
  const { page, base } = await loggedIn(ctx);
  await terminal(page, base, instance);
  await type(page, "cat >/dev/null");
  await wait(500);
  await page.evaluate(() => Object.assign(window.marks, { came: [], drawn: [], start: 0 }));
  for (let i = 0; i < keys; i++) {
    await page.keyboard.press(i % 60 === 59 ? "Enter" : "x");
    await wait(pause);
  }
  const { came, drawn } = await page.evaluate(() => window.marks);
  await browser.close();
  return { came, drawn };
}

report("lxc exec, key to echo", await inTheClient());
const { came, drawn } = await inTheBrowser([]);
report("browser, key to echo on the websocket", came);
report("browser, key to the picture after it", drawn);
