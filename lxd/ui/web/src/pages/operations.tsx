import { ActionIcon, Group, Progress, Stack, Text, Title, Tooltip } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { X } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { operationOf } from "../api/events.ts";
import { instancesOf, isOver, newest, percent, progressText } from "../api/operations.ts";
import { useHistory, useOperations } from "../api/queries.ts";
import { path, request } from "../api/request.ts";
import type { Operation } from "../api/types.ts";
import { useEnvironment, useEvents } from "../app.tsx";
import { Loaded, Page } from "../components/page.tsx";
import { Status } from "../components/status.tsx";
import type { Column } from "../components/table.tsx";
import { DataTable } from "../components/table.tsx";
import { useTell } from "../components/tell.ts";
import { time } from "../lib/format.ts";

/** What has ended: what the server remembers, and what has ended since it was asked. */
function useEnded(): Operation[] {
  const events = useEvents();
  const before = useHistory();
  const [since, setSince] = useState<Operation[]>([]);
  useEffect(
    () =>
      events.subscribe((e) => {
        const o = operationOf(e);
        if (o && isOver(o)) setSince((all) => newest([o], all));
      }),
    [events],
  );
  return useMemo(() => newest(since, before.data ?? []), [since, before.data]);
}

export function Operations() {
  const { t } = useTranslation();
  const operations = useOperations();
  const ended = useEnded();
  const client = useQueryClient();
  const tell = useTell();
  const clustered = useEnvironment()?.server_clustered ?? false;

  const columns = useMemo(() => {
    const cancel = async (o: Operation) => {
      try {
        await request("DELETE", path(["operations", o.id]));
        tell.done(t("operations.cancelled"));
      } catch (e) {
        tell.error(t("operations.cancelFailed"), e);
      }
      void client.invalidateQueries({ queryKey: ["operations"] });
    };
    const what: Column<Operation>[] = [
      { id: "description", header: t("common.description"), sort: (o) => o.description, render: (o) => <span className="wrap">{o.description}</span> },
      { id: "about", header: t("operations.about"), sort: (o) => instancesOf(o).join(), render: (o) => <span className="wrap">{instancesOf(o).join(", ")}</span> },
      {
        id: "status",
        header: t("common.status"),
        sort: (o) => o.status,
        render: (o) => (
          <>
            <Status status={o.status} />
            {o.err !== "" && (
              <Text size="xs" c="red" className="wrap">
                {o.err}
              </Text>
            )}
          </>
        ),
      },
    ];
    const where: Column<Operation>[] = clustered
      ? [{ id: "member", header: t("common.member"), from: "sm", sort: (o) => o.location, render: (o) => o.location }]
      : [];
    const running: Column<Operation>[] = [
      ...what,
      {
        id: "progress",
        header: t("operations.progress"),
        from: "sm",
        render: (o) => <Progressing operation={o} />,
      },
      { id: "since", header: t("operations.since"), from: "md", sort: (o) => o.created_at, render: (o) => time(o.created_at) },
      ...where,
      {
        id: "actions",
        header: t("common.actions"),
        hiddenHeader: true,
        right: true,
        render: (o) =>
          o.may_cancel ? (
            <Tooltip label={t("operations.cancel")}>
              <ActionIcon variant="subtle" color="red" aria-label={t("operations.cancelLabel", { name: o.description })} onClick={() => void cancel(o)}>
                <X size={18} aria-hidden />
              </ActionIcon>
            </Tooltip>
          ) : null,
      },
    ];
    const over: Column<Operation>[] = [
      // The newest first: the order of the list.
      ...what.map((c) => ({ ...c, sort: undefined })),
      { id: "by", header: t("operations.by"), from: "md", render: (o) => <span className="wrap">{o.requestor?.username.slice(0, 24) || t("operations.byServer")}</span> },
      ...where.map((c) => ({ ...c, sort: undefined })),
      { id: "ended", header: t("operations.ended"), from: "sm", render: (o) => time(o.ended_at ?? o.updated_at) },
    ];
    return { running, over };
  }, [client, clustered, t, tell]);

  return (
    <Page title={t("operations.title")}>
      <Loaded query={operations}>
        {(all) => (
          <DataTable
            what={t("operations.running")}
            rows={all.filter((o) => !isOver(o))}
            columns={columns.running}
            rowKey={(o) => o.id}
            empty={t("operations.none")}
          />
        )}
      </Loaded>
      {ended.length > 0 && (
        <Stack gap="xs">
          <Group gap="xs" align="baseline">
            <Title order={3} size="h4">
              {t("operations.recent")}
            </Title>
            <Text size="xs" c="dimmed">
              {t("operations.more")}
            </Text>
          </Group>
          <DataTable what={t("operations.recent")} rows={ended} columns={columns.over} rowKey={(o) => o.id} empty="" />
        </Stack>
      )}
    </Page>
  );
}

export function Progressing({ operation }: { operation: Operation }) {
  const text = progressText(operation);
  const value = percent(text);
  if (text === "") return null;
  return (
    <Stack gap={2} miw={120}>
      {value !== undefined && <Progress value={value} size="sm" aria-label={text} />}
      <Text size="xs" c="dimmed">
        {text}
      </Text>
    </Stack>
  );
}
