import { Checkbox, Group, Paper, Table, Text, UnstyledButton } from "@mantine/core";
import { ArrowDown, ArrowUp } from "lucide-react";
import { useMemo, useState } from "react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";

export interface Column<T> {
  id: string;
  header: string;
  render: (row: T) => ReactNode;
  /** What to sort by; a column without it cannot be sorted by. */
  sort?: (row: T) => string | number;
  /** The narrowest screen that the column is shown on. */
  from?: "xs" | "sm" | "md" | "lg";
  right?: boolean;
  /** Shown to screen readers only. */
  hiddenHeader?: boolean;
}

export interface Choice {
  chosen: ReadonlySet<string>;
  set: (chosen: Set<string>) => void;
  labelAll: string;
  label: (key: string) => string;
}

/** Compares as people count: c2 before c10. */
export function compare(a: string | number, b: string | number): number {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
}

export function DataTable<T>(props: {
  what: string;
  rows: T[];
  columns: Column<T>[];
  rowKey: (row: T) => string;
  empty: ReactNode;
  choice?: Choice;
}) {
  const { t } = useTranslation();
  const { rows, columns, rowKey, choice } = props;
  const [by, setBy] = useState(columns[0]?.id ?? "");
  const [down, setDown] = useState(false);
  const sorted = useMemo(() => {
    const key = columns.find((c) => c.id === by)?.sort;
    if (key === undefined) return rows;
    const out = [...rows].sort((a, b) => compare(key(a), key(b)));
    return down ? out.reverse() : out;
  }, [rows, columns, by, down]);
  if (rows.length === 0) {
    return (
      <Paper withBorder p="lg">
        {typeof props.empty === "string" ? <Text c="dimmed">{props.empty}</Text> : props.empty}
      </Paper>
    );
  }
  const keys = sorted.map(rowKey);
  const all = choice !== undefined && keys.every((k) => choice.chosen.has(k));
  const some = choice !== undefined && !all && keys.some((k) => choice.chosen.has(k));
  return (
    <Paper withBorder>
      <Table.ScrollContainer minWidth={0} type="native">
        <Table highlightOnHover verticalSpacing="xs" aria-label={t("common.table", { what: props.what })}>
          <Table.Thead>
            <Table.Tr>
              {choice !== undefined && (
                <Table.Th w={40}>
                  <Checkbox
                    aria-label={choice.labelAll}
                    checked={all}
                    indeterminate={some}
                    onChange={() => choice.set(all ? new Set() : new Set(keys))}
                  />
                </Table.Th>
              )}
              {columns.map((c) => (
                <Table.Th
                  key={c.id}
                  visibleFrom={c.from}
                  ta={c.right ? "right" : undefined}
                  aria-sort={by === c.id && c.sort ? (down ? "descending" : "ascending") : undefined}
                >
                  {c.sort ? (
                    <UnstyledButton
                      fz="sm"
                      fw={600}
                      onClick={() => {
                        setDown(by === c.id && !down);
                        setBy(c.id);
                      }}
                    >
                      <Group gap={4} wrap="nowrap">
                        {c.header}
                        {by === c.id && (down ? <ArrowDown size={14} aria-hidden /> : <ArrowUp size={14} aria-hidden />)}
                      </Group>
                    </UnstyledButton>
                  ) : c.hiddenHeader ? (
                    <span aria-label={c.header} />
                  ) : (
                    c.header
                  )}
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {sorted.map((row, i) => {
              const key = keys[i] ?? "";
              return (
                <Table.Tr key={key} bg={choice?.chosen.has(key) ? "var(--mantine-primary-color-light)" : undefined}>
                  {choice !== undefined && (
                    <Table.Td>
                      <Checkbox
                        aria-label={choice.label(key)}
                        checked={choice.chosen.has(key)}
                        onChange={() => {
                          const next = new Set(choice.chosen);
                          if (!next.delete(key)) next.add(key);
                          choice.set(next);
                        }}
                      />
                    </Table.Td>
                  )}
                  {columns.map((c) => (
                    <Table.Td key={c.id} visibleFrom={c.from} ta={c.right ? "right" : undefined}>
                      {c.render(row)}
                    </Table.Td>
                  ))}
                </Table.Tr>
              );
            })}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Paper>
  );
}
