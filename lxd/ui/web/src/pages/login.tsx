import { Alert, Center, Code, Loader, Paper, Stack, Text, Title } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useNavigate } from "react-router";
import { path, request } from "../api/request.ts";
import type { Session } from "../api/types.ts";

/** Turns the token of a login link into a session. */
export function Login({ token }: { token: string }) {
  const { t } = useTranslation();
  const client = useQueryClient();
  const navigate = useNavigate();
  const [error, setError] = useState("");
  const sent = useRef("");
  useEffect(() => {
    if (sent.current === token) return; // a link works once, effects may run twice
    sent.current = token;
    void (async () => {
      try {
        await request<Session>("POST", path(["webui", "sessions"]), { body: { token } });
        await client.resetQueries();
        // Not into the history: the token is used, and "back" would try it again.
        await navigate("/", { replace: true });
      } catch (e) {
        setError(e instanceof Error ? e.message : String(e));
      }
    })();
  }, [token, client, navigate]);
  if (error !== "") return <LoggedOut error={error} />;
  return (
    <Center h="100dvh">
      <Stack align="center">
        <Loader />
        <Text>{t("login.working")}</Text>
      </Stack>
    </Center>
  );
}

/** Says how to log in. */
export function LoggedOut({ error }: { error?: string }) {
  const { t } = useTranslation();
  return (
    <Center mih="100dvh" p="md" component="main">
      <Paper withBorder p="xl" maw={520}>
        <Stack>
          <Title order={1} size="h2">
            {t("login.title")}
          </Title>
          {error !== undefined && (
            <Alert color="red" title={t("login.failed")} role="alert">
              {error}
            </Alert>
          )}
          <Text>{t("login.how")}</Text>
          <Code block>lxc webui</Code>
          <Text>{t("login.howRemote")}</Text>
          <Code block>lxc webui REMOTE:</Code>
          <Text size="sm" c="dimmed">
            {t("login.life")}
          </Text>
        </Stack>
      </Paper>
    </Center>
  );
}
