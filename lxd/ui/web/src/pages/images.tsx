import { ActionIcon, Badge, Button, Group, Modal, Stack, Text, Tooltip } from "@mantine/core";
import { Plus, Trash2 } from "lucide-react";
import { useMemo, useState } from "react";
import { useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { finished } from "../api/operations.ts";
import { useImages } from "../api/queries.ts";
import { path, request } from "../api/request.ts";
import type { Image } from "../api/types.ts";
import { defaultProject, inProject, useEvents, useProject } from "../app.tsx";
import { Loaded, Page } from "../components/page.tsx";
import type { Column } from "../components/table.tsx";
import { DataTable } from "../components/table.tsx";
import { useTell } from "../components/tell.ts";
import { bytes, short, time } from "../lib/format.ts";

export function imageName(i: Image): string {
  return i.aliases?.[0]?.name ?? i.properties?.["description"] ?? short(i.fingerprint);
}

export function Images() {
  const { t } = useTranslation();
  const project = useProject();
  const images = useImages(project);
  const events = useEvents();
  const client = useQueryClient();
  const tell = useTell();
  const [doomed, setDoomed] = useState<Image>();

  const columns = useMemo<Column<Image>[]>(
    () => [
      {
        id: "name",
        header: t("images.aliases"),
        sort: (i) => i.aliases?.[0]?.name ?? "",
        render: (i) => (
          <Group gap={4}>
            {(i.aliases ?? []).map((a) => (
              <Badge key={a.name} variant="light" tt="none" maw="100%">
                {a.name}
              </Badge>
            ))}
            {(i.aliases ?? []).length === 0 && (
              <Text size="sm" c="dimmed">
                {t("images.unnamed")}
              </Text>
            )}
          </Group>
        ),
      },
      {
        id: "description",
        header: t("common.description"),
        from: "sm",
        sort: (i) => i.properties?.["description"] ?? "",
        render: (i) => <span className="wrap">{i.properties?.["description"] ?? ""}</span>,
      },
      { id: "fingerprint", header: t("images.fingerprint"), from: "md", sort: (i) => i.fingerprint, render: (i) => <span className="mono">{short(i.fingerprint)}</span> },
      { id: "architecture", header: t("images.architecture"), from: "lg", sort: (i) => i.architecture, render: (i) => i.architecture },
      { id: "size", header: t("common.size"), right: true, sort: (i) => i.size, render: (i) => bytes(i.size) },
      { id: "uploaded", header: t("images.uploaded"), from: "md", sort: (i) => i.uploaded_at, render: (i) => time(i.uploaded_at) },
      {
        id: "actions",
        header: t("common.actions"),
        hiddenHeader: true,
        right: true,
        render: (i) => (
          <Group gap={4} wrap="nowrap" justify="flex-end">
            <Tooltip label={t("images.launch")}>
              <ActionIcon
                variant="subtle"
                component={Link}
                to={`/create?${new URLSearchParams({ image: i.fingerprint, ...(project === defaultProject ? {} : { project }) })}`}
                aria-label={`${t("images.launch")}: ${imageName(i)}`}
              >
                <Plus size={18} aria-hidden />
              </ActionIcon>
            </Tooltip>
            <Tooltip label={t("common.delete")}>
              <ActionIcon variant="subtle" color="red" aria-label={`${t("common.delete")}: ${imageName(i)}`} onClick={() => setDoomed(i)}>
                <Trash2 size={18} aria-hidden />
              </ActionIcon>
            </Tooltip>
          </Group>
        ),
      },
    ],
    [project, t],
  );

  const remove = async (i: Image) => {
    setDoomed(undefined);
    try {
      const { operation } = await request("DELETE", path(["images", i.fingerprint], inProject(project)));
      await finished(events, operation);
      tell.done(t("images.deleted"));
    } catch (e) {
      tell.error(t("images.deleteFailed"), e);
    }
    void client.invalidateQueries({ queryKey: ["images"] });
  };

  return (
    <Page title={t("images.title")}>
      <Loaded query={images}>
        {(all) => <DataTable what={t("images.title")} rows={all} columns={columns} rowKey={(i) => i.fingerprint} empty={t("images.none")} />}
      </Loaded>
      <Modal
        opened={doomed !== undefined}
        onClose={() => setDoomed(undefined)}
        title={t("common.delete")}
        closeButtonProps={{ "aria-label": t("common.close") }}
      >
        {doomed && (
          <Stack>
            <Text className="wrap">{t("images.confirmDelete", { name: imageName(doomed) })}</Text>
            <Group justify="flex-end">
              <Button variant="default" onClick={() => setDoomed(undefined)} data-autofocus>
                {t("common.cancel")}
              </Button>
              <Button color="red" onClick={() => void remove(doomed)}>
                {t("common.delete")}
              </Button>
            </Group>
          </Stack>
        )}
      </Modal>
    </Page>
  );
}
