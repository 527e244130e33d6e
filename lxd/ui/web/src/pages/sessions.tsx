import { Button, Group, Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { useSessions } from "../api/queries.ts";
import { path, request } from "../api/request.ts";
import type { Session } from "../api/types.ts";
import { Loaded, Page } from "../components/page.tsx";
import type { Column } from "../components/table.tsx";
import { DataTable } from "../components/table.tsx";
import { useTell } from "../components/tell.ts";
import { browserName, time } from "../lib/format.ts";

export function Sessions() {
  const { t } = useTranslation();
  const sessions = useSessions();
  const client = useQueryClient();
  const tell = useTell();
  const revoke = async (s: Session) => {
    try {
      await request("DELETE", path(["webui", "sessions", s.id]));
      tell.done(t("sessions.revoked"));
    } catch (e) {
      tell.error(t("sessions.revokeFailed"), e);
    }
    // The browser's own: there is nothing left to show.
    if (s.current) await client.resetQueries();
    else await client.invalidateQueries({ queryKey: ["webui"] });
  };
  const columns: Column<Session>[] = [
    {
      id: "browser",
      header: t("sessions.browser"),
      sort: (s) => browserName(s.user_agent),
      render: (s) => (
        <>
          <Text size="sm" fw={600}>
            {browserName(s.user_agent)}
            {s.current && ` (${t("sessions.this")})`}
          </Text>
          <Text size="xs" c="dimmed" className="wrap">
            {s.address}
          </Text>
        </>
      ),
    },
    { id: "user", header: t("sessions.user"), from: "xs", sort: (s) => s.username, render: (s) => <span className="wrap">{s.username.slice(0, 24)}</span> },
    { id: "since", header: t("sessions.since"), from: "sm", sort: (s) => s.created_at, render: (s) => time(s.created_at) },
    { id: "expires", header: t("sessions.expires"), from: "sm", sort: (s) => s.expires_at, render: (s) => time(s.expires_at) },
    {
      id: "actions",
      header: t("common.actions"),
      hiddenHeader: true,
      right: true,
      render: (s) => (
        <Group justify="flex-end">
          <Button size="xs" variant="light" color="red" aria-label={t("sessions.revokeLabel", { name: `${browserName(s.user_agent)}, ${s.address}` })} onClick={() => void revoke(s)}>
            {t("sessions.revoke")}
          </Button>
        </Group>
      ),
    },
  ];
  return (
    <Page title={t("sessions.title")}>
      <Text c="dimmed" size="sm">
        {t("sessions.intro")}
      </Text>
      <Loaded query={sessions}>
        {(all) => <DataTable what={t("sessions.title")} rows={all} columns={columns} rowKey={(s) => s.id} empty={t("sessions.none")} />}
      </Loaded>
    </Page>
  );
}
