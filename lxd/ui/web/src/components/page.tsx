import { Alert, Center, Group, Loader, Stack, Title } from "@mantine/core";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";

/** A page: its title, buttons beside that, and what is on it. */
export function Page(props: { title: ReactNode; actions?: ReactNode; children: ReactNode }) {
  return (
    <Stack gap="md">
      <Group justify="space-between" gap="sm">
        <Title order={2} className="wrap">
          {props.title}
        </Title>
        {props.actions !== undefined && <Group gap="xs">{props.actions}</Group>}
      </Group>
      {props.children}
    </Stack>
  );
}

interface Query<T> {
  data: T | undefined;
  error: Error | null;
  isPending: boolean;
}

/** What a query has brought, or that it is on its way, or why it does not come. */
export function Loaded<T>(props: { query: Query<T>; children: (data: T) => ReactNode }) {
  const { t } = useTranslation();
  const { data, error, isPending } = props.query;
  if (data !== undefined) {
    return (
      <>
        {error && <Failure error={error} />}
        {props.children(data)}
      </>
    );
  }
  if (error) return <Failure error={error} />;
  return isPending ? (
    <Center h={160}>
      <Loader aria-label={t("app.loading")} />
    </Center>
  ) : null;
}

export function Failure(props: { error: Error }) {
  const { t } = useTranslation();
  return (
    <Alert color="red" title={t("common.error")} role="alert" className="wrap">
      {props.error.message}
    </Alert>
  );
}
