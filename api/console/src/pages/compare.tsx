/** Several jobs side by side: curves over each other, what differs in their specs, and their scores. */

import { MultiSelect, Table } from "@mantine/core";
import { keepPreviousData, useQueries, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { lazy, Suspense, useMemo, useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import type { NamedSeries } from "../curves";
import { metric, words } from "../format";
import { compareRoute } from "../router";
import { SmoothingSlider } from "../smoothingSlider";
import { Empty, Loading, PageHead, Section, Show, State } from "../widgets";

type Job = Schemas["JobDetailOut"];

const Curve = lazy(async () => ({ default: (await import("../curves")).Curve }));
const MOST_JOBS = 8;
const LIVE_MILLISECONDS = 3000;
const POINTS = 300;

export function ComparePage() {
  const { project } = compareRoute.useParams();
  const navigate = compareRoute.useNavigate();
  const search = compareRoute.useSearch();
  const ids = (search.jobs ?? "").split(",").filter((id) => id !== "").slice(0, MOST_JOBS);
  const newest = useQuery({
    queryKey: ["comparable jobs", project],
    queryFn: ({ signal }) =>
      unwrap(client.GET("/v1/projects/{project}/jobs", { params: { path: { project }, query: { limit: 200 } }, signal })),
    placeholderData: keepPreviousData,
  });
  const names = Object.fromEntries((newest.data?.items ?? []).map((job) => [job.id, `${job.name ?? job.model}, ${job.id}`]));
  return (
    <>
      <PageHead title="Compare jobs" lead="Curves over each other, what differs in their specs, and their scores." />
      <MultiSelect
        label="Jobs"
        description={`At most ${MOST_JOBS}; the newest ones are listed`}
        data={[...new Set([...ids, ...Object.keys(names)])].map((id) => ({ value: id, label: names[id] ?? id }))}
        value={ids}
        maxValues={MOST_JOBS}
        searchable
        onChange={(chosen) => void navigate({ search: chosen.length > 0 ? { jobs: chosen.join(",") } : {} })}
      />
      {ids.length === 0 ? (
        <Empty title="No job is chosen">
          <p>Choose two or more.</p>
        </Empty>
      ) : (
        <Comparison project={project} ids={ids} />
      )}
    </>
  );
}

function Comparison({ project, ids }: { project: string; ids: string[] }) {
  const jobs = useQueries({
    queries: ids.map((job) => ({
      queryKey: ["job", project, job],
      queryFn: ({ signal }: { signal: AbortSignal }) =>
        unwrap(client.GET("/v1/projects/{project}/jobs/{job}", { params: { path: { project, job } }, signal })),
      refetchInterval: LIVE_MILLISECONDS,
    })),
    combine: (results) => ({
      data: results.every((each) => each.data !== undefined) ? results.map((each) => each.data) : undefined,
      error: results.find((each) => each.error)?.error ?? null,
      refetch: () => {
        for (const each of results) void each.refetch();
      },
    }),
  });
  return (
    <Show query={jobs}>
      {(data) => (
        <>
          <Scores project={project} jobs={data} />
          <Differences jobs={data} />
          <Overlaid project={project} jobs={data} />
        </>
      )}
    </Show>
  );
}

function title(job: Job): string {
  return job.name ?? job.model;
}

function JobHeads({ jobs }: { jobs: Job[] }) {
  return jobs.map((job) => (
    <Table.Th key={job.id} className="breakable">
      {title(job)}
      <span className="sub"> {job.id.slice(-6)}</span>
    </Table.Th>
  ));
}

function Scores({ project, jobs }: { project: string; jobs: Job[] }) {
  const numbers = (job: Job) =>
    Object.entries(job.evaluation ?? {}).filter((pair): pair is [string, number] => typeof pair[1] === "number");
  const names = [...new Set(jobs.flatMap((job) => numbers(job).map(([name]) => name)))];
  return (
    <Section title="Scores">
      <div className="scroll-x" tabIndex={0} role="region" aria-label="Scores of the jobs">
        <Table>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Job</Table.Th>
              <Table.Th>State</Table.Th>
              {names.map((name) => (
                <Table.Th key={name} ta="right">
                  {words(name)}
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {jobs.map((job) => (
              <Table.Tr key={job.id}>
                <Table.Th scope="row" className="breakable">
                  <Link to="/projects/$project/jobs/$job" params={{ project, job: job.id }}>
                    {title(job)}
                  </Link>
                  <span className="sub"> {job.id.slice(-6)}</span>
                </Table.Th>
                <Table.Td>
                  <State value={job.state} />
                </Table.Td>
                {names.map((name) => {
                  const value = Object.fromEntries(numbers(job))[name];
                  return (
                    <Table.Td key={name} className="number">
                      {value === undefined ? "–" : metric(value)}
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

/** All values of a spec by their path, such as training.epochs. */
function leaves(value: unknown, path = ""): [string, string][] {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return Object.entries(value).flatMap(([key, each]) => leaves(each, path === "" ? key : `${path}.${key}`));
  }
  return [[path, value === null || value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value)]];
}

function Differences({ jobs }: { jobs: Job[] }) {
  const specs = jobs.map((job) => Object.fromEntries(leaves({ ...job.spec, dataset: job.dataset })));
  const paths = [...new Set(specs.flatMap((spec) => Object.keys(spec)))];
  const differing = paths.filter((path) => new Set(specs.map((spec) => spec[path] ?? "")).size > 1);
  if (jobs.length < 2) return null;
  return (
    <Section title="What differs">
      {differing.length === 0 ? (
        <p>Their specs are equal.</p>
      ) : (
        <div className="scroll-x" tabIndex={0} role="region" aria-label="Differing parameters">
          <Table>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>Parameter</Table.Th>
                <JobHeads jobs={jobs} />
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {differing.map((path) => (
                <Table.Tr key={path}>
                  <Table.Th scope="row">{words(path)}</Table.Th>
                  {specs.map((spec, index) => (
                    <Table.Td key={jobs[index]?.id} className="cell">
                      {spec[path] === undefined || spec[path] === "" ? "–" : spec[path]}
                    </Table.Td>
                  ))}
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
    </Section>
  );
}

function Overlaid({ project, jobs }: { project: string; jobs: Job[] }) {
  const [smoothing, setSmoothing] = useState(0.6);
  const metrics = useQueries({
    queries: jobs.map((job) => ({
      queryKey: ["compared metrics", project, job.id],
      queryFn: ({ signal }: { signal: AbortSignal }) => {
        const params = { path: { project, job: job.id }, query: { points: POINTS } };
        return unwrap(client.GET("/v1/projects/{project}/jobs/{job}/metrics", { params, signal }));
      },
      refetchInterval: job.finished_at ? (false as const) : LIVE_MILLISECONDS,
    })),
    combine: (results) => results.map((each) => each.data?.series ?? []),
  });
  const labels = JSON.stringify(jobs.map((job) => `${title(job)} ${job.id.slice(-6)}`));
  const joined = useMemo(() => {
    const titles = JSON.parse(labels) as string[];
    const names = [...new Set(metrics.flatMap((series) => series.map((each) => each.name)))];
    return names.map((name): [string, NamedSeries[]] => [
      name,
      metrics.flatMap((series, index) => {
        const found = series.find((each) => each.name === name);
        return found ? [{ ...found, name: titles[index] ?? "" }] : [];
      }),
    ]);
  }, [metrics, labels]);
  if (joined.length === 0) return null;
  return (
    <Section title="Curves">
      <SmoothingSlider value={smoothing} onChange={setSmoothing} />
      <Suspense fallback={<Loading />}>
        <div className="curves">
          {joined.map(([name, series]) => (
            <Curve key={`${name} ${series.length}`} name={name} series={series} weight={smoothing} />
          ))}
        </div>
      </Suspense>
    </Section>
  );
}
