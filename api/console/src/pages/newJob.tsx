import { Button, NumberInput, SegmentedControl, Select, Textarea, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { capitalized, metric, words } from "../format";
import { firstDraft, METHODS, specOf, TRAINING, type Choices, type Draft, type Spec } from "../jobDraft";
import { newKey } from "../random";
import { newJobRoute } from "../router";
import { useMay } from "../session";
import { Empty, Failure, PageHead, Section, Show } from "../widgets";

export function NewJobPage() {
  const { project } = newJobRoute.useParams();
  const { from, dataset } = newJobRoute.useSearch();
  const path = { project, job: from ?? "" };
  const origin = useQuery({
    queryKey: ["job", project, from],
    queryFn: ({ signal }) => unwrap(client.GET("/v1/projects/{project}/jobs/{job}", { params: { path }, signal })),
    enabled: from !== undefined,
  });
  const choices = useChoices(project);
  if (!useMay(project, "jobs:write")) return <Empty title="You may not start jobs in this project" />;
  return (
    <>
      <PageHead
        title={from === undefined ? "New job" : "Run again with changes"}
        lead="What is left open is chosen by the server, by the number of rows, the task and the method."
      />
      <Show query={choices}>
        {(data) =>
          from === undefined ? (
            <JobForm project={project} choices={data} spec={null} dataset={dataset ?? null} />
          ) : (
            <Show query={origin}>
              {(job) => <JobForm project={project} choices={data} spec={job.spec} dataset={job.dataset} />}
            </Show>
          )
        }
      </Show>
    </>
  );
}

/** What a job of the project may use. */
function useChoices(project: string) {
  return useQuery({
    queryKey: ["choices", project],
    queryFn: async ({ signal }): Promise<Choices> => {
      const params = { path: { project }, query: { limit: 200 } };
      const [datasets, models, quotas] = await Promise.all([
        unwrap(client.GET("/v1/projects/{project}/datasets", { params, signal })),
        unwrap(client.GET("/v1/base-models", { params: { query: { limit: 200 } }, signal })),
        unwrap(client.GET("/v1/projects/{project}/quotas", { params, signal })),
      ]);
      return {
        datasets: datasets.items.filter((each) => each.latest !== null),
        models: models.items.filter((each) => each.state === "ready"),
        pools: quotas.items.map((each) => each.pool),
      };
    },
    staleTime: 0,
  });
}

interface FormProps {
  project: string;
  choices: Choices;
  spec: Spec | null;
  dataset: string | null;
}

function JobForm({ project, choices, spec: origin, dataset }: FormProps) {
  const navigate = newJobRoute.useNavigate();
  const [draft, setDraft] = useState(() => firstDraft(choices, origin, dataset));
  const [key, setKey] = useState(newKey);
  const change = (changed: Partial<Draft>) => {
    setDraft({ ...draft, ...changed });
    setKey(newKey());
  };
  const complete = [draft.dataset, draft.base_model, draft.model].every((each) => each !== "");
  const spec = specOf(draft, origin);
  const simulation = useSimulation(project, spec, complete);
  const submitting = useMutation({
    // The same key: a click after a lost answer starts no second job.
    mutationFn: () => {
      const params = { path: { project }, header: { "Idempotency-Key": key } };
      return unwrap(client.POST("/v1/projects/{project}/jobs", { params, body: { spec } }));
    },
    onSuccess: (job) => navigate({ to: "/projects/$project/jobs/$job", params: { project, job: job.id } }),
  });
  if (choices.datasets.length === 0) {
    return (
      <Empty title="The project has no data yet">
        <p>Upload a file first.</p>
      </Empty>
    );
  }
  if (choices.models.length === 0) {
    return (
      <Empty title="The server has no base model yet">
        <p>A platform admin adds one: windlass base-model add.</p>
      </Empty>
    );
  }
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        submitting.mutate();
      }}
    >
      <WhatFields draft={draft} change={change} choices={choices} />
      <HowFields draft={draft} change={change} choices={choices} simulated={simulation.data} />
      <Prediction simulation={simulation} complete={complete} />
      {submitting.error ? <Failure error={submitting.error} /> : null}
      <Button type="submit" mt="md" disabled={!complete} loading={submitting.isPending}>
        Start the job
      </Button>
    </form>
  );
}

/** What the server would do with the job now. */
function useSimulation(project: string, spec: Spec, complete: boolean) {
  const [settled] = useDebouncedValue(JSON.stringify(spec), 400);
  return useQuery({
    queryKey: ["simulation", project, settled],
    queryFn: ({ signal }) => {
      const body = { spec: JSON.parse(settled) as Spec };
      return unwrap(client.POST("/v1/projects/{project}/jobs:simulate", { params: { path: { project } }, body, signal }));
    },
    enabled: complete,
    retry: false,
    placeholderData: keepPreviousData,
    gcTime: 0,
  });
}

interface FieldsProps {
  draft: Draft;
  change: (changed: Partial<Draft>) => void;
  choices: Choices;
}

/** The data, the base model and the result. */
function WhatFields({ draft, change, choices }: FieldsProps) {
  const datasets = [...new Set([draft.dataset, ...choices.datasets.map((each) => `${each.name}@${each.latest ?? 1}`)])];
  const models = choices.models.filter((each) => each.tasks.includes(draft.task)).map((each) => each.name);
  return (
    <Section title="What">
      <div className="filters">
        <Select
          label="Dataset"
          description="A version; the newest ones are listed"
          data={datasets.filter((each) => each !== "")}
          value={draft.dataset}
          allowDeselect={false}
          searchable
          onChange={(value) => {
            const task = choices.datasets.find((each) => each.name === value?.split("@")[0])?.task ?? draft.task;
            const fits = choices.models.some((each) => each.name === draft.base_model && each.tasks.includes(task));
            const base_model = fits ? draft.base_model : (choices.models.find((each) => each.tasks.includes(task))?.name ?? "");
            change({ dataset: value ?? "", task, base_model });
          }}
        />
        <Select
          label="Base model"
          description={`What is tuned for ${words(draft.task)}`}
          data={models}
          value={draft.base_model === "" ? null : draft.base_model}
          placeholder="None fits the task"
          allowDeselect={false}
          searchable
          onChange={(value) => {
            change({ base_model: value ?? "" });
          }}
        />
        <TextInput
          label="Model"
          description="The result becomes its next version"
          value={draft.model}
          required
          onChange={(event) => {
            change({ model: event.currentTarget.value });
          }}
        />
        <TextInput
          label="Name of the job"
          description="For people; may be empty"
          value={draft.name}
          onChange={(event) => {
            change({ name: event.currentTarget.value });
          }}
        />
      </div>
    </Section>
  );
}

function HowFields({ draft, change, choices, simulated }: FieldsProps & { simulated: Schemas["SimulationOut"] | undefined }) {
  const methods = METHODS.filter((each) => each.value !== "head-only" || draft.task === "text-classification");
  const planned = (simulated?.training ?? {}) as Record<string, unknown>;
  const number = (name: "workers" | "gpus" | "priority", label: string, description: string) => (
    <NumberInput
      label={label}
      description={description}
      value={draft[name]}
      allowDecimal={false}
      min={name === "priority" ? -1000 : 1}
      onChange={(value) => {
        change({ [name]: Number(value) });
      }}
    />
  );
  return (
    <Section title="How">
      <div className="filters">
        <div>
          <span id="method" className="field-label">
            Method
          </span>
          <SegmentedControl
            aria-labelledby="method"
            data={methods}
            value={draft.method}
            onChange={(value) => {
              change({ method: value as Draft["method"] });
            }}
          />
        </div>
        {draft.method === "lora" ? (
          <NumberInput
            label="Rank"
            placeholder="16"
            value={draft.rank ?? ""}
            min={1}
            max={512}
            onChange={(value) => {
              change({ rank: value === "" ? null : Number(value) });
            }}
          />
        ) : null}
        <Select
          label="Pool"
          description="Where it runs"
          data={[...new Set([draft.pool, ...choices.pools])]}
          value={draft.pool}
          allowDeselect={false}
          onChange={(value) => {
            change({ pool: value ?? "" });
          }}
        />
        {number("workers", "Workers", "Processes or pods")}
        {number("gpus", "GPUs of a worker", "CPU slots in a pool without GPUs")}
        {number("priority", "Priority", "Higher starts first")}
      </div>
      <details open>
        <summary>Hyperparameters</summary>
        <div className="filters">
          {TRAINING.map(([name, description]) => (
            <NumberInput
              key={name}
              label={capitalized(words(name))}
              description={description}
              placeholder={typeof planned[name] === "number" ? metric(planned[name]) : "chosen by the server"}
              value={draft.training[name] ?? ""}
              onChange={(value) => {
                change({ training: { ...draft.training, [name]: value === "" ? null : Number(value) } });
              }}
            />
          ))}
        </div>
      </details>
      <details open={draft.gates !== "" || draft.endpoint !== ""}>
        <summary>Conditions and serving</summary>
        <div className="filters">
          <Textarea
            label="Gates"
            description="One in each line: weighted_f1 >= 0.6, or beats_baseline. A result that fails one cannot be served."
            autosize
            value={draft.gates}
            onChange={(event) => {
              change({ gates: event.currentTarget.value });
            }}
          />
          <TextInput
            label="Endpoint"
            description="Serves the result when the job succeeds; may be empty"
            value={draft.endpoint}
            onChange={(event) => {
              change({ endpoint: event.currentTarget.value });
            }}
          />
        </div>
      </details>
    </Section>
  );
}

const VERDICTS = { starts: "Would start now", waits: "Would wait", never: "Would never start" };

/** The answer of the simulation: whether the job starts, and what the server chooses. */
function Prediction({ simulation, complete }: { simulation: ReturnType<typeof useSimulation>; complete: boolean }) {
  if (!complete) return null;
  if (simulation.error) return <Failure error={simulation.error} />;
  const { data } = simulation;
  if (!data) return null;
  return (
    <Section title="What the server would do">
      <p role="status">
        <strong>{VERDICTS[data.verdict]}</strong>
        {data.reason ? `: ${data.reason.message}` : ""}
      </p>
      {data.smallest_change ? <p>To start it now: {data.smallest_change}</p> : null}
      {data.would_preempt.length > 0 ? <p>It would stop for a while: {data.would_preempt.join(", ")}</p> : null}
      <ul className="plain">
        {data.defaults.map((each) => (
          <li key={each.field}>
            {words(each.field)} {metric(each.value)}: {each.reason}
          </li>
        ))}
        {data.warnings.map((warning) => (
          <li key={warning.code + warning.message}>{warning.message}</li>
        ))}
      </ul>
    </Section>
  );
}
