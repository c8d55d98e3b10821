import { Select, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { Grid } from "../grid";
import { More } from "../items";
import { whoamiQuery } from "../session";
import { Ago, Empty, PageHead, Show, State } from "../widgets";

type Entry = Schemas["AuditOut"];
const OUTCOMES = ["accepted", "denied"] as const;

export function AuditPage() {
  const [actor, setActor] = useState("");
  const [action, setAction] = useState("");
  const [outcome, setOutcome] = useState<(typeof OUTCOMES)[number] | null>(null);
  const [filter] = useDebouncedValue({ actor: actor.trim(), action: action.trim(), outcome }, 300);
  const mayRead = useQuery(whoamiQuery).data?.permissions.includes("audit:read") ?? false;
  const entries = useInfiniteQuery({
    queryKey: ["audit", filter],
    queryFn: ({ pageParam, signal }) => {
      const query = {
        ...(pageParam === null ? {} : { cursor: pageParam }),
        ...(filter.actor === "" ? {} : { actor: filter.actor }),
        ...(filter.action === "" ? {} : { action: filter.action }),
        ...(filter.outcome === null ? {} : { outcome: filter.outcome }),
      };
      return unwrap(client.GET("/v1/audit", { params: { query }, signal }));
    },
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? null,
    enabled: mayRead,
  });
  if (!mayRead) return <Empty title="You may not read the audit log" />;
  return (
    <>
      <PageHead title="Audit" lead="Accepted changes and denied requests, newest first." />
      <div className="filters">
        <TextInput
          label="Actor"
          description="A user, or the id of a job"
          value={actor}
          onChange={(event) => {
            setActor(event.currentTarget.value);
          }}
        />
        <TextInput
          label="Action"
          description="Noun and verb, such as job.create"
          value={action}
          onChange={(event) => {
            setAction(event.currentTarget.value);
          }}
        />
        <Select
          label="Outcome"
          description="Accepted changes or denied requests"
          placeholder="All"
          clearable
          clearButtonProps={{ "aria-label": "All outcomes" }}
          data={OUTCOMES}
          value={outcome}
          onChange={(value) => {
            setOutcome(OUTCOMES.find((each) => each === value) ?? null);
          }}
        />
      </div>
      <Show query={entries}>
        {({ pages }) => {
          const items = pages.flatMap((page) => page.items);
          return items.length === 0 ? (
            <Empty title="No entry matches" />
          ) : (
            <>
              <Grid
                label="Entries"
                rows={items}
                rowKey={(each) => each.id}
                columns={[
                  { title: "When", cell: (each) => <Ago time={each.time} /> },
                  { title: "Actor", cell: (each) => each.actor },
                  { title: "Action", cell: (each) => each.action },
                  { title: "On", cell: (each) => each.name },
                  { title: "Outcome", cell: (each) => <State value={each.outcome} /> },
                  { title: "What changed", cell: (each) => changes(each) },
                ]}
              />
              <More query={entries} />
            </>
          );
        }}
      </Show>
    </>
  );
}

/** The changed fields as text: before and after. */
function changes(entry: Entry): string {
  if (entry.code !== "") return entry.code;
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  return Object.entries(entry.changes)
    .filter(([, change]) => change.before !== null && change.before !== undefined)
    .slice(0, 6)
    .map(([name, change]) => `${name}: ${text(change.before)} to ${text(change.after)}`)
    .join("; ");
}
