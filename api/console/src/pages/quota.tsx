import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { client, unwrap, type Schemas } from "../api";
import { duration } from "../format";
import { whoamiQuery } from "../session";
import { projectsQuery } from "../shell";
import { Empty, Facts, PageHead, Section, Show } from "../widgets";
import { QuotaChangeButton } from "./quotaChange";

type Quota = Schemas["QuotaOut"];

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
              {job.job.includes("/") ? (
                <span>{job.job}</span>
              ) : (
                <Link to="/projects/$project/jobs/$job" params={{ project: quota.project, job: job.job }}>
                  {job.job}
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
