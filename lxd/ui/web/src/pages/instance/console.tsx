import { Alert, Button, Group, Modal, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useCallback, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { ApiError, path, request, text } from "../../api/request.ts";
import { inProject, useProject } from "../../app.tsx";
import { Loaded } from "../../components/page.tsx";
import { useTell } from "../../components/tell.ts";
import { isRunning } from "../../lib/instance.ts";
import { Screen } from "../../terminal/screen.tsx";
import type { Size } from "../../terminal/wires.ts";
import { openConsole } from "../../terminal/wires.ts";

/** The console: its log, and the console itself once somebody attaches to it. */
export default function Console(props: { name: string; status: string; shown: boolean }) {
  const { t } = useTranslation();
  const { name, status } = props;
  const project = useProject();
  const tell = useTell();
  const url = path(["instances", name, "console"], inProject(project));
  const [attached, setAttached] = useState(false);
  const [asking, setAsking] = useState(false);
  const log = useQuery({ queryKey: ["console", project, name], queryFn: () => text(url), enabled: props.shown && !attached, staleTime: 0 });
  const [taken, setTaken] = useState(0); // a take-over is another screen
  const [busy, setBusy] = useState(false); // somebody else is attached
  const force = useRef(false);
  const connect = useCallback(
    async (size: Size) => {
      try {
        const wires = await openConsole(project, name, size, force.current);
        setBusy(false);
        return wires;
      } catch (e) {
        setBusy(e instanceof ApiError && e.status === 409);
        throw e;
      } finally {
        force.current = false;
      }
    },
    [project, name],
  );
  const clear = async () => {
    setAsking(false);
    try {
      await request("DELETE", url);
    } catch (e) {
      tell.error(t("console.clear"), e);
    }
    await log.refetch();
  };
  return (
    <Stack gap="xs">
      <Group justify="space-between">
        <Text size="sm" c="dimmed">
          {t("console.intro")}
        </Text>
        <Group gap="xs">
          {attached ? (
            <>
              {busy && (
                <Button
                  size="xs"
                  onClick={() => {
                    force.current = true;
                    setTaken((n) => n + 1);
                  }}
                >
                  {t("console.takeOver")}
                </Button>
              )}
              <Button
                size="xs"
                variant="default"
                onClick={() => {
                  setAttached(false);
                  setBusy(false);
                }}
              >
                {t("console.detach")}
              </Button>
            </>
          ) : (
            <>
              <Button size="xs" variant="default" onClick={() => void log.refetch()}>
                {t("common.refresh")}
              </Button>
              <Button size="xs" variant="default" onClick={() => setAsking(true)} disabled={!log.data}>
                {t("console.clear")}
              </Button>
              <Button size="xs" disabled={!isRunning(status)} onClick={() => setAttached(true)}>
                {t("console.attach")}
              </Button>
            </>
          )}
        </Group>
      </Group>
      {attached ? (
        <div className="screen-fill">
          <Screen
            key={taken}
            label={t("console.screen", { name })}
            connect={connect}
            prelude={lines(log.data ?? "")}
            active={props.shown}
            endedText={t("console.ended")}
          />
        </div>
      ) : (
        <Loaded query={log}>
          {(said) =>
            said === "" ? (
              <Alert color="gray">{t("console.noLog")}</Alert>
            ) : (
              <div className="screen-fill">
                <Screen key={log.dataUpdatedAt} label={t("console.log")} prelude={lines(said)} active={false} />
              </div>
            )
          }
        </Loaded>
      )}
      <Modal opened={asking} onClose={() => setAsking(false)} title={t("console.clearConfirm")} closeButtonProps={{ "aria-label": t("common.close") }}>
        <Group justify="flex-end">
          <Button variant="default" onClick={() => setAsking(false)} data-autofocus>
            {t("common.cancel")}
          </Button>
          <Button color="red" onClick={() => void clear()}>
            {t("console.clear")}
          </Button>
        </Group>
      </Modal>
    </Stack>
  );
}

/** Lines of a log as a terminal takes them. */
function lines(s: string): string {
  return s.replace(/\r?\n/g, "\r\n");
}
