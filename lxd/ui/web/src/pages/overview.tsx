import { Anchor, Badge, Button, Card, Group, Progress, SimpleGrid, Stack, Table, Text, Title } from "@mantine/core";
import { CircleCheck, TriangleAlert } from "lucide-react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { useImages, useInstances, useMembers, useNetworks, useOperations, useProfiles, useResources, useStoragePools, useWarnings } from "../api/queries.ts";
import { isOver } from "../api/operations.ts";
import { useEnvironment, useHref, useProject, useServer } from "../app.tsx";
import { Failure, Page } from "../components/page.tsx";
import { Status } from "../components/status.tsx";
import { bytes, time } from "../lib/format.ts";
import { isRunning } from "../lib/instance.ts";

export function Overview() {
  const { t } = useTranslation();
  return (
    <Page title={t("overview.title")} actions={<Warnings />}>
      <Counts />
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        <ServerCard />
        <HostCard />
      </SimpleGrid>
      <Recent />
    </Page>
  );
}

function Warnings() {
  const { t } = useTranslation();
  // Servers without warnings have no list of them to ask for.
  const warnings = useWarnings(useServer().data?.api_extensions.includes("warnings") ?? false);
  if (warnings.data === undefined) return null;
  const count = warnings.data.length;
  return count === 0 ? (
    <Badge color="teal" variant="light" leftSection={<CircleCheck size={14} aria-hidden />}>
      {t("overview.ok")}
    </Badge>
  ) : (
    <Badge color="yellow" variant="light" leftSection={<TriangleAlert size={14} aria-hidden />}>
      {t("overview.warnings", { count })}
    </Badge>
  );
}

function Count(props: { to: string; label: string; value: number | undefined; note?: string }) {
  const href = useHref();
  return (
    <Card withBorder component={Link} to={href(props.to)} p="md">
      <Text size="sm" c="dimmed">
        {props.label}
      </Text>
      <Text fz={28} fw={700} lh={1.2}>
        {props.value ?? "–"}
      </Text>
      <Text size="xs" c="dimmed" mih={18}>
        {props.note}
      </Text>
    </Card>
  );
}

function Counts() {
  const { t } = useTranslation();
  const project = useProject();
  const instances = useInstances(project);
  const images = useImages(project);
  const networks = useNetworks(project);
  const pools = useStoragePools();
  const profiles = useProfiles(project);
  const operations = useOperations();
  const all = instances.data;
  const running = all?.filter((i) => isRunning(i.status)).length;
  return (
    <>
      {instances.error && <Failure error={instances.error} />}
      <SimpleGrid cols={{ base: 2, xs: 3, lg: 6 }} spacing="sm">
        <Count
          to="/instances"
          label={t("nav.instances")}
          value={all?.length}
          note={all && t("overview.running", { running, count: all.length })}
        />
        <Count to="/images" label={t("nav.images")} value={images.data?.length} />
        <Count to="/networks" label={t("nav.networks")} value={networks.data?.filter((n) => n.managed).length} />
        <Count to="/storage" label={t("nav.storage")} value={pools.data?.length} />
        <Count to="/profiles" label={t("nav.profiles")} value={profiles.data?.length} />
        <Count to="/operations" label={t("nav.operations")} value={operations.data?.filter((o) => !isOver(o)).length} />
      </SimpleGrid>
    </>
  );
}

export function Facts({ rows }: { rows: [string, ReactNode][] }) {
  return (
    <Table variant="vertical" layout="fixed" withRowBorders={false} verticalSpacing={4}>
      <Table.Tbody>
        {rows.map(([label, value]) => (
          <Table.Tr key={label}>
            <Table.Th w={{ base: 120, sm: 160 }} bg="transparent" c="dimmed" fw={400} px={0} style={{ verticalAlign: "top" }}>
              {label}
            </Table.Th>
            <Table.Td className="wrap" style={{ verticalAlign: "top" }}>
              {value}
            </Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

function ServerCard() {
  const { t } = useTranslation();
  const href = useHref();
  const e = useEnvironment();
  const members = useMembers(e?.server_clustered ?? false);
  if (e === undefined) return null;
  return (
    <Card withBorder>
      <Title order={3} size="h4" mb="xs">
        {t("overview.server")}
      </Title>
      <Facts
        rows={[
          [t("common.name"), e.server_name],
          [t("overview.version"), e.server_version],
          [
            t("overview.addresses"),
            e.addresses.length === 0 ? (
              t("overview.localOnly")
            ) : (
              <Stack gap={0}>
                {e.addresses.map((a) => (
                  <span key={a}>{a}</span>
                ))}
              </Stack>
            ),
          ],
          [
            t("overview.clustered"),
            e.server_clustered ? (
              <Anchor component={Link} to={href("/cluster")}>
                {members.data ? t("overview.memberCount", { count: members.data.length }) : t("common.yes")}
              </Anchor>
            ) : (
              t("overview.alone")
            ),
          ],
          [t("overview.driver"), `${e.driver} ${e.driver_version}`],
          [t("overview.storage"), e.storage || t("common.none")],
          [t("overview.firewall"), e.firewall],
        ]}
      />
    </Card>
  );
}

function HostCard() {
  const { t } = useTranslation();
  const e = useEnvironment();
  const resources = useResources();
  if (e === undefined) return null;
  const memory = resources.data?.memory;
  const rows: [string, ReactNode][] = [
    [t("overview.os"), `${e.os_name} ${e.os_version}`.trim() || "–"],
    [t("overview.kernel"), `${e.kernel} ${e.kernel_version} (${e.kernel_architecture})`],
  ];
  if (resources.data) rows.push([t("overview.cpu"), String(resources.data.cpu.total)]);
  if (memory && memory.total > 0) {
    const use = t("overview.memoryUse", { used: bytes(memory.used), total: bytes(memory.total) });
    rows.push([
      t("overview.memory"),
      <Stack gap={4} key="memory">
        <Progress value={(memory.used / memory.total) * 100} aria-label={`${t("overview.memory")}: ${use}`} />
        <Text size="sm">{use}</Text>
      </Stack>,
    ]);
  }
  return (
    <Card withBorder>
      <Title order={3} size="h4" mb="xs">
        {t("overview.host")}
      </Title>
      {resources.error && <Failure error={resources.error} />}
      <Facts rows={rows} />
    </Card>
  );
}

function Recent() {
  const { t } = useTranslation();
  const project = useProject();
  const href = useHref();
  const instances = useInstances(project);
  if (instances.data === undefined) return null;
  const recent = [...instances.data].sort((a, b) => b.last_used_at.localeCompare(a.last_used_at)).slice(0, 5);
  return (
    <Card withBorder>
      <Title order={3} size="h4" mb="xs">
        {t("overview.recent")}
      </Title>
      {recent.length === 0 && (
        <Group>
          <Text c="dimmed">{t("overview.noInstances")}</Text>
          <Button component={Link} to={href("/create")} size="xs">
            {t("overview.createFirst")}
          </Button>
        </Group>
      )}
      {recent.map((i) => (
        <Group key={i.name} justify="space-between" wrap="nowrap" py={4}>
          <Anchor component={Link} to={href(`/instances/${encodeURIComponent(i.name)}`)} className="wrap">
            {i.name}
          </Anchor>
          <Group gap="sm" wrap="nowrap">
            <Text size="sm" c="dimmed" visibleFrom="xs">
              {time(i.last_used_at)}
            </Text>
            <Group w={88} justify="flex-end">
              <Status status={i.status} />
            </Group>
          </Group>
        </Group>
      ))}
    </Card>
  );
}
