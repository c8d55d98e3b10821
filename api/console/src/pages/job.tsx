import { Button, Group, Modal, Tabs } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { lazy, Suspense } from "react";
import { client, unwrap, unwrapAs, type Schemas } from "../api";
import { duration, metric, words } from "../format";
import { LogView } from "../logView";
import { jobRoute } from "../router";
import { newKey } from "../random";
import { ReportFrame } from "../report";
import { useMay } from "../session";
import { timeline } from "../timeline";
import { Ago, Bar, Facts, Failure, Loading, PageHead, Section, Show, State, useNow } from "../widgets";

type Job = Schemas["JobDetailOut"];

const Curves = lazy(async () => ({ default: (await import("./jobCurves")).Curves }));
const LIVE_MILLISECONDS = 1500;
const ENDED = new Set<string>(["succeeded", "failed", "cancelled"]);

export function JobPage() {
  const { project, job: id } = jobRoute.useParams();
  const path = { project, job: id };
  const job = useQuery({
    queryKey: ["job", project, id],
    queryFn: ({ signal }) => unwrap(client.GET("/v1/projects/{project}/jobs/{job}", { params: { path }, signal })),
    refetchInterval: (query) => (query.state.data && ENDED.has(query.state.data.state) ? false : LIVE_MILLISECONDS),
  });
  return <Show query={job}>{(data) => <JobView key={data.id} project={project} job={data} />}</Show>;
}

function JobView({ project, job }: { project: string; job: Job }) {
  const live = !ENDED.has(job.state);
  const scores = Object.entries(job.evaluation ?? {}).filter((pair): pair is [string, number] => typeof pair[1] === "number");
  return (
    <>
      <PageHead
        title={job.name ?? job.model}
        lead={
          <>
            <State value={job.state} /> <span className="sub">{job.id}</span>
          </>
        }
      >
        <Actions project={project} job={job} live={live} />
      </PageHead>
      {job.reason ? (
        <div className="reason">
          <strong>{job.reason.message}</strong>
          {job.reason.action ? <span>What to do: {job.reason.action}</span> : null}
        </div>
      ) : null}
      {live && job.progress !== null && job.progress !== undefined ? (
        <div className="progress">
          <Bar value={job.progress} label="Progress" />
          <span>{Math.round(job.progress * 100)} %</span>
        </div>
      ) : null}
      <Facts
        items={[
          ["Base model", job.spec.base_model],
          [
            "Dataset",
            <Link
              key="dataset"
              to="/projects/$project/datasets/$dataset"
              params={{ project, dataset: job.dataset.split("@")[0] ?? "" }}
            >
              {job.dataset}
            </Link>,
          ],
          [
            "Result",
            job.model_version ? (
              <Link key="model" to="/projects/$project/models/$model" params={{ project, model: job.model }}>
                {job.model}@{job.model_version}
              </Link>
            ) : (
              `${job.model}, not registered yet`
            ),
          ],
          ["Submitted", <Ago key="submitted" time={job.created_at} />],
          ["By", job.created_by],
        ]}
      />
      <Timeline project={project} job={job} live={live} />
      {scores.length > 0 ? (
        <Section title="Scores on the held-out rows" extra={job.decision ? <State value={job.decision} /> : null}>
          <div className="scores">
            {scores.map(([name, value]) => (
              <div key={name}>
                <span>{words(name)}</span>
                <strong>{metric(value)}</strong>
              </div>
            ))}
          </div>
        </Section>
      ) : null}
      {job.warnings.length > 0 ? (
        <Section title="Warnings">
          <ul className="plain">
            {job.warnings.map((warning) => (
              <li key={warning.code + warning.message}>{warning.message}</li>
            ))}
          </ul>
        </Section>
      ) : null}
      <Tabs defaultValue="curves" keepMounted={false} className="panel">
        <Tabs.List>
          <Tabs.Tab value="curves">Curves</Tabs.Tab>
          <Tabs.Tab value="log">Log</Tabs.Tab>
          <Tabs.Tab value="events">Events</Tabs.Tab>
          <Tabs.Tab value="spec">Spec</Tabs.Tab>
          {job.model_version ? <Tabs.Tab value="report">Report</Tabs.Tab> : null}
        </Tabs.List>
        <Tabs.Panel value="curves">
          <Suspense fallback={<Loading />}>
            <Curves project={project} job={job.id} live={live} />
          </Suspense>
        </Tabs.Panel>
        <Tabs.Panel value="log">
          <LogView project={project} job={job.id} />
        </Tabs.Panel>
        <Tabs.Panel value="events">
          <Events project={project} job={job.id} live={live} />
        </Tabs.Panel>
        <Tabs.Panel value="report">
          {job.model_version ? <ReportFrame project={project} model={job.model} number={job.model_version} /> : null}
        </Tabs.Panel>
        <Tabs.Panel value="spec">
          <pre className="code" tabIndex={0}>
            {JSON.stringify(job.spec, null, 2)}
          </pre>
        </Tabs.Panel>
      </Tabs>
    </>
  );
}

/** Cancel a live job, repeat an ended one. */
function Actions({ project, job, live }: { project: string; job: Job; live: boolean }) {
  const queries = useQueryClient();
  const navigate = jobRoute.useNavigate();
  const mayWrite = useMay(project, "jobs:write");
  const [asking, { open, close }] = useDisclosure(false);
  const path = { project, job: job.id };
  const cancelling = useMutation({
    mutationFn: () => unwrap(client.POST("/v1/projects/{project}/jobs/{job}:cancel", { params: { path } })),
    onSuccess: async () => {
      close();
      await queries.invalidateQueries({ queryKey: ["job", project, job.id] });
    },
  });
  const retrying = useMutation({
    mutationFn: () => {
      const header = { "Idempotency-Key": newKey() };
      return unwrap(client.POST("/v1/projects/{project}/jobs/{job}:retry", { params: { path, header } }));
    },
    onSuccess: async (created) => {
      notifications.show({ message: "The job was submitted again." });
      await navigate({ to: "/projects/$project/jobs/$job", params: { project, job: created.id } });
    },
  });
  const comparing = (
    <Button
      variant="default"
      renderRoot={(props) => (
        <Link to="/projects/$project/compare" params={{ project }} search={{ jobs: job.id }} {...props} />
      )}
    >
      Compare
    </Button>
  );
  if (!mayWrite) return comparing;
  return (
    <>
      {comparing}
      {retrying.error ? <Failure error={retrying.error} /> : null}
      {live ? (
        <Button variant="default" onClick={open} disabled={job.state === "cancelling"}>
          Cancel the job
        </Button>
      ) : (
        <Button variant="default" loading={retrying.isPending} onClick={() => { retrying.mutate(); }}>
          Run again
        </Button>
      )}
      <Button
        variant="default"
        renderRoot={(props) => (
          <Link to="/projects/$project/new-job" params={{ project }} search={{ from: job.id }} {...props} />
        )}
      >
        Run with changes
      </Button>
      <Modal
        opened={asking}
        onClose={close}
        title="Cancel this job?"
        closeButtonProps={{ "aria-label": "Close" }}
        attributes={{ header: { role: "presentation" } }}
      >
        <p>It stops and gives its GPUs back. Its events, log and checkpoints stay.</p>
        {cancelling.error ? <Failure error={cancelling.error} /> : null}
        <Group justify="flex-end" mt="md">
          <Button variant="default" onClick={close}>
            Keep it
          </Button>
          <Button color="red" loading={cancelling.isPending} onClick={() => { cancelling.mutate(); }}>
            Cancel the job
          </Button>
        </Group>
      </Modal>
    </>
  );
}

/** All events of a job, oldest first. */
function useEvents(project: string, job: string, live: boolean) {
  return useQuery({
    queryKey: ["events", project, job],
    queryFn: async ({ signal }) => {
      const events: Schemas["EventOut"][] = [];
      let cursor: string | null = null;
      do {
        const query: { limit: number; cursor?: string } = { limit: 200, ...(cursor === null ? {} : { cursor }) };
        const page: Schemas["Page_EventOut_"] = await unwrapAs(
          client.GET("/v1/projects/{project}/jobs/{job}/events", { params: { path: { project, job }, query }, signal }),
        );
        events.push(...page.items);
        cursor = page.next_cursor ?? null;
      } while (cursor !== null && events.length < 2000);
      return events;
    },
    refetchInterval: live ? LIVE_MILLISECONDS * 2 : false,
  });
}

function Timeline({ project, job, live }: { project: string; job: Job; live: boolean }) {
  const events = useEvents(project, job.id, live);
  const now = useNow();
  const stages = timeline(job, events.data ?? [], now);
  return (
    <Section title="Timeline">
      <ol className="timeline">
        {stages.map((stage) => (
          <li key={stage.name} className={stage.active ? "active" : stage.seconds === null ? "ahead" : ""}>
            <span>{stage.name}</span>
            <strong>{stage.seconds === null ? "–" : duration(stage.seconds)}</strong>
          </li>
        ))}
      </ol>
    </Section>
  );
}

function Events({ project, job, live }: { project: string; job: string; live: boolean }) {
  const events = useEvents(project, job, live);
  return (
    <Show query={events}>
      {(items) => (
        <ol className="events">
          {items.map((event) => (
            <li key={event.sequence}>
              <span className="sub">
                <Ago time={event.time} />
              </span>
              <span className="breakable">{event.message}</span>
            </li>
          ))}
        </ol>
      )}
    </Show>
  );
}
