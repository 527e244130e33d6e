import "@xterm/xterm/css/xterm.css";
import { Button, Group, Loader, Text } from "@mantine/core";
import { FitAddon } from "@xterm/addon-fit";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { WebglAddon } from "@xterm/addon-webgl";
import { Terminal } from "@xterm/xterm";
import { ClipboardCopy, ClipboardPaste, RefreshCw } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { finished } from "../api/operations.ts";
import { useEvents } from "../app.tsx";
import { sentence, useTell } from "../components/tell.ts";
import { Flow } from "./flow.ts";
import type { Size, Wires } from "./wires.ts";
import { control } from "./wires.ts";

export type Phase =
  | { is: "connecting" }
  | { is: "live" }
  | { is: "ended"; code?: number }
  | { is: "lost"; why: string };

interface Props {
  label: string;
  /** Opens the far end; without it the screen only shows what prelude says. */
  connect?: (size: Size) => Promise<Wires>;
  prelude?: string;
  /** Hidden screens keep their connection and are not measured. */
  active: boolean;
  endedText?: string;
  onPhase?: (p: Phase) => void;
}

function createTerminal(): { term: Terminal; fit: FitAddon } {
  const term = new Terminal({
    allowProposedApi: true, // unicode versions
    cursorBlink: true,
    fontFamily: "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace",
    fontSize: 14,
    scrollback: 10_000,
    theme: { background: "#101418", foreground: "#e6e9ec", cursor: "#e6e9ec", selectionBackground: "#3b5b78" },
  });
  const fit = new FitAddon();
  term.loadAddon(fit);
  term.loadAddon(new Unicode11Addon());
  term.unicode.activeVersion = "11";
  // Shift+Ctrl+C copies, as in other terminals; Ctrl+C is the guest's.
  term.attachCustomKeyEventHandler((e) => {
    if (!e.ctrlKey || !e.shiftKey || e.altKey || e.metaKey) return true;
    if (e.code === "KeyC") {
      if (e.type === "keydown") {
        e.preventDefault();
        void navigator.clipboard?.writeText(term.getSelection());
      }
      return false;
    }
    return e.code !== "KeyV"; // the browser pastes by itself
  });
  return { term, fit };
}

/** One terminal: the screen, its connection, and what to do when that ends. */
export function Screen(props: Props) {
  const { t } = useTranslation();
  const events = useEvents();
  const tell = useTell();
  const holder = useRef<HTMLDivElement>(null);
  const terminal = useRef<{ term: Terminal; fit: FitAddon } | undefined>(undefined);
  const [phase, setPhase] = useState<Phase>({ is: "connecting" });
  const [attempt, setAttempt] = useState(0);
  const { connect, prelude, label, active, onPhase } = props;

  // The screen itself lives as long as the component.
  useEffect(() => {
    const element = holder.current;
    if (element === null) return;
    const { term, fit } = createTerminal();
    terminal.current = { term, fit };
    term.open(element);
    term.textarea?.setAttribute("aria-label", label);
    try {
      const webgl = new WebglAddon();
      webgl.onContextLoss(() => webgl.dispose());
      term.loadAddon(webgl);
    } catch {
      // Without WebGL the screen is drawn by elements, slower and just as right.
    }
    if (prelude !== undefined) term.write(prelude);
    const measure = () => {
      if (element.clientWidth > 0 && element.clientHeight > 0) fit.fit();
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => {
      observer.disconnect();
      term.dispose();
      terminal.current = undefined;
    };
    // A new label or prelude is a new screen: the parent gives it another key.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, []);

  useEffect(() => onPhase?.(phase), [phase, onPhase]);

  // Connections come and go.
  useEffect(() => {
    const term = terminal.current?.term;
    if (term === undefined || connect === undefined) return;
    let over = false;
    let wires: Wires | undefined;
    let again: { dispose: () => void } | undefined; // Enter connects again, once it is over
    const leave: { dispose: () => void }[] = [];
    const close = () => {
      over = true;
      leave.forEach((l) => l.dispose());
      wires?.data.close();
      wires?.control.close();
    };
    const end = (p: Phase) => {
      if (over) return;
      close();
      setPhase(p);
      again = term.onKey(({ key }) => {
        if (key === "\r") setAttempt((n) => n + 1);
      });
    };
    void (async () => {
      setPhase({ is: "connecting" });
      try {
        wires = await connect({ cols: term.cols, rows: term.rows });
      } catch (e) {
        end({ is: "lost", why: sentence(e) });
        return;
      }
      if (over) {
        wires.data.close();
        wires.control.close();
        return;
      }
      const w = wires;
      // Once, when the first bytes come or the sockets are open: the size may have
      // changed while the far end was made.
      const resize = (s: Size) => control(w.control, "window-resize", { width: String(s.cols), height: String(s.rows) });
      w.control.addEventListener("open", () => resize({ cols: term.cols, rows: term.rows }), { once: true });
      leave.push(term.onResize(resize));
      const encoder = new TextEncoder();
      const send = (b: Uint8Array<ArrayBuffer>) => {
        if (w.data.readyState === WebSocket.OPEN) w.data.send(b);
      };
      leave.push(term.onData((s) => send(encoder.encode(s))));
      leave.push(term.onBinary((s) => send(Uint8Array.from(s, (c) => c.charCodeAt(0) & 0xff))));
      const flow = new Flow((on) => control(w.control, "flow", { hold: String(on) }));
      let finishedByServer = false;
      w.data.onopen = () => {
        setPhase({ is: "live" });
        if (holder.current?.offsetParent !== null) term.focus();
      };
      w.data.onmessage = (m: MessageEvent<string | ArrayBuffer>) => {
        if (typeof m.data === "string") {
          finishedByServer = true; // an empty text frame is the end of the stream
          return;
        }
        const b = new Uint8Array(m.data);
        flow.took(b.length);
        try {
          term.write(b, () => flow.drew(b.length));
        } catch {
          // The far end does not wait when it is asked to, and the terminal's memory is
          // bounded.
          end({ is: "lost", why: t("terminal.tooMuch") });
        }
      };
      w.data.onclose = () => {
        if (over) return;
        if (!finishedByServer) end({ is: "lost", why: "" });
      };
      try {
        const o = await finished(events, w.operation);
        const code = o.metadata?.["return"];
        // What the sockets still hold is drawn before the screen says that it is over.
        setTimeout(() => end({ is: "ended", code: typeof code === "number" ? code : undefined }), 100);
      } catch (e) {
        end({ is: "lost", why: sentence(e) });
      }
    })();
    return () => {
      again?.dispose();
      close();
    };
  }, [connect, events, attempt, t]);

  // The events' connection coming back says that the server is there again.
  useEffect(() => {
    if (phase.is !== "lost" || connect === undefined) return;
    return events.returned(() => setAttempt((n) => n + 1));
  }, [phase, events, connect]);

  useEffect(() => {
    if (active && phase.is === "live") terminal.current?.term.focus();
  }, [active, phase]);

  const copy = async () => {
    const text = terminal.current?.term.getSelection() ?? "";
    if (text === "") {
      tell.error(t("terminal.copy"), new Error(t("terminal.nothingSelected")));
      return;
    }
    await navigator.clipboard.writeText(text);
    terminal.current?.term.focus();
    tell.done(t("terminal.copied"));
  };
  const paste = async () => {
    try {
      terminal.current?.term.paste(await navigator.clipboard.readText());
      terminal.current?.term.focus();
    } catch {
      tell.error(t("terminal.paste"), new Error(t("terminal.noClipboard")));
    }
  };
  const press = (keys: string) => {
    terminal.current?.term.input(keys);
    terminal.current?.term.focus();
  };

  return (
    <>
      <div className="screen" role="group" aria-label={label} data-phase={connect ? phase.is : "shown"}>
        <div ref={holder} style={{ height: "100%" }} />
      </div>
      <Group gap="xs" pt="xs" justify="space-between">
        <Group gap="xs" role="status">
          {connect !== undefined && phase.is === "connecting" && (
            <>
              <Loader size="xs" />
              <Text size="sm">{t("terminal.connecting")}</Text>
            </>
          )}
          {phase.is === "ended" && (
            <Text size="sm">
              {props.endedText ?? (phase.code === undefined ? t("terminal.ended") : t("terminal.endedCode", { code: phase.code }))}
            </Text>
          )}
          {phase.is === "lost" && (
            <Text size="sm" c="red" className="wrap">
              {t("terminal.lost")} {phase.why}
            </Text>
          )}
          {connect !== undefined && (phase.is === "ended" || phase.is === "lost") && (
            <Button size="xs" variant="light" leftSection={<RefreshCw size={14} aria-hidden />} onClick={() => setAttempt((n) => n + 1)}>
              {t("terminal.again")}
            </Button>
          )}
        </Group>
        <Group gap={4}>
          {connect !== undefined && (
            <Group gap={4} hiddenFrom="sm" role="group" aria-label={t("terminal.keys")}>
              <Button size="compact-xs" variant="default" onClick={() => press("\x1b")}>
                {t("terminal.escape")}
              </Button>
              <Button size="compact-xs" variant="default" onClick={() => press("\t")}>
                {t("terminal.tabKey")}
              </Button>
              <Button size="compact-xs" variant="default" onClick={() => press("\x03")}>
                {t("terminal.interrupt")}
              </Button>
              <Button size="compact-xs" variant="default" onClick={() => press("\x1b[A")}>
                {t("terminal.up")}
              </Button>
              <Button size="compact-xs" variant="default" onClick={() => press("\x1b[B")}>
                {t("terminal.down")}
              </Button>
            </Group>
          )}
          <Button size="compact-xs" variant="default" leftSection={<ClipboardCopy size={12} aria-hidden />} onClick={() => void copy()}>
            {t("terminal.copy")}
          </Button>
          {connect !== undefined && (
            <Button size="compact-xs" variant="default" leftSection={<ClipboardPaste size={12} aria-hidden />} onClick={() => void paste()}>
              {t("terminal.paste")}
            </Button>
          )}
        </Group>
      </Group>
    </>
  );
}
