import { Button, Select, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef, useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { duration } from "../format";
import { jobsRoute } from "../router";
import { useMay } from "../session";
import { Sparkline } from "../sparkline";
import { Ago, Bar, Empty, PageHead, Show, State, useNow } from "../widgets";
import { FirstSteps } from "./firstSteps";

type Job = Schemas["JobOut"];
type JobState = Job["state"];

const STATES: JobState[] = ["queued", "starting", "running", "cancelling", "succeeded", "failed", "cancelled"];
const ENDED = new Set<string>(["succeeded", "failed", "cancelled"]);
const LIVE_MILLISECONDS = 2000;
const ROW_PIXELS = 84;

function list(project: string, state: JobState | undefined, match: string, cursor: string | null, signal: AbortSignal) {
  const query = {
    limit: 50,
    ...(cursor === null ? {} : { cursor }),
    ...(match === "" ? (state ? { state } : {}) : { match }),
  };
  return unwrap(client.GET("/v1/projects/{project}/jobs", { params: { path: { project }, query }, signal }));
}

/** The loaded pages, with the newest jobs as the server has them now. */
function useJobs(project: string, state: JobState | undefined, match: string) {
  const pages = useInfiniteQuery({
    queryKey: ["jobs", project, state, match],
    queryFn: ({ pageParam, signal }) => list(project, state, match, pageParam, signal),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? null,
    placeholderData: keepPreviousData,
    staleTime: Infinity,
    gcTime: 0,
  });
  const newest = useQuery({
    queryKey: ["newest jobs", project, state, match],
    queryFn: ({ signal }) => list(project, state, match, null, signal),
    refetchInterval: LIVE_MILLISECONDS,
    enabled: pages.isSuccess,
  });
  const jobs = useMemo(() => {
    const head = newest.data?.items ?? [];
    const known = new Set(head.map((job) => job.id));
    const last = head.at(-1)?.id ?? "";
    const complete = newest.data?.next_cursor === null;
    // Ids ascend with time: a job among the newest that the server does not list any more has left the filter.
    const older = (pages.data?.pages ?? []).flatMap((page) => page.items);
    const kept = newest.data ? older.filter((job) => !known.has(job.id) && !complete && job.id < last) : older;
    return [...head, ...kept];
  }, [pages.data, newest.data]);
  return { pages, jobs };
}

export function JobsPage() {
  const { project } = jobsRoute.useParams();
  const navigate = jobsRoute.useNavigate();
  const search = jobsRoute.useSearch();
  const state = STATES.find((each) => each === search.state);
  const [text, setText] = useState("");
  const [match] = useDebouncedValue(text.trim(), 200);
  const { pages, jobs } = useJobs(project, state, match);
  const filtered = state !== undefined || match !== "";
  const mayWrite = useMay(project, "jobs:write");
  return (
    <>
      <PageHead title="Jobs" lead="Fine-tuning jobs, newest first. The list follows the server.">
        {mayWrite ? (
          <Button renderRoot={(props) => <Link to="/projects/$project/new-job" params={{ project }} {...props} />}>
            New job
          </Button>
        ) : null}
      </PageHead>
      <div className="filters">
        <TextInput
          label="Name or id"
          description="A whole name, or the beginning of an id"
          placeholder="nightly"
          value={text}
          onChange={(event) => {
            setText(event.currentTarget.value);
          }}
        />
        <Select
          label="State"
          description="Only jobs in this state"
          placeholder="All states"
          clearable
          clearButtonProps={{ "aria-label": "All states" }}
          data={STATES}
          value={state ?? null}
          disabled={match !== ""}
          onChange={(value) => void navigate({ search: value ? { state: value } : {} })}
        />
      </div>
      <Show query={pages}>
        {() =>
          jobs.length > 0 ? (
            <JobList project={project} jobs={jobs} more={pages.hasNextPage && !pages.isFetching} next={pages.fetchNextPage} />
          ) : filtered ? (
            <Empty title="No job matches">
              <p>Choose another state, or clear the name.</p>
            </Empty>
          ) : (
            <FirstSteps project={project} mayWrite={mayWrite} />
          )
        }
      </Show>
    </>
  );
}

interface JobListProps {
  project: string;
  jobs: Job[];
  more: boolean;
  next: () => unknown;
}

/** Only the visible rows are in the document; the next page is asked for near the end. */
function JobList({ project, jobs, more, next }: JobListProps) {
  const element = useRef<HTMLUListElement>(null);
  const [offset, setOffset] = useState(0);
  useEffect(() => {
    setOffset(element.current?.offsetTop ?? 0);
  }, []);
  const rows = useWindowVirtualizer({
    count: jobs.length,
    estimateSize: () => ROW_PIXELS,
    overscan: 12,
    scrollMargin: offset,
    getItemKey: (index) => jobs[index]?.id ?? index,
  });
  const visible = rows.getVirtualItems();
  const last = visible.at(-1)?.index ?? 0;
  useEffect(() => {
    if (more && last >= jobs.length - 15) void next();
  }, [more, last, jobs.length, next]);
  return (
    <ul className="rows" ref={element} aria-label="Jobs" style={{ height: rows.getTotalSize() }}>
      {visible.map((row) => {
        const job = jobs[row.index];
        return job ? (
          <li
            key={row.key}
            ref={rows.measureElement}
            data-index={row.index}
            style={{ transform: `translateY(${row.start - offset}px)` }}
          >
            <JobRow project={project} job={job} />
          </li>
        ) : null;
      })}
    </ul>
  );
}

function JobRow({ project, job }: { project: string; job: Job }) {
  const now = useNow();
  const started = job.started_at ?? null;
  const end = job.finished_at ? new Date(job.finished_at).getTime() : now;
  return (
    <Link to="/projects/$project/jobs/$job" params={{ project, job: job.id }} className="row job-row">
      <span className="row-state">
        <State value={job.state} />
      </span>
      <span className="row-main">
        <strong className="clip">{job.name ?? job.model}</strong>
        <span className="clip sub">
          {job.reason ? job.reason.message : `${job.spec.base_model} on ${job.dataset}`}
        </span>
      </span>
      <span className="row-progress">
        {job.progress === null || job.progress === undefined || ENDED.has(job.state) ? null : (
          <>
            <Bar value={job.progress} label={`Progress of ${job.name ?? job.id}`} />
            <span className="sub">{Math.round(job.progress * 100)} %</span>
            {job.state === "running" ? <Sparkline project={project} job={job.id} /> : null}
          </>
        )}
        {ENDED.has(job.state) && job.model_version ? (
          <span className="sub clip">
            {job.model}@{job.model_version}
          </span>
        ) : null}
      </span>
      <span className="row-who sub">
        <span className="clip">{job.created_by}</span>
        <span>
          <Ago time={job.created_at} />
          {started ? `, ran ${duration((end - new Date(started).getTime()) / 1000)}` : ""}
        </span>
      </span>
    </Link>
  );
}
