import { Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { InstanceState } from "../../api/types.ts";
import type { Column } from "../../components/table.tsx";
import { DataTable } from "../../components/table.tsx";
import { bytes } from "../../lib/format.ts";

/** The network interfaces of an instance as the guest has them. */
export function InterfaceTable({ state }: { state: InstanceState | undefined }) {
  const { t } = useTranslation();
  const rows = Object.entries(state?.network ?? {}).filter(([name]) => name !== "lo");
  const columns: Column<(typeof rows)[number]>[] = [
    { id: "name", header: t("instance.interface"), sort: ([name]) => name, render: ([name]) => name },
    {
      id: "addresses",
      header: t("common.address"),
      render: ([, n]) =>
        (n.addresses ?? []).map((a) => (
          <Text key={a.address} size="sm" className="mono">
            {a.address}/{a.netmask}
          </Text>
        )),
    },
    { id: "mac", header: t("instance.hwaddr"), from: "sm", render: ([, n]) => <span className="mono">{n.hwaddr}</span> },
    { id: "received", header: t("instance.received"), from: "sm", right: true, render: ([, n]) => bytes(n.counters.bytes_received) },
    { id: "sent", header: t("instance.sent"), from: "sm", right: true, render: ([, n]) => bytes(n.counters.bytes_sent) },
  ];
  return <DataTable what={t("instance.interfaces")} rows={rows} columns={columns} rowKey={([name]) => name} empty={t("instance.noInterfaces")} />;
}
