import { Button, NumberInput, Select, TextInput } from "@mantine/core";
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { Confirm } from "../confirm";
import { Grid } from "../grid";
import { More } from "../items";
import { whoamiQuery } from "../session";
import { Ago, Command, Empty, Failure, PageHead, Section, Show } from "../widgets";

/** A new secret, which the server shows once. */
export function NewSecret({ secret }: { secret: string }) {
  return (
    <div role="status" className="effect">
      <p>
        <strong>Copy it now: it is not shown again.</strong>
      </p>
      <Command text={secret} />
    </div>
  );
}

export function KeysPage() {
  const keys = useInfiniteQuery({
    queryKey: ["keys"],
    queryFn: ({ pageParam, signal }) =>
      unwrap(client.GET("/v1/keys", { params: { query: pageParam === null ? {} : { cursor: pageParam } }, signal })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? null,
  });
  return (
    <>
      <PageHead title="API keys" lead="For programs and the command line. A key has the rights of its user, or fewer." />
      <NewKey />
      <Section title="Keys">
        <Show query={keys}>
          {({ pages }) => {
            const items = pages.flatMap((page) => page.items);
            return items.length === 0 ? (
              <Empty title="You have no key" />
            ) : (
              <>
                <Keys keys={items} />
                <More query={keys} />
              </>
            );
          }}
        </Show>
      </Section>
    </>
  );
}

function NewKey() {
  const queries = useQueryClient();
  const whoami = useQuery(whoamiQuery).data;
  const [name, setName] = useState("");
  const [days, setDays] = useState<number | null>(90);
  const [project, setProject] = useState<string | null>(null);
  const creating = useMutation({
    mutationFn: () => {
      const body = { user: whoami?.user ?? "", name, project, expires_in_days: days, platform_role: null, permissions: null };
      return unwrap(client.POST("/v1/keys", { body }));
    },
    onSuccess: () => queries.invalidateQueries({ queryKey: ["keys"] }),
  });
  return (
    <Section title="New key">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          creating.mutate();
        }}
      >
        <div className="filters">
          <TextInput
            label="Name"
            description="Where it is used"
            value={name}
            onChange={(event) => {
              setName(event.currentTarget.value);
            }}
          />
          <NumberInput
            label="Days"
            description="Empty: it does not end"
            value={days ?? ""}
            min={1}
            max={3650}
            onChange={(value) => {
              setDays(value === "" ? null : Number(value));
            }}
          />
          <Select
            label="Only in project"
            description="Empty: in all of yours"
            clearable
            clearButtonProps={{ "aria-label": "In all projects" }}
            data={Object.keys(whoami?.projects ?? {})}
            value={project}
            onChange={setProject}
          />
          <Button type="submit" loading={creating.isPending}>
            Create the key
          </Button>
        </div>
      </form>
      {creating.error ? <Failure error={creating.error} /> : null}
      {creating.data ? <NewSecret secret={creating.data.secret} /> : null}
    </Section>
  );
}

function Keys({ keys }: { keys: Schemas["KeyOut"][] }) {
  const queries = useQueryClient();
  const revoke = async (key: string) => {
    await unwrap(client.DELETE("/v1/keys/{key}", { params: { path: { key } } }));
    await queries.invalidateQueries({ queryKey: ["keys"] });
  };
  return (
    <Grid
      label="API keys"
      rows={keys}
      rowKey={(key) => key.id}
      columns={[
        { title: "Name", cell: (key) => key.name || "–" },
        { title: "User", cell: (key) => key.user },
        { title: "Project", cell: (key) => key.project ?? "all" },
        { title: "Created", cell: (key) => <Ago time={key.created_at} /> },
        { title: "Ends", cell: (key) => (key.expires_at ? <Ago time={key.expires_at} /> : "never") },
        {
          title: "State",
          cell: (key) =>
            key.revoked_at ? (
              "Revoked"
            ) : (
              <Confirm label="Revoke" question={`Revoke the key ${key.name || key.id}?`} run={() => revoke(key.id)}>
                <p>Programs that use it are refused, within a minute.</p>
              </Confirm>
            ),
        },
      ]}
    />
  );
}
