import { ActionIcon, Alert, Button, Card, Fieldset, Group, MultiSelect, Paper, Stack, Switch, Table, Text, TextInput, Title } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Plus, Trash2 } from "lucide-react";
import { useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import { finished } from "../../api/operations.ts";
import { useProfiles } from "../../api/queries.ts";
import type { Answer } from "../../api/request.ts";
import { ApiError, path, request } from "../../api/request.ts";
import type { Instance, Profile } from "../../api/types.ts";
import { inProject, useEvents, useProject } from "../../app.tsx";
import { KeyEditor } from "../../components/keys.tsx";
import { useTell } from "../../components/tell.ts";
import type { DeviceDraft, Draft } from "../../lib/draft.ts";
import { draftOf, isVolatile, newDevice, problemOf, putOf, same } from "../../lib/draft.ts";

interface Edit {
  draft: Draft;
  base: Instance;
  etag: string;
}

/** Shows and edits what an instance is configured to be. */
export default function Configuration({ answer }: { answer: Answer<Instance> }) {
  const { t } = useTranslation();
  const project = useProject();
  const events = useEvents();
  const client = useQueryClient();
  const tell = useTell();
  const profiles = useProfiles(project);
  const [edit, setEdit] = useState<Edit>();
  const [saving, setSaving] = useState(false);
  const [showVolatile, setShowVolatile] = useState(false);
  const instance = answer.metadata;
  // While nothing is changed the form follows the server; then it stays on what it began with.
  const base = edit?.base ?? instance;
  const clean = useMemo(() => draftOf(base), [base]); // its rows keep their ids, and so their inputs
  const draft = edit?.draft ?? clean;
  const dirty = edit !== undefined && !same(draft, clean);
  const problem = problemOf(draft);
  const change = (d: Partial<Draft>) =>
    setEdit({ base, etag: edit?.etag ?? answer.etag, draft: { ...draft, ...d } });

  const save = async () => {
    if (edit === undefined) return;
    setSaving(true);
    try {
      const { operation } = await request("PUT", path(["instances", base.name], inProject(project)), {
        body: putOf(base, draft),
        etag: edit.etag,
      });
      if (operation !== "") await finished(events, operation);
      await client.invalidateQueries({ queryKey: ["instances", project, base.name], exact: true });
      setEdit(undefined);
      tell.done(t("config.saved", { name: base.name }));
    } catch (e) {
      const other = e instanceof ApiError && e.status === 412;
      tell.error(t("config.saveFailed", { name: base.name }), other ? new Error(t("config.changedMeanwhile")) : e);
    } finally {
      setSaving(false);
    }
  };

  const setDevice = (id: number, d: Partial<DeviceDraft>) =>
    change({ devices: draft.devices.map((x) => (x.id === id ? { ...x, ...d } : x)) });
  const chosenProfiles = draft.profiles;
  const inherited = inheritedKeys(chosenProfiles, profiles.data ?? [], draft);
  const inheritedDevs = inheritedDevices(chosenProfiles, profiles.data ?? [], draft);

  // What is typed while it is saved would be lost when the form follows the server again.
  return (
    <Fieldset variant="unstyled" disabled={saving}>
      <Stack>
        <Card withBorder>
          <Stack gap="sm">
            <TextInput label={t("common.description")} value={draft.description} onChange={(e) => change({ description: e.currentTarget.value })} />
            <MultiSelect
              label={t("config.profiles")}
              description={t("config.profilesHint")}
              data={[...new Set([...(profiles.data ?? []).map((p) => p.name), ...chosenProfiles])]}
              value={chosenProfiles}
              onChange={(v) => change({ profiles: v })}
              searchable
            />
          </Stack>
        </Card>
        <Card withBorder>
          <Title order={3} size="h4" mb="xs">
            {t("config.keys")}
          </Title>
          {draft.rows.length === 0 && (
            <Text c="dimmed" size="sm" mb="xs">
              {t("config.noKeys")}
            </Text>
          )}
          <KeyEditor rows={draft.rows} onChange={(rows) => change({ rows })} />
          {inherited.length > 0 && (
            <>
              <Title order={4} size="h6" mt="md" mb={4}>
                {t("config.inherited")}
              </Title>
              <Pairs rows={inherited.map(({ key, value, profile }) => [key, value, t("config.from", { profile })])} />
            </>
          )}
          <Switch mt="md" label={t("config.volatile")} checked={showVolatile} onChange={(e) => setShowVolatile(e.currentTarget.checked)} />
          {showVolatile && (
            <Pairs
              rows={Object.entries(instance.config)
                .filter(([k]) => isVolatile(k))
                .sort()
                .map(([k, v]) => [k, v])}
            />
          )}
        </Card>
        <Card withBorder>
          <Title order={3} size="h4" mb="xs">
            {t("config.devices")}
          </Title>
          <Stack>
            {draft.devices.length === 0 && (
              <Text c="dimmed" size="sm">
                {t("config.noDevices")}
              </Text>
            )}
            {draft.devices.map((d) => (
              <Paper withBorder p="sm" key={d.id} role="group" aria-label={t("config.deviceKeys", { name: d.name })}>
                <Group wrap="nowrap" mb="xs" align="flex-end">
                  <TextInput
                    label={t("config.deviceName")}
                    value={d.name}
                    onChange={(e) => setDevice(d.id, { name: e.currentTarget.value })}
                    style={{ flex: 1 }}
                  />
                  <ActionIcon
                    variant="subtle"
                    color="red"
                    mb={4}
                    aria-label={t("config.removeDevice", { name: d.name })}
                    onClick={() => change({ devices: draft.devices.filter((x) => x.id !== d.id) })}
                  >
                    <Trash2 size={16} aria-hidden />
                  </ActionIcon>
                </Group>
                <KeyEditor rows={d.rows} onChange={(rows) => setDevice(d.id, { rows })} fixed={["type"]} />
              </Paper>
            ))}
            <Group>
              {["disk", "nic", "none"].map((type) => (
                <Button
                  key={type}
                  size="xs"
                  variant="default"
                  leftSection={<Plus size={14} aria-hidden />}
                  onClick={() => change({ devices: [...draft.devices, newDevice("", { type })] })}
                >
                  {t("config.addDevice")}: {type}
                </Button>
              ))}
            </Group>
            {inheritedDevs.length > 0 && (
              <div>
                <Title order={4} size="h6" mb={4}>
                  {t("config.inherited")}
                </Title>
                {inheritedDevs.map((d) => (
                  <Paper withBorder p="sm" mb="xs" key={d.name}>
                    <Group justify="space-between" mb={4}>
                      <Text fw={600} className="wrap">
                        {d.name}{" "}
                        <Text span size="xs" c="dimmed">
                          {t("config.from", { profile: d.profile })}
                        </Text>
                      </Text>
                      <Button size="compact-xs" variant="default" onClick={() => change({ devices: [...draft.devices, newDevice(d.name, d.options)] })}>
                        {t("config.override")}
                      </Button>
                    </Group>
                    <Pairs rows={Object.entries(d.options).sort()} />
                  </Paper>
                ))}
              </div>
            )}
          </Stack>
        </Card>
        {dirty && (
          <Paper withBorder p="sm" pos="sticky" bottom={8} shadow="md" style={{ zIndex: 10 }}>
            <Group justify="space-between">
              <Text size="sm" c={problem ? "red" : undefined} role="status">
                {problem ? t(`config.${problem.is}`, problem) : t("config.unsaved")}
              </Text>
              <Group gap="xs">
                <Button variant="default" size="sm" onClick={() => setEdit(undefined)}>
                  {t("config.discard")}
                </Button>
                <Button size="sm" loading={saving} disabled={problem !== undefined} onClick={() => void save()}>
                  {t("config.save")}
                </Button>
              </Group>
            </Group>
          </Paper>
        )}
        {!dirty && edit !== undefined && instance !== edit.base && <Alert color="gray">{t("config.changedMeanwhile")}</Alert>}
      </Stack>
    </Fieldset>
  );
}

function Pairs({ rows }: { rows: (string | undefined)[][] }) {
  return (
    <Table verticalSpacing={4} layout="fixed">
      <Table.Tbody>
        {rows.map(([k, v, note]) => (
          <Table.Tr key={k}>
            <Table.Td className="mono">{k}</Table.Td>
            <Table.Td className="mono">{v}</Table.Td>
            {note !== undefined && (
              <Table.Td>
                <Text size="xs" c="dimmed" className="wrap">
                  {note}
                </Text>
              </Table.Td>
            )}
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}

/** The keys that come from profiles: of two, the later one wins, and the instance's own win over both. */
function inheritedKeys(chosen: string[], all: Profile[], d: Draft): { key: string; value: string; profile: string }[] {
  const own = new Set(d.rows.map((r) => r.key));
  const out = new Map<string, { key: string; value: string; profile: string }>();
  for (const profile of chosen) {
    for (const [key, value] of Object.entries(all.find((p) => p.name === profile)?.config ?? {})) {
      if (!own.has(key)) out.set(key, { key, value, profile });
    }
  }
  return [...out.values()].sort((a, b) => a.key.localeCompare(b.key));
}

function inheritedDevices(chosen: string[], all: Profile[], d: Draft): { name: string; options: Record<string, string>; profile: string }[] {
  const own = new Set(d.devices.map((x) => x.name));
  const out = new Map<string, { name: string; options: Record<string, string>; profile: string }>();
  for (const profile of chosen) {
    for (const [name, options] of Object.entries(all.find((p) => p.name === profile)?.devices ?? {})) {
      if (!own.has(name)) out.set(name, { name, options, profile });
    }
  }
  return [...out.values()].sort((a, b) => a.name.localeCompare(b.name));
}
