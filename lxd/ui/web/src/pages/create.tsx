import { Alert, Button, Card, Checkbox, Group, MultiSelect, Select, Stack, Stepper, Text, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import type { FormEvent } from "react";
import { useTranslation } from "react-i18next";
import { Link, useSearchParams } from "react-router";
import type { EventStream } from "../api/events.ts";
import { finished, progressText } from "../api/operations.ts";
import { useImages, useMembers, useProfiles } from "../api/queries.ts";
import { get, path, request } from "../api/request.ts";
import type { Config, InstanceState } from "../api/types.ts";
import { inProject, useEnvironment, useEvents, useHref, useProject } from "../app.tsx";
import { KeyEditor } from "../components/keys.tsx";
import { Failure, Page } from "../components/page.tsx";
import { sentence } from "../components/tell.ts";
import { bytes, short } from "../lib/format.ts";
import type { Row } from "../lib/draft.ts";
import { addresses, nameProblem } from "../lib/instance.ts";

interface Order {
  name: string;
  image: string; // fingerprint
  profiles: string[];
  target: string;
  description: string;
  config: Config;
  ephemeral: boolean;
  start: boolean;
}

interface Progress {
  step: number; // 0 creating, 1 starting, 2 waiting for an address, 3 ready
  text: string;
  address: string;
  error?: string;
}

/** How long an address is waited for before the form says that there is none. */
const addressPatience = 20_000;

/** Makes an instance and tells how far it is, until the guest runs and has an address. */
async function make(events: EventStream, project: string, o: Order, tell: (p: Partial<Progress>) => void, signal: AbortSignal): Promise<void> {
  const created = await request("POST", path(["instances"], { target: o.target, ...inProject(project) }), {
    body: {
      name: o.name,
      type: "container",
      source: { type: "image", fingerprint: o.image },
      profiles: o.profiles,
      config: o.config,
      description: o.description,
      ephemeral: o.ephemeral,
    },
  });
  await finished(events, created.operation, (op) => tell({ text: progressText(op) }), 2_000);
  tell({ step: 1, text: "" });
  if (!o.start) return;
  const started = await request("PUT", path(["instances", o.name, "state"], inProject(project)), {
    body: { action: "start", timeout: -1 },
  });
  await finished(events, started.operation, () => {}, 2_000);
  tell({ step: 2 });
  const until = Date.now() + addressPatience;
  while (Date.now() < until && !signal.aborted) {
    const state = await get<InstanceState>(path(["instances", o.name, "state"], inProject(project)), signal);
    const address = addresses(state)[0];
    if (address !== undefined) {
      tell({ step: 3, address });
      return;
    }
    const nics = Object.keys(state.network ?? {}).filter((n) => n !== "lo");
    if (state.pid <= 0 || (state.network && nics.length === 0)) break; // it has no network, so it gets no address
    await new Promise((r) => setTimeout(r, 500));
  }
  tell({ step: 3 });
}

export default function Create() {
  const { t } = useTranslation();
  const href = useHref();
  const project = useProject();
  const events = useEvents();
  const client = useQueryClient();
  const [params] = useSearchParams();
  const images = useImages(project);
  const profiles = useProfiles(project);
  const clustered = useEnvironment()?.server_clustered ?? false;
  const members = useMembers(clustered);
  const [name, setName] = useState("");
  const [image, setImage] = useState<string | null>(params.get("image"));
  const [chosen, setChosen] = useState<string[]>(["default"]);
  const [target, setTarget] = useState<string | null>(null);
  const [description, setDescription] = useState("");
  const [rows, setRows] = useState<Row[]>([]);
  const [ephemeral, setEphemeral] = useState(false);
  const [start, setStart] = useState(true);
  const [tried, setTried] = useState(false);
  const [progress, setProgress] = useState<Progress>();
  const stop = useRef<AbortController>(undefined);
  useEffect(() => () => stop.current?.abort(), []);

  const problem = nameProblem(name);
  const containers = (images.data ?? []).filter((i) => i.type === "container");

  const submit = async (e: FormEvent) => {
    e.preventDefault();
    setTried(true);
    if (problem !== undefined || image === null) return;
    setProgress({ step: 0, text: "", address: "" });
    const tell = (p: Partial<Progress>) => setProgress((old) => old && { ...old, ...p });
    const controller = new AbortController();
    stop.current = controller;
    try {
      await make(
        events,
        project,
        {
          name,
          image,
          profiles: chosen,
          target: target ?? "",
          description,
          config: Object.fromEntries(rows.filter((r) => r.key.trim() !== "").map((r) => [r.key.trim(), r.value])),
          ephemeral,
          start,
        },
        tell,
        controller.signal,
      );
    } catch (err) {
      tell({ error: sentence(err) });
    }
    void client.invalidateQueries({ queryKey: ["instances"] });
  };

  if (progress !== undefined) {
    return (
      <Page title={t("create.title")}>
        <Card withBorder>
          <Going name={name} start={start} progress={progress} />
          <Group mt="lg">
            {progress.error !== undefined && (
              <Button variant="default" onClick={() => setProgress(undefined)}>
                {t("common.edit")}
              </Button>
            )}
            {progress.step > 0 && (
              <Button component={Link} to={href(`/instances/${encodeURIComponent(name)}`)} variant={progress.step === 3 ? "default" : "light"}>
                {t("create.open", { name })}
              </Button>
            )}
            {start && progress.step >= 2 && (
              <Button component={Link} to={href(`/instances/${encodeURIComponent(name)}/terminal`)}>
                {t("create.terminal")}
              </Button>
            )}
            {(progress.step === 3 || (!start && progress.step > 0)) && (
              <Button
                variant="subtle"
                onClick={() => {
                  setName("");
                  setTried(false);
                  setProgress(undefined);
                }}
              >
                {t("create.another")}
              </Button>
            )}
          </Group>
        </Card>
      </Page>
    );
  }

  return (
    <Page title={t("create.title")}>
      {images.error && <Failure error={images.error} />}
      {images.data && containers.length === 0 && <Alert color="yellow">{t("create.noImages")}</Alert>}
      <form onSubmit={(e) => void submit(e)} noValidate>
        <Card withBorder maw={760}>
          <Stack>
            <TextInput
              label={t("create.name")}
              description={t("create.nameHint")}
              value={name}
              onChange={(e) => setName(e.currentTarget.value)}
              error={(tried || name !== "") && problem ? t(`create.nameProblem.${problem}`) : undefined}
              withAsterisk
              autoComplete="off"
              autoCapitalize="none"
              spellCheck={false}
              data-autofocus
            />
            <Select
              label={t("create.image")}
              description={t("create.imageHint")}
              data={containers.map((i) => {
                const what = i.properties?.["description"];
                const alias = i.aliases?.map((a) => a.name).join(", ");
                return { value: i.fingerprint, label: [alias || short(i.fingerprint), what !== alias ? what : undefined, bytes(i.size)].filter(Boolean).join(" · ") };
              })}
              value={image}
              onChange={setImage}
              error={tried && image === null ? t("create.imageMissing") : undefined}
              searchable
              withAsterisk
            />
            <MultiSelect
              label={t("create.profiles")}
              description={t("config.profilesHint")}
              data={[...new Set([...(profiles.data ?? []).map((p) => p.name), ...chosen])]}
              value={chosen}
              onChange={setChosen}
              searchable
            />
            {clustered && (
              <Select
                label={t("create.target")}
                placeholder={t("create.targetAuto")}
                data={(members.data ?? []).map((m) => m.server_name)}
                value={target}
                onChange={setTarget}
                clearable
              />
            )}
            <TextInput label={t("create.description")} value={description} onChange={(e) => setDescription(e.currentTarget.value)} />
            <div role="group" aria-label={t("create.config")}>
              <Text size="sm" fw={500} mb={4}>
                {t("create.config")}
              </Text>
              <KeyEditor rows={rows} onChange={setRows} />
            </div>
            <Checkbox label={t("create.start")} checked={start} onChange={(e) => setStart(e.currentTarget.checked)} />
            <Checkbox label={t("create.ephemeral")} checked={ephemeral} onChange={(e) => setEphemeral(e.currentTarget.checked)} />
            <Group>
              <Button type="submit">{t("create.create")}</Button>
              <Button component={Link} to={href("/instances")} variant="default">
                {t("common.cancel")}
              </Button>
            </Group>
          </Stack>
        </Card>
      </form>
    </Page>
  );
}

function Going({ name, start, progress }: { name: string; start: boolean; progress: Progress }) {
  const { t } = useTranslation();
  const failed = progress.error !== undefined;
  const mark = (step: number) => ({ loading: !failed && progress.step === step, color: failed && progress.step === step ? "red" : undefined });
  return (
    <Stack role="status">
      <Stepper active={progress.step} orientation="vertical" size="sm" allowNextStepsSelect={false}>
        <Stepper.Step label={t("create.step.create")} description={progress.step === 0 ? progress.text : undefined} {...mark(0)} />
        {start && <Stepper.Step label={t("create.step.start")} {...mark(1)} />}
        {start && (
          <Stepper.Step
            label={t("create.step.address")}
            description={progress.address || (progress.step === 3 ? t("create.noAddress") : undefined)}
            {...mark(2)}
          />
        )}
      </Stepper>
      {failed && (
        <Alert color="red" title={t("create.failed", { name })} role="alert" className="wrap">
          {progress.error}
        </Alert>
      )}
      {!failed && (start ? progress.step === 3 : progress.step > 0) && (
        <Alert color="teal" title={start ? t("create.step.ready") : t("create.created", { name })}>
          {progress.address}
        </Alert>
      )}
    </Stack>
  );
}
