import { Button, Group, Select, Table } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { client, unwrap, unwrapAs, type Schemas } from "../api";
import { saveText } from "../files";
import { bytes, metric, words } from "../format";
import { Items } from "../items";
import { ReportFrame } from "../report";
import { modelRoute, modelsRoute } from "../router";
import { useMay } from "../session";
import { Ago, Empty, PageHead, Section, Show, State } from "../widgets";
import { Aliases } from "./aliases";
import { ServeButton } from "./serve";

export function ModelsPage() {
  const { project } = modelsRoute.useParams();
  const models = useInfiniteQuery({
    queryKey: ["models", project],
    queryFn: ({ pageParam, signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/models", {
          params: { path: { project }, query: pageParam === null ? {} : { cursor: pageParam } },
          signal,
        }),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? null,
  });
  return (
    <>
      <PageHead title="Models" lead="Results of jobs. Each has numbered versions." />
      <Items
        query={models}
        label="Models"
        empty={
          <Empty title="No models yet">
            <p>A job that succeeds registers its result here.</p>
          </Empty>
        }
      >
        {(model) => (
          <Link to="/projects/$project/models/$model" params={{ project, model: model.name }} className="row">
            <span className="row-main">
              <strong className="clip">{model.name}</strong>
              <span className="clip sub">{model.description || words(model.task)}</span>
            </span>
            <span className="row-end sub">
              <span>{model.latest === null ? "no version" : `version ${model.latest}`}</span>
              <span className="clip">
                {Object.entries(model.aliases)
                  .map(([alias, number]) => `${alias}: ${number}`)
                  .join(", ")}
              </span>
            </span>
          </Link>
        )}
      </Items>
    </>
  );
}

type Version = Schemas["ModelVersionOut"];

export function ModelPage() {
  const { project, model } = modelRoute.useParams();
  const path = { project, model };
  const shown = useQuery({
    queryKey: ["model", project, model],
    queryFn: ({ signal }) => unwrap(client.GET("/v1/projects/{project}/models/{model}", { params: { path }, signal })),
  });
  const versions = useQuery({
    queryKey: ["model versions", project, model],
    queryFn: ({ signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/models/{model}/versions", {
          params: { path, query: { limit: 100 } },
          signal,
        }),
      ),
  });
  const endpoints = useQuery({
    queryKey: ["endpoint choices", project],
    queryFn: ({ signal }) =>
      unwrap(client.GET("/v1/projects/{project}/endpoints", { params: { path: { project }, query: { limit: 200 } }, signal })),
    enabled: useMay(project, "endpoints:read"),
  });
  const servedBy = (version: Version) =>
    (endpoints.data?.items ?? [])
      .filter(({ live }) => live.some((each) => each.model === version.model && each.number === version.number))
      .map((each) => each.name);
  return (
    <>
      <PageHead title={model} lead={shown.data?.description || undefined} />
      <Show query={versions}>
        {({ items }) => {
          const newestFirst = items.toSorted((a, b) => b.number - a.number);
          return (
            <>
              {shown.data ? <Aliases project={project} model={shown.data} /> : null}
              <Scores versions={newestFirst} aliases={shown.data?.aliases ?? {}} />
              {newestFirst.map((version) => (
                <VersionPanel key={version.id} project={project} version={version} endpoints={servedBy(version)} />
              ))}
            </>
          );
        }}
      </Show>
    </>
  );
}

/** The scores of all versions side by side. */
function Scores({ versions, aliases }: { versions: Version[]; aliases: Record<string, number> }) {
  const numbers = (version: Version) => Object.entries(version.evaluation).filter(([, value]) => typeof value === "number");
  const names = [...new Set(versions.flatMap((version) => numbers(version).map(([name]) => name)))];
  if (names.length === 0) return null;
  return (
    <Section title="Scores on the held-out rows">
      <div className="scroll-x" tabIndex={0} role="region" aria-label="Scores by version">
        <Table>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Version</Table.Th>
              {names.map((name) => (
                <Table.Th key={name} ta="right">
                  {words(name)}
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {versions.map((version) => (
              <Table.Tr key={version.id}>
                <Table.Th scope="row">
                  {version.number}{" "}
                  <span className="sub">
                    {Object.entries(aliases)
                      .filter(([, number]) => number === version.number)
                      .map(([alias]) => alias)
                      .join(", ")}
                  </span>
                </Table.Th>
                {names.map((name) => {
                  const value: unknown = version.evaluation[name];
                  return (
                    <Table.Td key={name} ta="right" className="number">
                      {typeof value === "number" ? metric(value) : "–"}
                    </Table.Td>
                  );
                })}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </div>
    </Section>
  );
}

/** Where a version comes from: dataset, base model, job. */
function VersionPanel({ project, version, endpoints }: { project: string; version: Version; endpoints: string[] }) {
  const [reading, setReading] = useState(false);
  const [card, setCard] = useState(false);
  return (
    <Section title={`Version ${version.number}`} extra={<State value={version.decision} />}>
      {version.reason ? (
        <div className="reason">
          <strong>{version.reason.message}</strong>
        </div>
      ) : null}
      <ol className="lineage" aria-label="Lineage">
        <li>
          <span className="sub">Dataset</span>
          <Link
            to="/projects/$project/datasets/$dataset"
            params={{ project, dataset: version.dataset.split("@")[0] ?? "" }}
          >
            {version.dataset}
          </Link>
        </li>
        <li>
          <span className="sub">Base model</span>
          <span>{version.base_model}</span>
        </li>
        <li>
          <span className="sub">Job</span>
          <Link to="/projects/$project/jobs/$job" params={{ project, job: version.job }} className="clip">
            {version.job}
          </Link>
        </li>
        <li>
          <span className="sub">Result</span>
          <strong>
            {version.model}@{version.number}
          </strong>
        </li>
        {endpoints.map((name) => (
          <li key={name}>
            <span className="sub">Endpoint</span>
            <Link to="/projects/$project/endpoints/$endpoint" params={{ project, endpoint: name }}>
              {name}
            </Link>
          </li>
        ))}
      </ol>
      {version.warnings.length > 0 ? (
        <ul className="plain">
          {version.warnings.map((warning) => (
            <li key={warning.code + warning.message}>{warning.message}</li>
          ))}
        </ul>
      ) : null}
      <p className="sub">
        {bytes(version.bytes)}, registered <Ago time={version.created_at} />.
      </p>
      <Group gap="xs" mt="sm">
        <ServeButton project={project} version={version} />
        <Button variant="default" aria-expanded={reading} onClick={() => { setReading(!reading); }}>
          {reading ? "Close the report" : "Read the report"}
        </Button>
        <Button variant="default" aria-expanded={card} onClick={() => { setCard(!card); }}>
          {card ? "Close the model card" : "Model card"}
        </Button>
        <Downloads project={project} version={version} />
      </Group>
      {card ? <ModelCard project={project} version={version} /> : null}
      {reading ? <ReportFrame project={project} model={version.model} number={version.number} /> : null}
    </Section>
  );
}

/** What the version was trained on and how, its scores and its limits: Markdown that training wrote, shown as text. */
function ModelCard({ project, version }: { project: string; version: Version }) {
  const path = { project, model: version.model, number: version.number, path: "README.md" };
  const card = useQuery({
    queryKey: ["model card", version.id],
    queryFn: ({ signal }) =>
      unwrapAs<string>(
        client.GET("/v1/projects/{project}/models/{model}/versions/{number}/files/{path}", {
          params: { path },
          parseAs: "text",
          signal,
        }),
      ),
    staleTime: Infinity,
  });
  return (
    <Section
      title="Model card"
      extra={
        card.data === undefined ? null : (
          <Button
            size="xs"
            variant="default"
            onClick={() => {
              saveText(card.data, `${version.model}-${version.number}.md`, "text/markdown");
            }}
          >
            Download as Markdown
          </Button>
        )
      }
    >
      {version.purposes.length > 0 ? <p>Its data may be used for: {version.purposes.join(", ")}.</p> : null}
      <Show query={card}>
        {(text) => (
          <pre className="code wrapped" tabIndex={0} aria-label={`Model card of version ${version.number}`}>
            {text}
          </pre>
        )}
      </Show>
    </Section>
  );
}

/** Saves one file of a version; which ones there are is asked for when the list is opened. */
function Downloads({ project, version }: { project: string; version: Version }) {
  const [opened, setOpened] = useState(false);
  const path = { project, model: version.model, number: version.number };
  const detail = useQuery({
    queryKey: ["model version", version.id],
    queryFn: ({ signal }) =>
      unwrap(client.GET("/v1/projects/{project}/models/{model}/versions/{number}", { params: { path }, signal })),
    enabled: opened,
  });
  const address = (file: string) =>
    `/v1/projects/${project}/models/${version.model}/versions/${version.number}/files/${file.split("/").map(encodeURIComponent).join("/")}`;
  return (
    <Select
      aria-label="Download a file"
      placeholder="Download a file"
      value={null}
      data={(detail.data?.files ?? []).map((file) => ({ value: file.path, label: `${file.path}, ${bytes(file.bytes)}` }))}
      nothingFoundMessage="Loading"
      onDropdownOpen={() => {
        setOpened(true);
      }}
      onChange={(file) => {
        if (file === null) return;
        const link = document.createElement("a");
        link.href = address(file);
        link.download = file.split("/").at(-1) ?? file;
        link.click();
      }}
    />
  );
}
