import "@mantine/core/styles.css";
import "@mantine/notifications/styles.css";
import "./style.css";
import type { CSSVariablesResolver } from "@mantine/core";
import { createTheme, MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { BrowserRouter } from "react-router";
import { ApiError, whenForbidden } from "./api/request.ts";
import { startI18n } from "./i18n/index.ts";
import { Gate } from "./layout/gate.tsx";
import { ErrorBoundary } from "./layout/boundary.tsx";

startI18n();

const theme = createTheme({
  primaryColor: "cyan",
  primaryShade: { light: 9, dark: 7 },
  defaultRadius: "md",
  fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif",
  fontFamilyMonospace: "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace",
  autoContrast: true,
});

// Texts that are dimmed, and words on tinted ground, have a contrast of 4.5 at least.
const contrast: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    "--mantine-color-dimmed": "#5f676f",
    "--mantine-color-placeholder": "#6b737b",
    "--mantine-color-error": "#c92a2a",
    "--mantine-color-yellow-light-color": "#7a4100",
    "--mantine-color-orange-light-color": "#9c3208",
    "--mantine-color-teal-light-color": "#066047",
  },
  dark: { "--mantine-color-dimmed": "#a6a6a6", "--mantine-color-placeholder": "#969696" },
});

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // What the server has said once it says again; only silence is worth another try.
      retry: (count, error) => !(error instanceof ApiError) && count < 2,
    },
  },
});

// Who is not logged in any more is told so, on whatever page that shows.
whenForbidden(() => void queries.invalidateQueries({ queryKey: ["server"] }));

const root = document.getElementById("root");
if (root === null) throw new Error("the page has no root");
createRoot(root).render(
  <StrictMode>
    <MantineProvider theme={theme} cssVariablesResolver={contrast} defaultColorScheme="auto">
      <Notifications position="top-center" limit={4} />
      <ErrorBoundary>
        <QueryClientProvider client={queries}>
          <BrowserRouter basename="/ui">
            <Gate />
          </BrowserRouter>
        </QueryClientProvider>
      </ErrorBoundary>
    </MantineProvider>
  </StrictMode>,
);
