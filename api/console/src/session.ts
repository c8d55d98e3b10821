/** Who is signed in, and what the user may do. */

import { queryOptions, useQuery, type QueryClient } from "@tanstack/react-query";
import { ApiError, client, setCsrfToken, unwrap, type Schemas } from "./api";

export type Whoami = Schemas["WhoamiOut"];

/** The signed-in user; null without a session. */
export const whoamiQuery = queryOptions({
  queryKey: ["whoami"],
  queryFn: async ({ signal }): Promise<Whoami | null> => {
    try {
      const session = await unwrap(client.GET("/v1/session", { signal }));
      setCsrfToken(session.csrf_token);
      return await unwrap(client.GET("/v1/whoami", { signal }));
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return null;
      throw error;
    }
  },
  staleTime: 60_000,
});

/** Open a session and load its user. */
export async function signIn(queries: QueryClient, key: string): Promise<void> {
  const session = await unwrap(client.POST("/v1/auth/browser-sessions", { body: { key } }));
  setCsrfToken(session.csrf_token);
  queries.clear();
  await queries.query(whoamiQuery);
}

/** Open a session with the code of a link, and load its user. */
export async function signInByLink(queries: QueryClient, code: string): Promise<void> {
  const session = await unwrap(client.POST("/v1/auth/link-sessions", { body: { code } }));
  setCsrfToken(session.csrf_token);
  queries.clear();
  await queries.query(whoamiQuery);
}

export async function signOut(): Promise<void> {
  await unwrap(client.DELETE("/v1/session"));
  // A new page: nothing that the user saw stays in memory.
  window.location.assign("/sign-in");
}

/** Return whether the user has a permission in a project, as the server computed it. */
export function may(whoami: Whoami | null | undefined, project: string, permission: string): boolean {
  if (!whoami) return false;
  const platform = whoami.platform_role !== null && whoami.permissions.includes(permission);
  return platform || (whoami.project_permissions[project] ?? []).includes(permission);
}

export function useMay(project: string, permission: string): boolean {
  return may(useQuery(whoamiQuery).data, project, permission);
}
