import { Alert, Button, Container, Stack, Text } from "@mantine/core";
import { Component } from "react";
import type { ReactNode } from "react";
import i18next from "i18next";

/** Shows an error of the pages' own instead of an empty window. */
export class ErrorBoundary extends Component<{ children: ReactNode }, { error?: Error }> {
  override state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (error === undefined) return this.props.children;
    return (
      <Container size="sm" py="xl">
        <Alert color="red" title={i18next.t("app.crashed")}>
          <Stack align="flex-start">
            <Text size="sm" className="wrap">
              {error.message}
            </Text>
            <Button onClick={() => window.location.reload()}>{i18next.t("app.reload")}</Button>
          </Stack>
        </Alert>
      </Container>
    );
  }
}
