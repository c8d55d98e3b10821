import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { duration } from "../format";
import { useMay, whoamiQuery } from "../session";
import { projectsQuery } from "../shell";
import { Empty, Facts, PageHead, Section, Show } from "../widgets";
import { QuotaChangeButton } from "./quotaChange";

type Quota = Schemas["QuotaOut"];
/** Of 200 queued jobs each; jobs beyond them are shown by their ids. */
const NAME_PAGES = 5;

/** The quotas that the user may read: all of them, or those of the own projects. */
async function readQuotas(all: boolean, projects: string[], signal: AbortSignal): Promise<Quota[]> {
  if (all) {
    return (await unwrap(client.GET("/v1/quotas", { params: { query: { limit: 200 } }, signal }))).items;
  }
  const pages = projects.map((project) =>
    unwrap(
      client.GET("/v1/projects/{project}/quotas", { params: { path: { project }, query: { limit: 200 } }, signal }),
    ),
  );
  return (await Promise.all(pages)).flatMap((page) => page.items);
}

/** The names of waiting jobs by id, as far as the user may read the jobs. Names do not change: only new jobs are looked up. */
function useNames(quota: Quota): Map<string, string | null> {
  const { project } = quota;
  const [names] = useState(() => new Map<string, string | null>());
  const ids = quota.waiting.map((each) => each.job).filter((id) => !isWorkload(id));
  useQuery({
    queryKey: ["names of waiting jobs", project, quota.pool, ids],
    queryFn: async ({ signal }) => {
      const missing = new Set(ids.filter((id) => !names.has(id)));
      let cursor: string | null = null;
      for (let page = 0; page < NAME_PAGES && missing.size > 0; page++) {
        const query: { state: "queued"; limit: number; cursor?: string } = { state: "queued", limit: 200 };
        if (cursor !== null) query.cursor = cursor;
        const jobs: Schemas["Page_JobOut_"] = await unwrap(
          client.GET("/v1/projects/{project}/jobs", { params: { path: { project }, query }, signal }),
        );
        for (const job of jobs.items) {
          if (missing.delete(job.id)) names.set(job.id, job.name ?? null);
        }
        cursor = jobs.next_cursor ?? null;
        if (cursor === null) break;
      }
      return names.size;
    },
    enabled: useMay(project, "jobs:read") && ids.length > 0,
    gcTime: 0,
  });
  return names;
}

/** Whether a waiting job was not created by Windlass: namespace and name instead of an id. */
function isWorkload(id: string): boolean {
  return id.includes("/");
}

export function QuotaPage() {
  const whoami = useQuery(whoamiQuery).data;
  const projects = useQuery(projectsQuery).data?.items.map((each) => each.name);
  const all = (whoami?.permissions ?? []).includes("quotas:read-all");
  const quotas = useQuery({
    queryKey: ["quotas", all, projects],
    queryFn: ({ signal }) => readQuotas(all, projects ?? [], signal),
    enabled: projects !== undefined,
    refetchInterval: 3000,
  });
  return (
    <>
      <PageHead title="Quota" lead="Who uses, borrows and waits for the GPUs or CPU slots of each pool." />
      <Show query={quotas}>
        {(items) => {
          const pools = [...new Set(items.map((each) => each.pool))].sort();
          return pools.length === 0 ? (
            <Empty title="No quotas">
              <p>An admin gives a project GPUs of a pool: windlass quota set.</p>
            </Empty>
          ) : (
            pools.map((pool) => <PoolPanel key={pool} pool={pool} quotas={items.filter((each) => each.pool === pool)} />)
          );
        }}
      </Show>
    </>
  );
}

function sum(values: Record<string, number>): number {
  return Object.values(values).reduce((a, b) => a + b, 0);
}

function PoolPanel({ pool, quotas }: { pool: string; quotas: Quota[] }) {
  const widest = Math.max(1, ...quotas.map((quota) => Math.max(quota.nominal, quota.used + sum(quota.lent_to))));
  return (
    <Section title={`Pool ${pool}`}>
      <p className="legend" aria-hidden>
        <span className="own">Used</span>
        <span className="borrowed">Borrowed</span>
        <span className="lent">Lent</span>
        <span className="free">Idle</span>
      </p>
      {quotas.map((quota) => (
        <QuotaView key={quota.project} quota={quota} widest={widest} />
      ))}
    </Section>
  );
}

function QuotaView({ quota, widest }: { quota: Quota; widest: number }) {
  const jobNames = useNames(quota);
  const borrowed = sum(quota.borrowed_from);
  const lent = sum(quota.lent_to);
  const own = Math.max(0, quota.used - borrowed);
  const idle = Math.max(0, quota.nominal - own - lent);
  const parts: [string, number][] = [
    ["own", own],
    ["lent", lent],
    ["free", idle],
    ["borrowed", borrowed],
  ];
  const names = (values: Record<string, number>) =>
    Object.entries(values)
      .map(([project, gpus]) => `${gpus} ${project}`)
      .join(", ");
  return (
    <article className="quota" aria-label={`Quota of ${quota.project}`}>
      <div className="panel-head">
        <h3>{quota.project}</h3>
        <QuotaChangeButton quota={quota} />
      </div>
      <p>
        {quota.used} of {quota.nominal} in use
        {borrowed > 0 ? `, ${borrowed} borrowed (${names(quota.borrowed_from)})` : ""}
        {lent > 0 ? `, ${lent} lent (${names(quota.lent_to)}), ${quota.reclaimable} reclaimable` : ""}
      </p>
      <div className="stack" aria-hidden>
        {parts.map(([kind, gpus]) =>
          gpus > 0 ? <div key={kind} className={kind} style={{ width: `${(gpus / widest) * 100}%` }} /> : null,
        )}
      </div>
      <Facts
        items={[
          ["Free for a new job", String(quota.free)],
          ["Waiting jobs", String(quota.pending)],
          [
            "Median wait",
            quota.queue_time_p50_seconds === null ? "no job has started" : duration(quota.queue_time_p50_seconds),
          ],
        ]}
      />
      {quota.waiting.length > 0 ? (
        <ol className="waiting" aria-label={`Waiting jobs of ${quota.project}`}>
          {quota.waiting.map((job) => (
            <li key={job.job}>
              {isWorkload(job.job) ? (
                <span>{job.job}</span>
              ) : (
                <Link to="/projects/$project/jobs/$job" params={{ project: quota.project, job: job.job }}>
                  {jobNames.get(job.job) ? <strong className="breakable">{jobNames.get(job.job)}</strong> : null} {job.job}
                </Link>
              )}
              <span className="sub">{job.reason ? job.reason.message : `needs ${job.gpus}`}</span>
            </li>
          ))}
        </ol>
      ) : null}
    </article>
  );
}
