/** The routes of the console. Pages are loaded when they are opened. */

import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";
import { HomePage, MissingPage, Shell } from "./shell";
import { whoamiQuery } from "./session";
import { Failure, Loading } from "./widgets";

interface Context {
  queries: QueryClient;
}

const root = createRootRouteWithContext<Context>()({ component: Outlet, notFoundComponent: MissingPage });

/** A parameter of the address, if it is a text. */
function texts<K extends string>(search: Record<string, unknown>, name: K): Partial<Record<K, string>> {
  const value = search[name];
  return typeof value === "string" ? ({ [name]: value } as Record<K, string>) : {};
}

export const signInRoute = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  validateSearch: (search: Record<string, unknown>): { to?: string } =>
    typeof search.to === "string" ? { to: search.to } : {},
  component: lazyRouteComponent(() => import("./pages/signIn"), "SignInPage"),
});

const signedIn = createRoute({
  getParentRoute: () => root,
  id: "signed-in",
  component: Shell,
  errorComponent: ({ error }) => (
    <main className="page">
      <Failure error={error} retry={() => { window.location.reload(); }} />
    </main>
  ),
  beforeLoad: async ({ context, location }) => {
    if ((await context.queries.query(whoamiQuery)) === null) {
      throw redirect({ to: "/sign-in", search: location.href === "/" ? {} : { to: location.href } });
    }
  },
});

const home = createRoute({ getParentRoute: () => signedIn, path: "/", component: HomePage });
export const quotaRoute = createRoute({
  getParentRoute: () => signedIn,
  path: "/quota",
  component: lazyRouteComponent(() => import("./pages/quota"), "QuotaPage"),
});
export const keysRoute = createRoute({
  getParentRoute: () => signedIn,
  path: "/keys",
  component: lazyRouteComponent(() => import("./pages/keys"), "KeysPage"),
});
export const auditRoute = createRoute({
  getParentRoute: () => signedIn,
  path: "/audit",
  component: lazyRouteComponent(() => import("./pages/audit"), "AuditPage"),
});
export const projectRoute = createRoute({ getParentRoute: () => signedIn, path: "/projects/$project", component: Outlet });
export const jobsRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/jobs",
  validateSearch: (search: Record<string, unknown>): { state?: string } =>
    typeof search.state === "string" ? { state: search.state } : {},
  component: lazyRouteComponent(() => import("./pages/jobs"), "JobsPage"),
});
export const jobRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/jobs/$job",
  component: lazyRouteComponent(() => import("./pages/job"), "JobPage"),
});
export const compareRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/compare",
  validateSearch: (search: Record<string, unknown>): { jobs?: string } => texts(search, "jobs"),
  component: lazyRouteComponent(() => import("./pages/compare"), "ComparePage"),
});
export const usageRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/usage",
  component: lazyRouteComponent(() => import("./pages/usage"), "UsagePage"),
});
export const accessRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/members",
  component: lazyRouteComponent(() => import("./pages/access"), "AccessPage"),
});
export const datasetsRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/datasets",
  component: lazyRouteComponent(() => import("./pages/datasets"), "DatasetsPage"),
});
export const datasetRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/datasets/$dataset",
  component: lazyRouteComponent(() => import("./pages/dataset"), "DatasetPage"),
});
interface UploadSearch {
  dataset?: string;
  task?: (typeof TASK_NAMES)[number];
  /** The example data instead of a file of the user. */
  example?: boolean;
}
const TASK_NAMES = ["text-classification", "chat"] as const;
export const uploadRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/upload",
  validateSearch: (search: Record<string, unknown>): UploadSearch => {
    const task = TASK_NAMES.find((each) => each === search.task);
    return { ...texts(search, "dataset"), ...(task ? { task } : {}), ...(search.example === true ? { example: true } : {}) };
  },
  component: lazyRouteComponent(() => import("./pages/upload"), "UploadPage"),
});
export const newJobRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/new-job",
  validateSearch: (search: Record<string, unknown>): { dataset?: string; from?: string } => ({
    ...texts(search, "dataset"),
    ...texts(search, "from"),
  }),
  component: lazyRouteComponent(() => import("./pages/newJob"), "NewJobPage"),
});
export const modelsRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/models",
  component: lazyRouteComponent(() => import("./pages/models"), "ModelsPage"),
});
export const modelRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/models/$model",
  component: lazyRouteComponent(() => import("./pages/models"), "ModelPage"),
});
export const endpointsRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/endpoints",
  component: lazyRouteComponent(() => import("./pages/endpoints"), "EndpointsPage"),
});
export const endpointRoute = createRoute({
  getParentRoute: () => projectRoute,
  path: "/endpoints/$endpoint",
  component: lazyRouteComponent(() => import("./pages/endpoints"), "EndpointPage"),
});

const tree = root.addChildren([
  signInRoute,
  signedIn.addChildren([
    home,
    quotaRoute,
    keysRoute,
    auditRoute,
    projectRoute.addChildren([
      jobsRoute,
      jobRoute,
      compareRoute,
      usageRoute,
      accessRoute,
      datasetsRoute,
      datasetRoute,
      uploadRoute,
      newJobRoute,
      modelsRoute,
      modelRoute,
      endpointsRoute,
      endpointRoute,
    ]),
  ]),
]);

export function newRouter(queries: QueryClient) {
  return createRouter({
    routeTree: tree,
    context: { queries },
    defaultPendingComponent: Loading,
    defaultErrorComponent: ({ error }) => <Failure error={error} />,
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof newRouter>;
  }
}
