import { Button, Group, NumberInput, Select } from "@mantine/core";
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { capitalized, count, duration } from "../format";
import { Grid } from "../grid";
import { More } from "../items";
import { usageRoute } from "../router";
import { useMay } from "../session";
import { Ago, Bar, Empty, Facts, Failure, PageHead, Section, Show, State } from "../widgets";
import { ifMatch } from "./serve";

type Budget = Schemas["BudgetOut"];
const MONTHS = 12;

/** The newest months, in UTC as the server counts them. */
function months(): string[] {
  const now = new Date();
  return Array.from({ length: MONTHS }, (_, back) =>
    new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1)).toISOString().slice(0, 7),
  );
}

function cost(value: number): string {
  return value.toLocaleString(undefined, { maximumFractionDigits: 2 });
}

export function UsagePage() {
  const { project } = usageRoute.useParams();
  const [month, setMonth] = useState(() => months()[0] ?? "");
  return (
    <>
      <PageHead title="Usage" lead="GPU time, cost, requests and tokens of the project; a budget limits a month.">
        <Select
          aria-label="Month"
          data={months()}
          value={month}
          allowDeselect={false}
          w={140}
          onChange={(value) => {
            setMonth(value ?? month);
          }}
        />
      </PageHead>
      <BudgetPanel project={project} />
      <Months project={project} month={month} />
      <Jobs project={project} />
    </>
  );
}

function BudgetPanel({ project }: { project: string }) {
  const budget = useQuery({
    queryKey: ["budget", project],
    queryFn: ({ signal }) =>
      unwrap(client.GET("/v1/projects/{project}/budget", { params: { path: { project } }, signal })),
  });
  const mayWrite = useMay(project, "budgets:write");
  return (
    <Section title="Budget of each month">
      <Show query={budget}>
        {(data) => (
          <>
            <BudgetState budget={data} />
            {mayWrite ? <BudgetForm key={data.version} project={project} budget={data} /> : null}
          </>
        )}
      </Show>
    </Section>
  );
}

function BudgetState({ budget }: { budget: Budget }) {
  return (
    <>
      <p>
        <State value={budget.state} />
      </p>
      {budget.used_ratio === null ? null : (
        <div className="progress">
          <Bar value={budget.used_ratio} label="Used part of the budget" />
          <span>{Math.round(budget.used_ratio * 100)} %</span>
        </div>
      )}
      <Facts
        items={[
          ["GPU-hours", `${budget.used_gpu_hours.toFixed(2)} of ${budget.gpu_hours === null ? "any number" : count(budget.gpu_hours)}`],
          ["Cost", `${cost(budget.used_cost)} of ${budget.cost === null ? "any" : cost(budget.cost)}`],
          ["Begins again", <Ago key="resets" time={budget.resets_at} />],
        ]}
      />
    </>
  );
}

function BudgetForm({ project, budget }: { project: string; budget: Budget }) {
  const queries = useQueryClient();
  const [wanted, setWanted] = useState<Schemas["BudgetIn"]>({ gpu_hours: budget.gpu_hours, cost: budget.cost });
  const saving = useMutation({
    mutationFn: () => {
      const params = { path: { project }, header: ifMatch(budget.version) };
      return unwrap(client.PUT("/v1/projects/{project}/budget", { params, body: wanted }));
    },
    onSettled: () => queries.invalidateQueries({ queryKey: ["budget", project] }),
  });
  const limit = (name: "gpu_hours" | "cost", label: string) => (
    <NumberInput
      label={label}
      placeholder="No limit"
      min={0}
      value={wanted[name] ?? ""}
      onChange={(value) => {
        setWanted({ ...wanted, [name]: value === "" ? null : Number(value) });
      }}
    />
  );
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        saving.mutate();
      }}
    >
      <div className="filters">
        {limit("gpu_hours", "GPU-hours of a month")}
        {limit("cost", "Cost of a month")}
        <Button type="submit" variant="default" loading={saving.isPending}>
          Save the budget
        </Button>
      </div>
      {saving.error ? <Failure error={saving.error} /> : null}
    </form>
  );
}

function Months({ project, month }: { project: string; month: string }) {
  const path = { project, month };
  const groups = useQuery({
    queryKey: ["month", project, month],
    queryFn: ({ signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/usage/months/{month}", { params: { path, query: { limit: 200 } }, signal }),
      ),
  });
  return (
    <Section
      title={`Month ${month}`}
      extra={<a href={`/v1/projects/${project}/usage/months/${month}/export?format=csv`}>Save as CSV</a>}
    >
      <Show query={groups}>
        {({ items }) =>
          items.length === 0 ? (
            <p>Nothing was used.</p>
          ) : (
            <Grid
              label="Usage of the month"
              rows={items}
              rowKey={(each) => [each.pool, each.kind, each.key, each.model, each.endpoint].join("/")}
              columns={[
                { title: "Pool", cell: (each) => each.pool },
                { title: "For", cell: (each) => capitalized(each.kind) },
                { title: "Key or user", cell: (each) => each.key_label || each.key },
                { title: "Model", cell: (each) => each.model },
                { title: "Endpoint", cell: (each) => each.endpoint },
                { title: "GPU time", cell: (each) => duration(each.gpu_seconds), right: true },
                { title: "Cost", cell: (each) => cost(each.cost), right: true },
                { title: "Requests", cell: (each) => count(each.requests.total), right: true },
                { title: "Tokens", cell: (each) => count(each.requests.prompt_tokens + each.requests.completion_tokens), right: true },
              ]}
            />
          )
        }
      </Show>
    </Section>
  );
}

function Jobs({ project }: { project: string }) {
  const usage = useInfiniteQuery({
    queryKey: ["usage", project],
    queryFn: ({ pageParam, signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/usage", {
          params: { path: { project }, query: pageParam === null ? {} : { cursor: pageParam } },
          signal,
        }),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? null,
  });
  return (
    <Section title="Jobs">
      <Show query={usage}>
        {({ pages }) => {
          const items = pages.flatMap((page) => page.items);
          return items.length === 0 ? (
            <Empty title="No job has used a GPU yet" />
          ) : (
            <>
              <Grid
                label="Usage of jobs"
                rows={items}
                rowKey={(each) => each.job}
                columns={[
                  { title: "Job", cell: (each) => each.job },
                  { title: "Pool", cell: (each) => each.pool },
                  { title: "Outcome", cell: (each) => <State value={each.outcome} /> },
                  { title: "GPU time", cell: (each) => duration(each.gpu_seconds), right: true },
                  { title: "Productive", cell: (each) => duration(each.split.productive), right: true },
                  { title: "Cost", cell: (each) => cost(each.cost), right: true },
                ]}
              />
              <Group>
                <More query={usage} />
              </Group>
            </>
          );
        }}
      </Show>
    </Section>
  );
}
