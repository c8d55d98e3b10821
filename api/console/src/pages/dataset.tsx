import { Button, SegmentedControl, Select, Table, Tabs, TextInput, VisuallyHidden } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { client, unwrap, unwrapAs, type Schemas } from "../api";
import { count, plural, words } from "../format";
import { More } from "../items";
import { datasetRoute } from "../router";
import { useMay } from "../session";
import { Bar, Empty, Facts, PageHead, Section, Show, State } from "../widgets";
import { Clean } from "./clean";

type Version = Schemas["DatasetVersionOut"];
type Split = "train" | "validation" | "test";
const TYPING_MILLISECONDS = 300;
const BUSY = new Set<string>(["processing", "pending"]);

export function DatasetPage() {
  const { project, dataset } = datasetRoute.useParams();
  const [chosen, setChosen] = useState<string | null>(null);
  const versions = useQuery({
    queryKey: ["versions", project, dataset],
    queryFn: ({ signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/datasets/{dataset}/versions", {
          params: { path: { project, dataset }, query: { limit: 200 } },
          signal,
        }),
      ),
    refetchInterval: (query) => (query.state.data?.items.some((each) => BUSY.has(each.state)) ? 2000 : false),
  });
  return (
    <Show query={versions}>
      {({ items }) => {
        const newest = items.reduce<Version | undefined>((a, b) => (a && a.number > b.number ? a : b), undefined);
        const version = items.find((each) => String(each.number) === chosen) ?? newest;
        return (
          <>
            <PageHead
              title={dataset}
              lead={
                version ? (
                  <>
                    <State value={version.state} /> <span className="sub">{words(version.task)}</span>
                  </>
                ) : undefined
              }
            >
              <Actions project={project} dataset={dataset} version={version} />
              {version ? (
                <Select
                  aria-label="Version"
                  w={150}
                  allowDeselect={false}
                  value={String(version.number)}
                  data={items.map((each) => ({ value: String(each.number), label: `Version ${each.number}` }))}
                  onChange={setChosen}
                />
              ) : null}
            </PageHead>
            {version ? (
              <VersionView
                key={version.id}
                project={project}
                version={version}
                show={(number) => {
                  setChosen(String(number));
                }}
              />
            ) : (
              <Empty title="No versions yet">
                <p>An upload makes the first one.</p>
              </Empty>
            )}
          </>
        );
      }}
    </Show>
  );
}

/** Upload a new version, train on this one. */
function Actions({ project, dataset, version }: { project: string; dataset: string; version: Version | undefined }) {
  const mayUpload = useMay(project, "datasets:write");
  const mayTrain = useMay(project, "jobs:write");
  return (
    <>
      {mayUpload ? (
        <Button
          variant="default"
          renderRoot={(props) => (
            <Link
              to="/projects/$project/upload"
              params={{ project }}
              search={version ? { dataset, task: version.task } : { dataset }}
              {...props}
            />
          )}
        >
          Upload a version
        </Button>
      ) : null}
      {mayTrain && version?.state === "ready" ? (
        <Button
          renderRoot={(props) => (
            <Link to="/projects/$project/new-job" params={{ project }} search={{ dataset: version.ref }} {...props} />
          )}
        >
          Train on it
        </Button>
      ) : null}
    </>
  );
}

interface VersionProps {
  project: string;
  version: Version;
  show: (number: number) => void;
}

function VersionView({ project, version, show }: VersionProps) {
  const mayWrite = useMay(project, "datasets:write");
  if (BUSY.has(version.state)) {
    return (
      <Empty title="The server checks the rows">
        <p>The page shows them when it has done so. Large files take some minutes.</p>
      </Empty>
    );
  }
  return (
    <>
      {version.problem ? (
        <div className="reason">
          <strong>{version.problem}</strong>
        </div>
      ) : null}
      <Facts
        items={[
          ...Object.entries(version.rows).map(([split, rows]): [string, string] => [`Rows in ${split}`, count(rows)]),
          ["Labels", count(version.labels.length)],
          ["Errors", count(version.errors)],
          ["Warnings", count(version.warnings)],
        ]}
      />
      <Tabs defaultValue="rows" keepMounted={false} className="panel">
        <Tabs.List>
          <Tabs.Tab value="rows">Rows</Tabs.Tab>
          <Tabs.Tab value="report">Report</Tabs.Tab>
          {mayWrite && version.state === "ready" ? <Tabs.Tab value="clean">Clean and split</Tabs.Tab> : null}
        </Tabs.List>
        <Tabs.Panel value="rows">
          <Rows project={project} version={version} />
        </Tabs.Panel>
        <Tabs.Panel value="report">
          <Report project={project} version={version} />
        </Tabs.Panel>
        <Tabs.Panel value="clean">
          <CleanVersion project={project} version={version} show={show} />
        </Tabs.Panel>
      </Tabs>
    </>
  );
}

/** A cell as text: a string as it is, everything else as JSON. */
function cell(value: unknown): string {
  return typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value);
}

function Rows({ project, version }: { project: string; version: Version }) {
  const splits = Object.keys(version.rows) as Split[];
  const [split, setSplit] = useState<Split>(splits[0] ?? "train");
  const [label, setLabel] = useState<string | null>(null);
  const [text, setText] = useState("");
  const [wanted] = useDebouncedValue(text.trim(), TYPING_MILLISECONDS);
  const path = { project, dataset: version.dataset, number: version.number };
  const rows = useInfiniteQuery({
    queryKey: ["rows", version.id, split, label, wanted],
    queryFn: async ({ pageParam, signal }) => {
      const url = "/v1/projects/{project}/datasets/{dataset}/versions/{number}/rows";
      const filter = { ...(label === null ? {} : { label }), ...(wanted === "" ? {} : { text: wanted }) };
      let cursor: string | null = pageParam;
      for (;;) {
        const query = { split, limit: 100, ...filter, ...(cursor === null ? {} : { cursor }) };
        const page: Schemas["DatasetRowsPage"] = await unwrap(client.GET(url, { params: { path, query }, signal }));
        cursor = page.next_cursor ?? null;
        // A request searches a part of the rows only.
        if (page.items.length > 0 || cursor === null) return page;
      }
    },
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? null,
    placeholderData: keepPreviousData,
    staleTime: Infinity,
  });
  const found = (rows.data?.pages ?? []).flatMap((page) => page.items);
  const columns = [...new Set(found.slice(0, 20).flatMap((row) => Object.keys(row)))];
  const filtered = label !== null || wanted !== "";
  return (
    <>
      <div className="filters">
        <SegmentedControl
          aria-label="Split"
          data={splits}
          value={split}
          onChange={(value) => {
            setSplit(value);
          }}
        />
        {version.labels.length > 0 ? (
          <Select
            aria-label="Label"
            placeholder="All labels"
            clearable
            clearButtonProps={{ "aria-label": "All labels" }}
            data={version.labels}
            value={label}
            onChange={setLabel}
          />
        ) : null}
        <TextInput
          aria-label="Find text in the rows"
          placeholder="Find text"
          value={text}
          onChange={(event) => {
            setText(event.currentTarget.value);
          }}
        />
      </div>
      <Show query={rows}>
        {() => (
          <>
            <p className="sub">
              {count(found.length)} {filtered ? "matching rows" : "rows"} are shown{rows.hasNextPage ? ", there are more" : ""}; the
              split has {count(version.rows[split] ?? 0)}
            </p>
            <div className="scroll-x" tabIndex={0} role="region" aria-label="Rows">
              <Table verticalSpacing="xs">
                <Table.Thead>
                  <Table.Tr>
                    {columns.map((column) => (
                      <Table.Th key={column}>{column}</Table.Th>
                    ))}
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {found.map((row, index) => (
                    <Table.Tr key={index}>
                      {columns.map((column) => (
                        <Table.Td key={column} className="cell">
                          {cell(row[column])}
                        </Table.Td>
                      ))}
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
            </div>
            <More query={rows} />
          </>
        )}
      </Show>
    </>
  );
}

function useReport(project: string, version: Version) {
  const path = { project, dataset: version.dataset, number: version.number };
  return useQuery({
    queryKey: ["report", version.id, version.state],
    queryFn: ({ signal }) =>
      unwrapAs<Schemas["DatasetReportOut"]>(
        client.GET("/v1/projects/{project}/datasets/{dataset}/versions/{number}/report", { params: { path }, signal }),
      ),
  });
}

function CleanVersion({ project, version, show }: VersionProps) {
  const report = useReport(project, version);
  return (
    <Show query={report}>{({ report }) => <Clean project={project} version={version} report={report} done={show} />}</Show>
  );
}

/** What each cleaning step did. */
function Steps({ steps }: { steps: Record<string, unknown>[] }) {
  if (steps.length === 0) return null;
  return (
    <Section title="Cleaning steps">
      <ol className="plain">
        {steps.map((step, index) => {
          const [before, after] = [Number(step.rows_in), Number(step.rows_out)];
          const effect = after < before ? `drops ${plural(before - after, "row")}, ${count(after)} remain` : "drops no row";
          return (
            <li key={index}>
              <strong>{words(String(step.op))}</strong> {effect}
            </li>
          );
        })}
      </ol>
    </Section>
  );
}

function Report({ project, version }: { project: string; version: Version }) {
  const report = useReport(project, version);
  return (
    <Show query={report}>
      {({ report }) => (
        <>
          <Steps steps={report.steps} />
          <Section title="Findings">
            {report.findings.length === 0 ? <p>Nothing was found.</p> : null}
            <ul className="findings">
              {report.findings.map((finding, index) => (
                <li key={index}>
                  <State value={finding.severity} />
                  <span className="breakable">
                    {finding.message}
                    {finding.action ? <span className="sub"> {finding.action}</span> : null}
                  </span>
                </li>
              ))}
            </ul>
          </Section>
          {Object.entries(report.splits).map(([split, stats]) => (
            <Section key={split} title={`Split ${split}`}>
              <Facts
                items={[
                  ["Rows", count(stats.rows)],
                  ["Skipped by training", count(stats.missing)],
                  ["Exact duplicates", count(stats.exact_duplicates)],
                  ["Near duplicates", count(stats.near_duplicates)],
                  ["Tokens, mean", stats.tokens_mean.toFixed(1)],
                  ["Tokens, most", count(stats.tokens_max)],
                ]}
              />
              {stats.tokens ? <TokenLengths histogram={stats.tokens} split={split} /> : null}
              <Labels counts={stats.labels ?? {}} />
            </Section>
          ))}
          {Object.keys(report.personal_data ?? {}).length > 0 ? (
            <Section title="Personal data">
              <Facts
                items={Object.entries(report.personal_data ?? {}).map(([kind, rows]) => [words(kind), `${count(rows)} rows`])}
              />
            </Section>
          ) : null}
        </>
      )}
    </Show>
  );
}

/** Rows by their number of tokens. */
function TokenLengths({ histogram, split }: { histogram: Schemas["Histogram"]; split: string }) {
  const { counts, edges } = histogram;
  const most = Math.max(1, ...counts);
  const bins = counts.map((rows, index) => ({ rows, from: edges[index] ?? 0, to: edges[index + 1] ?? 0 }));
  return (
    <figure className="histogram">
      <figcaption className="sub">Rows by number of tokens</figcaption>
      <ol aria-label={`Tokens of the rows of ${split}`}>
        {bins.map(({ rows, from, to }, index) => {
          const text = `${count(from)} to ${count(to)} tokens: ${plural(rows, "row")}`;
          return (
            <li key={index} title={text}>
              <VisuallyHidden>{text}</VisuallyHidden>
              <span aria-hidden className="column" style={{ height: `${rows === 0 ? 0 : Math.max(2, (rows / most) * 100)}%` }} />
            </li>
          );
        })}
      </ol>
      <div className="ends sub" aria-hidden>
        <span>{count(edges[0] ?? 0)}</span>
        <span>{count(edges.at(-1) ?? 0)}</span>
      </div>
    </figure>
  );
}

function Labels({ counts }: { counts: Record<string, number> }) {
  const most = Math.max(1, ...Object.values(counts));
  return (
    <div className="labels">
      {Object.entries(counts)
        .sort(([, a], [, b]) => b - a)
        .slice(0, 50)
        .map(([label, rows]) => (
          <div key={label}>
            <span className="clip">{label}</span>
            <Bar value={rows / most} label={`Rows with the label ${label}`} />
            <span className="sub">{count(rows)}</span>
          </div>
        ))}
    </div>
  );
}
