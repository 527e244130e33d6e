import { Alert, Anchor, Button, Center, Group, Loader, Menu, Stack, Tabs, Text } from "@mantine/core";
import { ChevronDown, Trash2 } from "lucide-react";
import { lazy, Suspense, useCallback, useEffect, useState } from "react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link, useNavigate, useParams } from "react-router";
import { useInstance, useInstanceState } from "../../api/queries.ts";
import { ApiError } from "../../api/request.ts";
import type { Instance, InstanceState } from "../../api/types.ts";
import { useEnvironment, useHref, useProject } from "../../app.tsx";
import type { Verb } from "../../components/actions.tsx";
import { useConfirmedActions } from "../../components/actions.tsx";
import { Loaded, Page } from "../../components/page.tsx";
import { Status } from "../../components/status.tsx";
import { bytes, time } from "../../lib/format.ts";
import { actions, isRunning } from "../../lib/instance.ts";
import type { Rate, Sample } from "../../lib/rates.ts";
import { rate, sample } from "../../lib/rates.ts";
import { verbIcon } from "../instances.tsx";
import { Facts } from "../overview.tsx";
import { InterfaceTable } from "./interfaces.tsx";

const Terminals = lazy(() => import("./terminal.tsx"));
const Console = lazy(() => import("./console.tsx"));
const Configuration = lazy(() => import("./configuration.tsx"));
const Graphs = lazy(() => import("./graphs.tsx"));

const tabs = ["overview", "terminal", "console", "configuration", "graphs"] as const;
type Tab = (typeof tabs)[number];

/** How often the counters are looked at, and how many looks make the graphs' five minutes. */
const every = 2_000;
const looks = 150;

/** Brings the tab of the moment into a row that is wider than the screen. */
function intoView(e: HTMLElement | null): void {
  e?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** What the counters have told since the page was opened. */
function useRates(state: InstanceState | undefined, at: number): Rate[] {
  const [history, setHistory] = useState<{ last?: Sample; rates: Rate[] }>({ rates: [] });
  useEffect(() => {
    if (state === undefined || state.pid <= 0) return;
    setHistory((h) => {
      const s = sample(at, state);
      const r = h.last && rate(h.last, s);
      return { last: s, rates: r ? [...h.rates, r].slice(-looks) : h.rates };
    });
  }, [state, at]);
  return history.rates;
}

/** One instance. */
export default function InstancePage() {
  const { name = "" } = useParams();
  // Another instance is another page: nothing of the first one's terminals stays.
  return <OneInstance key={name} name={name} />;
}

function OneInstance({ name }: { name: string }) {
  const { t } = useTranslation();
  const href = useHref();
  const navigate = useNavigate();
  const project = useProject();
  const params = useParams();
  const tab: Tab = tabs.find((x) => x === params["tab"]) ?? "overview";
  const [visited, setVisited] = useState<ReadonlySet<Tab>>(new Set([tab]));
  if (!visited.has(tab)) setVisited(new Set([...visited, tab]));
  const query = useInstance(project, name);
  const state = useInstanceState(project, name, every);
  const rates = useRates(state.data, state.dataUpdatedAt);
  const after = useCallback(
    (verb: Verb, ok: unknown[]) => {
      if (verb === "delete" && ok.length > 0) void navigate(href("/instances"));
    },
    [navigate, href],
  );
  const { ask, dialog } = useConfirmedActions(after);

  if (query.error instanceof ApiError && query.error.status === 404) {
    return (
      <Page title={name}>
        <Alert color="yellow" title={t("instance.notFound", { name })}>
          <Anchor component={Link} to={href("/instances")}>
            {t("instance.back")}
          </Anchor>
        </Alert>
      </Page>
    );
  }
  const instance = query.data?.metadata;
  const status = instance?.status ?? "";
  const panel = (which: Tab, content: (shown: boolean) => ReactNode) => (
    <Tabs.Panel value={which} pt="md">
      {visited.has(which) && (
        <Suspense
          fallback={
            <Center h={160}>
              <Loader aria-label={t("app.loading")} />
            </Center>
          }
        >
          {content(tab === which)}
        </Suspense>
      )}
    </Tabs.Panel>
  );
  return (
    <Page
      title={
        <Group gap="sm" component="span">
          {name}
          {instance && <Status status={status} />}
        </Group>
      }
      actions={instance && <InstanceButtons instance={instance} ask={ask} />}
    >
      <Loaded query={query}>
        {(answer) => (
          <Tabs
            value={tab}
            onChange={(v) => void navigate(href(`/instances/${encodeURIComponent(name)}${v === "overview" ? "" : `/${v}`}`), { replace: true })}
            keepMounted
            keepMountedMode="display-none" // terminals go on while another tab is shown
          >
            <Tabs.List className="scrolling-tabs">
              {tabs.map((x) => (
                <Tabs.Tab key={x} value={x} ref={x === tab ? intoView : undefined}>
                  {t(`instance.${x}`)}
                </Tabs.Tab>
              ))}
            </Tabs.List>
            {panel("overview", () => (
              <About instance={answer.metadata} state={state.data} />
            ))}
            {panel("terminal", (shown) => (
              <Terminals name={name} status={status} shown={shown} />
            ))}
            {panel("console", (shown) => (
              <Console name={name} status={status} shown={shown} />
            ))}
            {panel("configuration", () => (
              <Configuration answer={answer} />
            ))}
            {panel("graphs", () => (
              <Graphs rates={rates} running={isRunning(status)} />
            ))}
          </Tabs>
        )}
      </Loaded>
      {dialog}
    </Page>
  );
}

function InstanceButtons(props: { instance: Instance; ask: (verb: Verb, i: Instance[]) => void }) {
  const { t } = useTranslation();
  const { instance, ask } = props;
  const [first, ...others] = actions(instance.status);
  const FirstIcon = first ? verbIcon[first] : undefined;
  return (
    <>
      {first && FirstIcon && (
        <Button variant="default" size="sm" leftSection={<FirstIcon size={16} aria-hidden />} onClick={() => ask(first, [instance])}>
          {t(`action.${first}`)}
        </Button>
      )}
      <Menu position="bottom-end">
        <Menu.Target>
          <Button variant="default" size="sm" rightSection={<ChevronDown size={16} aria-hidden />}>
            {t("common.actions")}
          </Button>
        </Menu.Target>
        <Menu.Dropdown>
          {others.map((verb) => {
            const Icon = verbIcon[verb];
            return (
              <Menu.Item key={verb} leftSection={<Icon size={16} aria-hidden />} onClick={() => ask(verb, [instance])}>
                {t(`action.${verb}`)}
              </Menu.Item>
            );
          })}
          <Menu.Item color="red" leftSection={<Trash2 size={16} aria-hidden />} onClick={() => ask("delete", [instance])}>
            {t("action.delete")}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </>
  );
}

function About({ instance, state }: { instance: Instance; state: InstanceState | undefined }) {
  const { t } = useTranslation();
  const clustered = useEnvironment()?.server_clustered ?? false;
  const rows: [string, ReactNode][] = [];
  if (instance.description !== "") rows.push([t("common.description"), instance.description]);
  rows.push(
    [t("common.type"), instance.type === "virtual-machine" ? t("instances.vm") : t("instances.container")],
    [t("instance.architecture"), instance.architecture],
  );
  if (clustered) rows.push([t("common.member"), instance.location]);
  rows.push(
    [t("instance.image"), instance.config["image.description"] || t("common.none")],
    [t("instance.profiles"), instance.profiles.join(", ") || t("common.none")],
    [t("instance.ephemeral"), instance.ephemeral ? t("common.yes") : t("common.no")],
    [t("common.created"), time(instance.created_at)],
    [t("instance.lastUsed"), time(instance.last_used_at) || t("common.never")],
  );
  if (state && state.pid > 0) {
    rows.push([t("instance.pid"), String(state.pid)]);
    if (state.processes >= 0) rows.push([t("instance.processes"), String(state.processes)]);
    if (state.memory.usage > 0) rows.push([t("instance.memory"), bytes(state.memory.usage)]);
  }
  return (
    <Stack>
      <Facts rows={rows} />
      <Text fw={600}>{t("instance.interfaces")}</Text>
      <InterfaceTable state={state} />
    </Stack>
  );
}
