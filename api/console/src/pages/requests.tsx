/** The requests of an endpoint in this month, and how they ended. */

import { useQuery } from "@tanstack/react-query";
import { client, unwrap, type Schemas } from "../api";
import { count } from "../format";
import { useMay } from "../session";
import { Facts, Section } from "../widgets";

const MILLISECONDS = 15_000;
type Counts = Schemas["RequestCountsOut"];

export function Requests({ project, endpoint }: { project: string; endpoint: string }) {
  const mayRead = useMay(project, "usage:read");
  const month = new Date().toISOString().slice(0, 7);
  const groups = useQuery({
    queryKey: ["requests", project, month],
    queryFn: ({ signal }) => {
      const params = { path: { project, month }, query: { group_by: ["endpoint" as const], limit: 200 } };
      return unwrap(client.GET("/v1/projects/{project}/usage/months/{month}", { params, signal }));
    },
    enabled: mayRead,
    refetchInterval: MILLISECONDS,
  });
  const counts = groups.data?.items.filter((each) => each.endpoint === endpoint).map((each) => each.requests);
  if (!counts || counts.length === 0) return null;
  const sum = (name: keyof Counts) => count(counts.reduce((total, each) => total + each[name], 0));
  return (
    <Section title="Requests of this month">
      <Facts
        items={[
          ["All", sum("total")],
          ["Succeeded", sum("succeeded")],
          ["Refused", sum("rejected")],
          ["Failed", sum("failed")],
          ["Cancelled", sum("cancelled")],
          ["Tokens", count(counts.reduce((total, each) => total + each.prompt_tokens + each.completion_tokens, 0))],
        ]}
      />
    </Section>
  );
}
