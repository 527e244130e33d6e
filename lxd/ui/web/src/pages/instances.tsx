import { ActionIcon, Anchor, Button, Group, Menu, Paper, Stack, Text, TextInput, Tooltip } from "@mantine/core";
import { EllipsisVertical, Play, Plus, RotateCw, Search, Snowflake, Square, SquareTerminal, Trash2 } from "lucide-react";
import type { LucideIcon } from "lucide-react";
import { useCallback, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { useInstances } from "../api/queries.ts";
import type { Instance } from "../api/types.ts";
import { useEnvironment, useHref, useProject } from "../app.tsx";
import type { Verb } from "../components/actions.tsx";
import { useConfirmedActions } from "../components/actions.tsx";
import { Loaded, Page } from "../components/page.tsx";
import { Status } from "../components/status.tsx";
import type { Column } from "../components/table.tsx";
import { DataTable } from "../components/table.tsx";
import { bytes } from "../lib/format.ts";
import { actions, addresses, isRunning, matches } from "../lib/instance.ts";

export const verbIcon: Record<Verb, LucideIcon> = {
  start: Play,
  stop: Square,
  restart: RotateCw,
  freeze: Snowflake,
  unfreeze: Play,
  delete: Trash2,
};

const bulk: Verb[] = ["start", "stop", "restart", "delete"];

export function Instances() {
  const { t } = useTranslation();
  const href = useHref();
  const project = useProject();
  const instances = useInstances(project);
  const clustered = useEnvironment()?.server_clustered ?? false;
  const [search, setSearch] = useState("");
  const [chosen, setChosen] = useState<Set<string>>(new Set());
  const after = useCallback(() => setChosen(new Set()), []);
  const { ask, dialog } = useConfirmedActions(after);

  const columns = useMemo<Column<Instance>[]>(() => {
    const address = (family: string, i: Instance) => (
      <Stack gap={0}>
        {addresses(i.state, family).map((a) => (
          <Text key={a} size="sm" className="address">
            {a}
          </Text>
        ))}
      </Stack>
    );
    const out: Column<Instance>[] = [
      {
        id: "name",
        header: t("common.name"),
        sort: (i) => i.name,
        render: (i) => (
          <>
            <Anchor component={Link} to={href(`/instances/${encodeURIComponent(i.name)}`)} fw={600} className="wrap">
              {i.name}
            </Anchor>
            <Text size="xs" c="dimmed" hiddenFrom="sm" className="wrap">
              {[clustered ? i.location : "", addresses(i.state)[0]].filter(Boolean).join(" · ")}
            </Text>
            {i.description !== "" && (
              <Text size="xs" c="dimmed" lineClamp={1} className="wrap">
                {i.description}
              </Text>
            )}
          </>
        ),
      },
      { id: "status", header: t("common.status"), sort: (i) => i.status, render: (i) => <Status status={i.status} /> },
      {
        id: "ipv4",
        header: t("instances.ipv4"),
        from: "sm",
        sort: (i) => addresses(i.state, "inet")[0] ?? "",
        render: (i) => address("inet", i),
      },
      { id: "ipv6", header: t("instances.ipv6"), from: "lg", render: (i) => address("inet6", i) },
      {
        id: "memory",
        header: t("instances.memoryUse"),
        from: "md",
        right: true,
        sort: (i) => i.state?.memory?.usage ?? 0,
        render: (i) => (i.state && i.state.memory.usage > 0 ? bytes(i.state.memory.usage) : ""),
      },
    ];
    if (clustered) {
      out.push({ id: "member", header: t("common.member"), from: "sm", sort: (i) => i.location, render: (i) => i.location });
    }
    out.push({
      id: "actions",
      header: t("common.actions"),
      hiddenHeader: true,
      right: true,
      render: (i) => <RowActions instance={i} ask={ask} />,
    });
    return out;
  }, [ask, clustered, href, t]);

  return (
    <Page
      title={t("instances.title")}
      actions={
        <Button component={Link} to={href("/create")} leftSection={<Plus size={16} aria-hidden />}>
          {t("instances.create")}
        </Button>
      }
    >
      <TextInput
        type="search"
        aria-label={t("instances.searchLabel")}
        placeholder={t("instances.searchHint")}
        leftSection={<Search size={16} aria-hidden />}
        value={search}
        onChange={(e) => setSearch(e.currentTarget.value)}
        maw={420}
      />
      <Loaded query={instances}>
        {(all) => {
          const shown = all.filter((i) => matches(i, search.trim()));
          const picked = all.filter((i) => chosen.has(i.name));
          return (
            <>
              {picked.length > 0 && (
                <Paper withBorder p="xs" role="toolbar" aria-label={t("common.actions")}>
                  <Group gap="xs">
                    <Text size="sm" px="xs">
                      {t("instances.selected", { count: picked.length })}
                    </Text>
                    {bulk.map((verb) => {
                      const able = verb === "delete" ? picked : picked.filter((i) => (actions(i.status) as Verb[]).includes(verb));
                      const Icon = verbIcon[verb];
                      return (
                        <Button
                          key={verb}
                          size="xs"
                          variant={verb === "delete" ? "light" : "default"}
                          color={verb === "delete" ? "red" : undefined}
                          disabled={able.length === 0}
                          leftSection={<Icon size={14} aria-hidden />}
                          onClick={() => ask(verb, able)}
                        >
                          {t(`action.${verb}`)}
                        </Button>
                      );
                    })}
                    <Button size="xs" variant="subtle" onClick={() => setChosen(new Set())}>
                      {t("instances.unselect")}
                    </Button>
                  </Group>
                </Paper>
              )}
              <DataTable
                what={t("instances.title")}
                rows={shown}
                columns={columns}
                rowKey={(i) => i.name}
                empty={all.length === 0 ? t("instances.none") : t("instances.noMatch")}
                choice={{
                  chosen,
                  set: setChosen,
                  labelAll: t("instances.selectAll"),
                  label: (name) => t("instances.select", { name }),
                }}
              />
            </>
          );
        }}
      </Loaded>
      {dialog}
    </Page>
  );
}

function RowActions(props: { instance: Instance; ask: (verb: Verb, i: Instance[]) => void }) {
  const { t } = useTranslation();
  const href = useHref();
  const { instance, ask } = props;
  const possible = actions(instance.status);
  const first = possible[0];
  const FirstIcon = first ? verbIcon[first] : undefined;
  const terminal = href(`/instances/${encodeURIComponent(instance.name)}/terminal`);
  return (
    <Group gap={4} justify="flex-end" wrap="nowrap">
      {isRunning(instance.status) && (
        <Tooltip label={t("instances.terminalOf", { name: instance.name })}>
          <ActionIcon variant="subtle" component={Link} to={terminal} aria-label={t("instances.terminalOf", { name: instance.name })}>
            <SquareTerminal size={18} aria-hidden />
          </ActionIcon>
        </Tooltip>
      )}
      {first && FirstIcon && (
        <Tooltip label={t(`action.${first}`)}>
          <ActionIcon
            variant="subtle"
            visibleFrom="xs"
            aria-label={`${t(`action.${first}`)}: ${instance.name}`}
            onClick={() => ask(first, [instance])}
          >
            <FirstIcon size={18} aria-hidden />
          </ActionIcon>
        </Tooltip>
      )}
      <Menu position="bottom-end" withinPortal>
        <Menu.Target>
          <ActionIcon variant="subtle" aria-label={t("common.more", { name: instance.name })}>
            <EllipsisVertical size={18} aria-hidden />
          </ActionIcon>
        </Menu.Target>
        <Menu.Dropdown>
          {possible.map((verb) => {
            const Icon = verbIcon[verb];
            return (
              <Menu.Item key={verb} leftSection={<Icon size={16} aria-hidden />} onClick={() => ask(verb, [instance])}>
                {t(`action.${verb}`)}
              </Menu.Item>
            );
          })}
          <Menu.Divider />
          <Menu.Item color="red" leftSection={<Trash2 size={16} aria-hidden />} onClick={() => ask("delete", [instance])}>
            {t("action.delete")}
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
    </Group>
  );
}
