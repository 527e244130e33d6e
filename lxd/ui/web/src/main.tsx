import "@mantine/core/styles.css";
import "@mantine/notifications/styles.css";
import "./style.css";
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
    <MantineProvider theme={theme} defaultColorScheme="auto">
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
