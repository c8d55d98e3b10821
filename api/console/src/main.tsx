import "@mantine/core/styles.css";
import "@mantine/notifications/styles.css";
import "./console.css";

import { createTheme, MantineProvider, type CSSVariablesResolver } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { MutationCache, QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { ApiError } from "./api";
import { newRouter } from "./router";
import { whoamiQuery } from "./session";
import { Clock } from "./widgets";

const theme = createTheme({
  primaryColor: "blue",
  // Darker than the library's, so that text on and in these colours has a contrast of 4.5.
  primaryShade: { light: 8, dark: 8 },
  fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
  defaultRadius: "md",
  respectReducedMotion: true,
  headings: { sizes: { h1: { fontSize: "1.5rem" }, h2: { fontSize: "1.05rem" }, h3: { fontSize: "0.95rem" } } },
});

const cssVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: { "--mantine-color-dimmed": "#495057", "--mantine-color-placeholder": "#6a7178", "--mantine-color-error": "#c92a2a" },
  dark: { "--mantine-color-dimmed": "#b8b8b8", "--mantine-color-placeholder": "#a0a0a0", "--mantine-color-error": "#ff8787" },
});

function onError(error: Error): void {
  if (!(error instanceof ApiError)) return;
  // The session has ended: the shell shows the sign-in.
  if (error.status === 401) queries.setQueryData(whoamiQuery.queryKey, null);
}

const queries: QueryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    queries: {
      retry: (failures, error) => failures < 2 && !(error instanceof ApiError && error.status >= 400 && !error.lost),
      // Lists are asked for again while the page is visible, also after the network was away.
      networkMode: "always",
      staleTime: 1000,
    },
    mutations: { networkMode: "always" },
  },
});

const styleNonce = document.querySelector<HTMLMetaElement>("meta[name=style-nonce]")?.content ?? "";
// Where a library of the component library, which locks the scrolling below dialogs, looks for the nonce.
Object.assign(globalThis, { __webpack_nonce__: styleNonce });
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <MantineProvider
        theme={theme}
        defaultColorScheme="auto"
        cssVariablesResolver={cssVariables}
        getStyleNonce={() => styleNonce}
      >
        <QueryClientProvider client={queries}>
          <Notifications position="bottom-right" />
          <Clock>
            <RouterProvider router={newRouter(queries)} />
          </Clock>
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
}
