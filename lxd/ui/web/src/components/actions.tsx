import { Alert, Button, Checkbox, Group, List, Modal, Stack } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useState } from "react";
import { useTranslation } from "react-i18next";
import { finished, progressText } from "../api/operations.ts";
import { path, request } from "../api/request.ts";
import { inProject, useEvents, useProject } from "../app.tsx";
import type { Action } from "../lib/instance.ts";
import { useTell } from "./tell.ts";

export type Verb = Action | "delete";

export interface Subject {
  name: string;
  status: string;
}

function runs(s: Subject): boolean {
  return s.status.toLowerCase() !== "stopped";
}

/** Does things to instances and tells what comes of it. True when it went well. */
export function useInstanceActions() {
  const { t } = useTranslation();
  const tell = useTell();
  const events = useEvents();
  const project = useProject();
  const client = useQueryClient();
  return useCallback(
    async (verb: Verb, subject: Subject, force = false): Promise<boolean> => {
      const name = subject.name;
      const note = tell.working(t(`action.working.${verb}`, { name }));
      const state = async (action: Action, hard: boolean) => {
        const { operation } = await request("PUT", path(["instances", name, "state"], inProject(project)), {
          body: { action, timeout: hard ? -1 : 60, force: hard },
        });
        await finished(events, operation, (o) => progressText(o) !== "" && note.progress(progressText(o)));
      };
      try {
        if (verb !== "delete") {
          await state(verb, force);
        } else {
          if (runs(subject)) await state("stop", true);
          const { operation } = await request("DELETE", path(["instances", name], inProject(project)));
          await finished(events, operation);
        }
        note.done(t(`action.done.${verb}`, { name }));
        return true;
      } catch (e) {
        note.error(t(`action.failed.${verb}`, { name }), e);
        return false;
      } finally {
        void client.invalidateQueries({ queryKey: ["instances"] });
      }
    },
    [client, events, project, t, tell],
  );
}

const asks: readonly Verb[] = ["delete", "stop", "restart"];

export interface Question {
  verb: Verb;
  subjects: Subject[];
}

/** Asks before what cannot be taken back, then does it. */
export function useConfirmedActions(after?: (verb: Verb, ok: Subject[]) => void) {
  const act = useInstanceActions();
  const [question, setQuestion] = useState<Question>();
  const run = useCallback(
    async (verb: Verb, subjects: Subject[], force: boolean) => {
      const results = await Promise.all(subjects.map((s) => act(verb, s, force)));
      after?.(
        verb,
        subjects.filter((_, i) => results[i]),
      );
    },
    [act, after],
  );
  const ask = useCallback(
    (verb: Verb, subjects: Subject[]) => {
      if (asks.includes(verb)) setQuestion({ verb, subjects });
      else void run(verb, subjects, false);
    },
    [run],
  );
  const dialog = (
    <Confirm
      question={question}
      onClose={() => setQuestion(undefined)}
      onYes={(force) => {
        if (question !== undefined) void run(question.verb, question.subjects, force);
        setQuestion(undefined);
      }}
    />
  );
  return { ask, dialog };
}

function Confirm(props: { question: Question | undefined; onClose: () => void; onYes: (force: boolean) => void }) {
  const { t } = useTranslation();
  const [force, setForce] = useState(false);
  const { question } = props;
  const verb = question?.verb ?? "stop";
  const subjects = question?.subjects ?? [];
  const count = subjects.length;
  const text =
    verb === "delete"
      ? t("action.confirmDelete", { count })
      : verb === "restart"
        ? t("action.confirmRestart", { count })
        : t("action.confirmStop", { count });
  return (
    <Modal
      opened={question !== undefined}
      onClose={props.onClose}
      title={text}
      closeButtonProps={{ "aria-label": t("common.close") }}
      onExitTransitionEnd={() => setForce(false)}
    >
      <Stack>
        <List size="sm" mah={200} style={{ overflowY: "auto" }}>
          {subjects.map((s) => (
            <List.Item key={s.name} className="wrap">
              {s.name}
            </List.Item>
          ))}
        </List>
        {verb === "delete" && subjects.some(runs) && <Alert color="yellow">{t("action.forceDelete")}</Alert>}
        {verb !== "delete" && (
          <Checkbox label={t("action.force")} checked={force} onChange={(e) => setForce(e.currentTarget.checked)} />
        )}
        <Group justify="flex-end">
          <Button variant="default" onClick={props.onClose} data-autofocus>
            {t("common.cancel")}
          </Button>
          <Button color="red" onClick={() => props.onYes(force)}>
            {t(`action.${verb}`)}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
