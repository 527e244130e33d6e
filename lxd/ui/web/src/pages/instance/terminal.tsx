import { ActionIcon, Alert, Button, Group, Tabs, Tooltip } from "@mantine/core";
import { Plus, X } from "lucide-react";
import { useCallback, useState } from "react";
import { useTranslation } from "react-i18next";
import { useProject } from "../../app.tsx";
import { useInstanceActions } from "../../components/actions.tsx";
import { isRunning } from "../../lib/instance.ts";
import { Screen } from "../../terminal/screen.tsx";
import type { Size } from "../../terminal/wires.ts";
import { openShell } from "../../terminal/wires.ts";

/** Shells in an instance, each in a tab of its own. */
export default function Terminals(props: { name: string; status: string; shown: boolean }) {
  const { t } = useTranslation();
  const { name, status } = props;
  const project = useProject();
  const act = useInstanceActions();
  const [open, setOpen] = useState<number[]>([1]);
  const [current, setCurrent] = useState(1);
  const [last, setLast] = useState(1);
  const [everRan, setEverRan] = useState(isRunning(status));
  if (isRunning(status) && !everRan) setEverRan(true);
  const connect = useCallback((size: Size) => openShell(project, name, size), [project, name]);

  if (!everRan) {
    return (
      <Alert color="gray" title={t("instance.notRunning")}>
        <Button size="xs" onClick={() => void act("start", { name, status })}>
          {t("terminal.start")}
        </Button>
      </Alert>
    );
  }
  const add = () => {
    const n = last + 1;
    setLast(n);
    setOpen([...open, n]);
    setCurrent(n);
  };
  const close = (n: number) => {
    const rest = open.filter((x) => x !== n);
    setOpen(rest);
    if (current === n) setCurrent(rest[rest.length - 1] ?? 0);
  };
  return (
    <Tabs value={String(current)} onChange={(v) => setCurrent(Number(v))} variant="outline" keepMounted keepMountedMode="display-none">
      <Group gap={4} wrap="nowrap" align="center" mb="xs">
        <Tabs.List aria-label={t("terminal.tabs")} style={{ flexWrap: "nowrap", overflowX: "auto" }}>
          {open.map((n) => (
            <Group key={n} gap={0} wrap="nowrap">
              <Tabs.Tab value={String(n)}>{t("terminal.tab", { n })}</Tabs.Tab>
              <ActionIcon size="xs" variant="subtle" color="gray" aria-label={t("terminal.close", { n })} onClick={() => close(n)}>
                <X size={12} aria-hidden />
              </ActionIcon>
            </Group>
          ))}
        </Tabs.List>
        <Tooltip label={t("terminal.new")}>
          <ActionIcon variant="default" aria-label={t("terminal.new")} onClick={add}>
            <Plus size={16} aria-hidden />
          </ActionIcon>
        </Tooltip>
      </Group>
      {open.map((n) => (
        <Tabs.Panel key={n} value={String(n)} className={n === current ? "screen-fill" : undefined}>
          <Screen label={t("terminal.screen", { name })} connect={connect} active={props.shown && n === current} />
        </Tabs.Panel>
      ))}
    </Tabs>
  );
}
