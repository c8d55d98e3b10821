/** The frame of every page: navigation, project, user, and a message while the server does not answer. */

import { Burger, Button, Menu, Select, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { queryOptions, useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams, useRouterState } from "@tanstack/react-router";
import { useEffect } from "react";
import { client, unwrap } from "./api";
import { useConnected } from "./connection";
import { signOut, whoamiQuery } from "./session";
import { Empty, PageHead, Show } from "./widgets";

const SECTIONS = [
  ["jobs", "Jobs"],
  ["datasets", "Datasets"],
  ["models", "Models"],
  ["endpoints", "Endpoints"],
  ["usage", "Usage"],
  ["members", "Members"],
] as const;

export const projectsQuery = queryOptions({
  queryKey: ["projects"],
  queryFn: ({ signal }) => unwrap(client.GET("/v1/projects", { params: { query: { limit: 200 } }, signal })),
  staleTime: 30_000,
});

export function Shell() {
  const navigate = useNavigate();
  const path = useRouterState({ select: (state) => state.location.pathname });
  const href = useRouterState({ select: (state) => state.location.href });
  const whoami = useQuery(whoamiQuery);
  const { project } = useParams({ strict: false });
  const projects = useQuery({ ...projectsQuery, enabled: Boolean(whoami.data) });
  const names = (projects.data?.items ?? []).map((each) => each.name);
  const shown = project ?? names[0];
  const [opened, { toggle, close }] = useDisclosure(false);

  useEffect(() => {
    if (whoami.data === null) void navigate({ to: "/sign-in", search: { to: href } });
  }, [whoami.data, navigate, href]);
  useEffect(close, [path, close]);

  return (
    <div className="frame">
      <a href="#content" className="skip-link">
        Skip to the content
      </a>
      <header className="top">
        <Burger opened={opened} onClick={toggle} size="sm" className="burger" aria-label="Navigation" />
        <Link to="/" className="brand">
          <img src="/icon.svg" alt="" width={24} height={24} />
          Windlass
        </Link>
        {names.length > 0 ? (
          <Select
            aria-label="Project"
            className="project"
            data={names}
            value={shown ?? null}
            allowDeselect={false}
            searchable={names.length > 8}
            onChange={(name) => void (name && navigate({ to: "/projects/$project/jobs", params: { project: name } }))}
          />
        ) : null}
        <span className="grow" />
        <UserMenu name={whoami.data?.user ?? ""} />
      </header>
      <nav className={opened ? "side opened" : "side"} aria-label="Pages">
        {shown
          ? SECTIONS.map(([section, label]) => (
              <Link
                key={section}
                to={`/projects/$project/${section}`}
                params={{ project: shown }}
                activeProps={{ className: "active" }}
              >
                {label}
              </Link>
            ))
          : null}
        <Link to="/quota" activeProps={{ className: "active" }}>
          Quota
        </Link>
        <Link to="/keys" activeProps={{ className: "active" }}>
          API keys
        </Link>
        {whoami.data?.permissions.includes("audit:read") ? (
          <Link to="/audit" activeProps={{ className: "active" }}>
            Audit
          </Link>
        ) : null}
      </nav>
      <main className="page" id="content" tabIndex={-1}>
        <ConnectionState />
        <Outlet />
      </main>
    </div>
  );
}

function ConnectionState() {
  const connected = useConnected();
  return (
    <div role="status" aria-live="polite">
      {connected ? null : (
        <p className="lost">The server does not answer. What you see may be old. Trying again.</p>
      )}
    </div>
  );
}

function UserMenu({ name }: { name: string }) {
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light") === "dark";
  return (
    <Menu position="bottom-end" withinPortal>
      <Menu.Target>
        <Button variant="default" size="xs" className="user">
          {name}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item
          onClick={() => {
            setColorScheme(dark ? "light" : "dark");
          }}
        >
          {dark ? "Light colours" : "Dark colours"}
        </Menu.Item>
        <Menu.Item onClick={() => void signOut()}>Sign out</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

/** Sends the user to the first project. */
export function HomePage() {
  const navigate = useNavigate();
  const projects = useQuery(projectsQuery);
  const first = projects.data?.items[0]?.name;
  useEffect(() => {
    if (first) void navigate({ to: "/projects/$project/jobs", params: { project: first }, replace: true });
  }, [first, navigate]);
  return (
    <Show query={projects}>
      {(page) =>
        page.items.length > 0 ? null : (
          <>
            <PageHead title="Projects" />
            <Empty title="You are a member of no project">
              <p>Ask an admin of a project to add you: windlass member set.</p>
            </Empty>
          </>
        )
      }
    </Show>
  );
}

export function MissingPage() {
  return (
    <main className="page">
      <PageHead title="No such page" />
      <p>
        <Link to="/">Go to the jobs</Link>
      </p>
    </main>
  );
}
