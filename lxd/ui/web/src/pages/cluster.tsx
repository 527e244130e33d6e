import { Alert, Badge, Code, Group, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useInstances, useMembers } from "../api/queries.ts";
import type { Member } from "../api/types.ts";
import { useEnvironment, useProject } from "../app.tsx";
import { Loaded, Page } from "../components/page.tsx";
import { Status } from "../components/status.tsx";
import type { Column } from "../components/table.tsx";
import { DataTable } from "../components/table.tsx";

export function Cluster() {
  const { t } = useTranslation();
  const clustered = useEnvironment()?.server_clustered ?? false;
  const members = useMembers(clustered);
  const instances = useInstances(useProject());
  if (!clustered) {
    return (
      <Page title={t("cluster.title")}>
        <Alert color="gray" title={t("cluster.alone")}>
          {t("cluster.aloneHow")} <Code>lxc cluster enable NAME</Code>
        </Alert>
      </Page>
    );
  }
  const columns: Column<Member>[] = [
    {
      id: "name",
      header: t("common.name"),
      sort: (m) => m.server_name,
      render: (m) => (
        <>
          <Text fw={600}>{m.server_name}</Text>
          <Text size="xs" c="dimmed" className="wrap">
            {m.description}
          </Text>
        </>
      ),
    },
    {
      id: "status",
      header: t("common.status"),
      sort: (m) => m.status,
      render: (m) => (
        <>
          <Status status={m.status} />
          <Text size="xs" c="dimmed" className="wrap">
            {m.message}
          </Text>
        </>
      ),
    },
    { id: "url", header: t("cluster.url"), from: "sm", sort: (m) => m.url, render: (m) => <span className="mono">{m.url}</span> },
    {
      id: "roles",
      header: t("cluster.roles"),
      from: "sm",
      render: (m) => (
        <Group gap={4}>
          {(m.roles ?? []).map((r) => (
            <Badge key={r} variant="light" tt="none">
              {r}
            </Badge>
          ))}
        </Group>
      ),
    },
    {
      id: "instances",
      header: t("cluster.instances"),
      right: true,
      sort: (m) => instances.data?.filter((i) => i.location === m.server_name).length ?? 0,
      render: (m) => instances.data?.filter((i) => i.location === m.server_name).length ?? "–",
    },
    { id: "architecture", header: t("cluster.architecture"), from: "md", sort: (m) => m.architecture, render: (m) => m.architecture },
  ];
  return (
    <Page title={t("cluster.title")}>
      <Loaded query={members}>
        {(all) => <DataTable what={t("cluster.title")} rows={all} columns={columns} rowKey={(m) => m.server_name} empty={t("cluster.alone")} />}
      </Loaded>
    </Page>
  );
}
