import { Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useNetworks, useProfiles, useProjects, useStoragePools } from "../api/queries.ts";
import { useProject } from "../app.tsx";
import { Loaded, Page } from "../components/page.tsx";
import { Status } from "../components/status.tsx";
import type { Column } from "../components/table.tsx";
import { DataTable } from "../components/table.tsx";

// Plain lists of what can be changed on the command line only, so far.

interface Named {
  name: string;
  description: string;
  used_by: string[] | null
}

/** The columns that all of these have: name with description, and by how many it is used. */
function useColumns<T extends Named>(between: Column<T>[]): Column<T>[] {
  const { t } = useTranslation();
  return [
    {
      id: "name",
      header: t("common.name"),
      sort: (x) => x.name,
      render: (x) => (
        <>
          <Text fw={600} className="wrap">
            {x.name}
          </Text>
          <Text size="xs" c="dimmed" className="wrap">
            {x.description}
          </Text>
        </>
      ),
    },
    ...between,
    { id: "used", header: t("common.usedBy"), right: true, sort: (x) => x.used_by?.length ?? 0, render: (x) => x.used_by?.length ?? 0 },
  ];
}

export function Profiles() {
  const { t } = useTranslation();
  const profiles = useProfiles(useProject());
  const columns = useColumns<NonNullable<typeof profiles.data>[number]>([
    { id: "devices", header: t("profiles.devices"), render: (p) => <span className="wrap">{Object.keys(p.devices).sort().join(", ")}</span> },
  ]);
  return (
    <Page title={t("profiles.title")}>
      <Loaded query={profiles}>
        {(all) => <DataTable what={t("profiles.title")} rows={all} columns={columns} rowKey={(p) => p.name} empty={t("profiles.none")} />}
      </Loaded>
    </Page>
  );
}

export function Networks() {
  const { t } = useTranslation();
  const networks = useNetworks(useProject());
  const columns = useColumns<NonNullable<typeof networks.data>[number]>([
    { id: "type", header: t("common.type"), sort: (n) => n.type, render: (n) => n.type },
    { id: "managed", header: t("common.managed"), from: "sm", sort: (n) => Number(n.managed), render: (n) => (n.managed ? t("common.yes") : t("common.no")) },
    {
      id: "address",
      header: t("common.address"),
      from: "xs",
      render: (n) => <span className="mono">{[n.config["ipv4.address"], n.config["ipv6.address"]].filter((a) => a && a !== "none").join(" ")}</span>,
    },
    { id: "status", header: t("common.status"), from: "sm", sort: (n) => n.status, render: (n) => n.status && <Status status={n.status} /> },
  ]);
  return (
    <Page title={t("networks.title")}>
      <Loaded query={networks}>
        {(all) => <DataTable what={t("networks.title")} rows={all} columns={columns} rowKey={(n) => n.name} empty={t("networks.none")} />}
      </Loaded>
    </Page>
  );
}

export function StoragePools() {
  const { t } = useTranslation();
  const pools = useStoragePools();
  const columns = useColumns<NonNullable<typeof pools.data>[number]>([
    { id: "driver", header: t("common.driver"), sort: (p) => p.driver, render: (p) => p.driver },
    { id: "size", header: t("common.size"), from: "xs", render: (p) => p.config["size"] ?? "" },
    { id: "status", header: t("common.status"), sort: (p) => p.status, render: (p) => p.status && <Status status={p.status} /> },
  ]);
  return (
    <Page title={t("storage.title")}>
      <Loaded query={pools}>
        {(all) => <DataTable what={t("storage.title")} rows={all} columns={columns} rowKey={(p) => p.name} empty={t("storage.none")} />}
      </Loaded>
    </Page>
  );
}

export function Projects() {
  const { t } = useTranslation();
  const projects = useProjects();
  const columns = useColumns<NonNullable<typeof projects.data>[number]>([]);
  return (
    <Page title={t("projects.title")}>
      <Loaded query={projects}>
        {(all) => <DataTable what={t("projects.title")} rows={all} columns={columns} rowKey={(p) => p.name} empty={t("projects.none")} />}
      </Loaded>
    </Page>
  );
}
