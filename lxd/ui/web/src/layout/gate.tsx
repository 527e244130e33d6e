import { Alert, Button, Center, Loader, Stack } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useLocation } from "react-router";
import { LiveData, useServer } from "../app.tsx";
import { Login, LoggedOut } from "../pages/login.tsx";
import { Shell } from "./shell.tsx";

/** Shows the pages to the logged in, and to others how to become that. */
export function Gate() {
  const { t } = useTranslation();
  const server = useServer();
  const location = useLocation();
  if (location.pathname === "/login" && location.hash.length > 1) return <Login token={location.hash.slice(1)} />;
  if (server.isPending) {
    return (
      <Center h="100dvh">
        <Loader aria-label={t("app.loading")} />
      </Center>
    );
  }
  if (server.data === undefined) {
    return (
      <Center h="100dvh" p="md">
        <Alert color="red" title={t("app.unreachable")} role="alert">
          <Stack align="flex-start">
            {server.error?.message}
            <Button onClick={() => void server.refetch()}>{t("app.retry")}</Button>
          </Stack>
        </Alert>
      </Center>
    );
  }
  if (server.data.auth !== "trusted") return <LoggedOut />;
  return (
    <LiveData>
      <Shell />
    </LiveData>
  );
}
