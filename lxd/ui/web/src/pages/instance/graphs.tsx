import "uplot/dist/uPlot.min.css";
import { Alert, Card, SimpleGrid, Stack, Text, Title, useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import { useTranslation } from "react-i18next";
import uPlot from "uplot";
import { bytes, clock } from "../../lib/format.ts";
import type { Rate } from "../../lib/rates.ts";

export const minutes = 5;

interface Line {
  label: string;
  colour: string;
  of: (r: Rate) => number;
}

/** Processor, memory and network of an instance over the last minutes. */
export default function Graphs(props: { rates: Rate[]; running: boolean }) {
  const { t } = useTranslation();
  const { rates } = props;
  const percent = (n: number) => `${n >= 10 ? Math.round(n) : n.toFixed(1)} %`;
  const speed = (n: number) => `${bytes(n)}/s`;
  const last = rates[rates.length - 1];
  return (
    <Stack>
      {!props.running && <Alert color="gray">{t("instance.notRunning")}</Alert>}
      {props.running && rates.length < 2 && <Text role="status">{t("graphs.collecting")}</Text>}
      <SimpleGrid cols={{ base: 1, lg: 2 }}>
        <Graph
          title={t("graphs.cpu")}
          note={t("graphs.cpuUnit")}
          now={last && percent(last.cpu)}
          rates={rates}
          unit={percent}
          least={10}
          lines={[{ label: t("graphs.used"), colour: "#1098ad", of: (r) => r.cpu }]}
        />
        <Graph
          title={t("graphs.memory")}
          now={last && bytes(last.memory)}
          rates={rates}
          unit={bytes}
          binary
          least={1 << 20}
          lines={[{ label: t("graphs.used"), colour: "#7048e8", of: (r) => r.memory }]}
        />
        <Graph
          title={t("graphs.network")}
          now={last && `↓ ${speed(last.received)}  ↑ ${speed(last.sent)}`}
          rates={rates}
          unit={speed}
          binary
          least={1024}
          lines={[
            { label: t("graphs.received"), colour: "#2b8a3e", of: (r) => r.received },
            { label: t("graphs.sent"), colour: "#e8590c", of: (r) => r.sent },
          ]}
        />
      </SimpleGrid>
      <Text size="xs" c="dimmed">
        {t("graphs.span", { minutes })}
      </Text>
    </Stack>
  );
}

/** Steps of an axis that are even numbers of bytes. */
const binarySteps = Array.from({ length: 50 }, (_, i) => 2 ** i);

function Graph(props: {
  binary?: boolean;
  title: string; note?: string; now: string | undefined; rates: Rate[]; unit: (n: number) => string; least: number; lines: Line[] }) {
  const { title, rates, unit, lines, least } = props;
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const dark = useComputedColorScheme("light") === "dark";
  const data: uPlot.AlignedData = [rates.map((r) => r.at), ...lines.map((l) => rates.map(l.of))];
  const newest = useRef(data);
  newest.current = data;

  useEffect(() => {
    const element = holder.current;
    if (element === null) return;
    const text = dark ? "#c9c9c9" : "#424242";
    const grid = { stroke: dark ? "#3b3b3b" : "#e5e5e5", width: 1 };
    const p = new uPlot(
      {
        width: Math.max(100, element.clientWidth),
        height: 180,
        legend: { show: lines.length > 1, live: false },
        cursor: { show: false },
        padding: [16, 28, 0, 0], // half a label is beside the last tick
        scales: {
          // Without a sample the last minutes are those until now.
          x: {
            range: (_u, _min, max) => {
              const end = max || Date.now() / 1000;
              return [end - minutes * 60, end];
            },
          },
          y: { range: (_u, _min, max) => [0, Math.max(max * 1.1, least)] },
        },
        axes: [
          { stroke: text, grid, ticks: grid, size: 36, values: (_u, ticks) => ticks.map(clock) },
          { stroke: text, grid, ticks: grid, size: 76, incrs: props.binary ? binarySteps : undefined, values: (_u, ticks) => ticks.map(unit) },
        ],
        series: [{}, ...lines.map((l) => ({ label: l.label, stroke: l.colour, fill: l.colour + "22", width: 2, points: { show: false } }))],
      },
      newest.current,
      element,
    );
    plot.current = p;
    const observer = new ResizeObserver(() => p.setSize({ width: Math.max(100, element.clientWidth), height: 180 }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      p.destroy();
      plot.current = undefined;
    };
    // The lines of a graph do not change but for their data, which comes below.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [dark]);
  useEffect(() => plot.current?.setData(data));

  return (
    <Card withBorder>
      <Title order={3} size="h5">
        {title}
      </Title>
      <Text size="sm" aria-live="off">
        {props.now ?? "–"} {props.note && <Text span size="xs" c="dimmed">({props.note})</Text>}
      </Text>
      <div ref={holder} aria-hidden />
    </Card>
  );
}
