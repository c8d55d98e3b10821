import { Button, Group, Select, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { Confirm } from "../confirm";
import { Grid } from "../grid";
import { accessRoute } from "../router";
import { useMay } from "../session";
import { Empty, Failure, PageHead, Section, Show } from "../widgets";
import { NewSecret } from "./keys";

type Member = Schemas["MemberOut"];
type Account = Schemas["ServiceAccountOut"];
type Role = Member["role"];

const ROLES: { value: Role; label: string }[] = [
  { value: "viewer", label: "Viewer: reads and predicts" },
  { value: "editor", label: "Editor: also uploads, trains and serves" },
  { value: "admin", label: "Admin: also manages members" },
];

export function AccessPage() {
  const { project } = accessRoute.useParams();
  return (
    <>
      <PageHead title="Members" lead="Who may do what in the project: users, groups, and accounts of programs." />
      <Members project={project} />
      <Accounts project={project} />
    </>
  );
}

function RoleChoice({ role, label, change }: { role: Role; label: string; change: (role: Role) => void }) {
  return (
    <Select
      aria-label={label}
      data={ROLES}
      value={role}
      allowDeselect={false}
      w={300}
      maw="100%"
      onChange={(value) => {
        change(value as Role);
      }}
    />
  );
}

function setMember(project: string, kind: Member["kind"], name: string, role: Role) {
  const body = { role };
  return kind === "User"
    ? unwrap(client.PUT("/v1/projects/{project}/members/{user}", { params: { path: { project, user: name } }, body }))
    : unwrap(client.PUT("/v1/projects/{project}/groups/{group}", { params: { path: { project, group: name } }, body }));
}

function Members({ project }: { project: string }) {
  const queries = useQueryClient();
  const mayWrite = useMay(project, "members:write");
  const members = useQuery({
    queryKey: ["members", project],
    queryFn: ({ signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/members", { params: { path: { project }, query: { limit: 200 } }, signal }),
      ),
  });
  const reload = () => queries.invalidateQueries({ queryKey: ["members", project] });
  const changing = useMutation({
    mutationFn: ({ member, role }: { member: Member; role: Role }) => setMember(project, member.kind, member.name, role),
    onSettled: reload,
  });
  const remove = async ({ kind, name }: Member) => {
    await (kind === "User"
      ? unwrap(client.DELETE("/v1/projects/{project}/members/{user}", { params: { path: { project, user: name } } }))
      : unwrap(client.DELETE("/v1/projects/{project}/groups/{group}", { params: { path: { project, group: name } } })));
    await reload();
  };
  return (
    <Section title="Users and groups">
      {mayWrite ? <NewMember project={project} done={reload} /> : null}
      {changing.error ? <Failure error={changing.error} /> : null}
      <Show query={members}>
        {({ items }) => (
          <Grid
            label="Members"
            rows={items}
            rowKey={(each) => `${each.kind} ${each.name}`}
            columns={[
              { title: "Kind", cell: (each) => each.kind },
              { title: "Name", cell: (each) => each.name },
              {
                title: "Role",
                cell: (each) =>
                  mayWrite ? (
                    <RoleChoice
                      role={each.role}
                      label={`Role of ${each.name}`}
                      change={(role) => {
                        changing.mutate({ member: each, role });
                      }}
                    />
                  ) : (
                    each.role
                  ),
              },
              ...(mayWrite
                ? [
                    {
                      title: "Change",
                      cell: (each: Member) => (
                        <Confirm label="Remove" question={`Remove ${each.name}?`} run={() => remove(each)}>
                          <p>The {each.kind.toLowerCase()} has no role in {project} any more.</p>
                        </Confirm>
                      ),
                    },
                  ]
                : []),
            ]}
          />
        )}
      </Show>
    </Section>
  );
}

function NewMember({ project, done }: { project: string; done: () => Promise<void> }) {
  const [kind, setKind] = useState<Member["kind"]>("User");
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const adding = useMutation({
    mutationFn: () => setMember(project, kind, name.trim(), role),
    onSuccess: async () => {
      setName("");
      await done();
    },
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        adding.mutate();
      }}
    >
      <div className="filters">
        <Select
          label="Add a"
          data={["User", "Group"]}
          value={kind}
          allowDeselect={false}
          onChange={(value) => {
            setKind(value as Member["kind"]);
          }}
        />
        <TextInput
          label="Name"
          value={name}
          required
          onChange={(event) => {
            setName(event.currentTarget.value);
          }}
        />
        <RoleChoice role={role} label="Role of the new member" change={setRole} />
        <Button type="submit" loading={adding.isPending}>
          Add
        </Button>
      </div>
      {adding.error ? <Failure error={adding.error} /> : null}
    </form>
  );
}

function Accounts({ project }: { project: string }) {
  const queries = useQueryClient();
  const mayRead = useMay(project, "service-accounts:read");
  const mayWrite = useMay(project, "service-accounts:write");
  const accounts = useQuery({
    queryKey: ["service accounts", project],
    queryFn: ({ signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/service-accounts", {
          params: { path: { project }, query: { limit: 200 } },
          signal,
        }),
      ),
    enabled: mayRead,
  });
  const reload = () => queries.invalidateQueries({ queryKey: ["service accounts", project] });
  if (!mayRead) return null;
  return (
    <Section title="Accounts of programs">
      {mayWrite ? <NewAccount project={project} done={reload} /> : null}
      <Show query={accounts}>
        {({ items }) =>
          items.length === 0 ? (
            <Empty title="There are none" />
          ) : (
            <Grid
              label="Service accounts"
              rows={items}
              rowKey={(each) => each.name}
              columns={[
                { title: "Name", cell: (each) => each.name },
                { title: "Role", cell: (each) => each.role },
                { title: "For", cell: (each) => each.description },
                ...(mayWrite
                  ? [{ title: "Change", cell: (each: Account) => <AccountActions project={project} account={each} done={reload} /> }]
                  : []),
              ]}
            />
          )
        }
      </Show>
    </Section>
  );
}

/** A new key of an account; the deletion of the account with its keys. */
function AccountActions({ project, account, done }: { project: string; account: Account; done: () => Promise<void> }) {
  const path = { project, account: account.name };
  const creating = useMutation({
    mutationFn: () => {
      const body = { name: "", expires_in_days: null, permissions: null };
      return unwrap(client.POST("/v1/projects/{project}/service-accounts/{account}/keys", { params: { path }, body }));
    },
  });
  const remove = async () => {
    await unwrap(client.DELETE("/v1/projects/{project}/service-accounts/{account}", { params: { path } }));
    await done();
  };
  return (
    <>
      <Group gap="xs">
        <Button size="compact-sm" variant="default" loading={creating.isPending} onClick={() => { creating.mutate(); }}>
          New key
        </Button>
        <Confirm label="Delete" question={`Delete ${account.name}?`} run={remove}>
          <p>All its keys end.</p>
        </Confirm>
      </Group>
      {creating.error ? <Failure error={creating.error} /> : null}
      {creating.data ? <NewSecret secret={creating.data.secret} /> : null}
    </>
  );
}

function NewAccount({ project, done }: { project: string; done: () => Promise<void> }) {
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const creating = useMutation({
    mutationFn: () => {
      const body = { name: name.trim(), role, description };
      return unwrap(client.POST("/v1/projects/{project}/service-accounts", { params: { path: { project } }, body }));
    },
    onSuccess: async () => {
      setName("");
      setDescription("");
      await done();
    },
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        creating.mutate();
      }}
    >
      <div className="filters">
        <TextInput
          label="Name of the account"
          value={name}
          required
          onChange={(event) => {
            setName(event.currentTarget.value);
          }}
        />
        <TextInput
          label="What it is for"
          value={description}
          onChange={(event) => {
            setDescription(event.currentTarget.value);
          }}
        />
        <RoleChoice role={role} label="Role of the new account" change={setRole} />
        <Button type="submit" loading={creating.isPending}>
          Add
        </Button>
      </div>
      {creating.error ? <Failure error={creating.error} /> : null}
    </form>
  );
}
