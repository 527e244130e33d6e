import { ActionIcon, Button, Group, Stack, Textarea, TextInput } from "@mantine/core";
import { Plus, Trash2 } from "lucide-react";
import { useTranslation } from "react-i18next";
import type { Row } from "../lib/draft.ts";
import { newRow } from "../lib/draft.ts";

/** Edits keys and values. */
export function KeyEditor(props: { rows: Row[]; onChange: (rows: Row[]) => void; fixed?: readonly string[] }) {
  const { t } = useTranslation();
  const { rows, onChange } = props;
  const set = (id: number, change: Partial<Row>) => onChange(rows.map((r) => (r.id === id ? { ...r, ...change } : r)));
  return (
    <Stack gap="xs">
      {rows.map((r) => (
        <Group key={r.id} gap="xs" wrap="nowrap" align="flex-start">
          <Stack gap={4} style={{ flex: 1 }} miw={0}>
            <Group gap="xs" align="flex-start" grow preventGrowOverflow={false} wrap="wrap">
              <TextInput
                aria-label={t("common.key")}
                placeholder={t("common.key")}
                value={r.key}
                readOnly={props.fixed?.includes(r.key)}
                onChange={(e) => set(r.id, { key: e.currentTarget.value })}
                classNames={{ input: "mono" }}
                miw={140}
              />
              <Textarea
                aria-label={`${t("common.value")}: ${r.key}`}
                placeholder={t("common.value")}
                value={r.value}
                autosize
                minRows={1}
                maxRows={12}
                onChange={(e) => set(r.id, { value: e.currentTarget.value })}
                classNames={{ input: "mono" }}
                miw={140}
              />
            </Group>
          </Stack>
          <ActionIcon
            variant="subtle"
            color="red"
            mt={4}
            aria-label={t("config.removeKey", { key: r.key })}
            disabled={props.fixed?.includes(r.key)}
            onClick={() => onChange(rows.filter((x) => x.id !== r.id))}
          >
            <Trash2 size={16} aria-hidden />
          </ActionIcon>
        </Group>
      ))}
      <Group>
        <Button size="xs" variant="default" leftSection={<Plus size={14} aria-hidden />} onClick={() => onChange([...rows, newRow()])}>
          {t("config.addKey")}
        </Button>
      </Group>
    </Stack>
  );
}
