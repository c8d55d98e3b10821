import { Button, Tabs, Textarea } from "@mantine/core";
import { useInfiniteQuery, useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { words } from "../format";
import { Items } from "../items";
import { endpointRoute, endpointsRoute } from "../router";
import { useMay } from "../session";
import { PredictSnippets } from "../snippets";
import { Ago, Bar, Command, Empty, Facts, Failure, PageHead, Section, Show, State } from "../widgets";
import { ChatPlayground } from "./chat";
import { EndpointTraffic } from "./endpointTraffic";
import { TablePlayground } from "./predictTable";
import { Requests } from "./requests";
import { Rollout } from "./rollout";

type Endpoint = Schemas["EndpointOut"];
const LIVE_MILLISECONDS = 3000;
const MOST_TEXTS = 256;

function served(endpoint: Endpoint): string {
  return endpoint.live.map((each) => `${each.model}@${each.number} ${each.weight} %`).join(", ") || "nothing is served";
}

export function EndpointsPage() {
  const { project } = endpointsRoute.useParams();
  const endpoints = useInfiniteQuery({
    queryKey: ["endpoints", project],
    queryFn: ({ pageParam, signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/endpoints", {
          params: { path: { project }, query: pageParam === null ? {} : { cursor: pageParam } },
          signal,
        }),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? null,
    refetchInterval: LIVE_MILLISECONDS,
  });
  return (
    <>
      <PageHead title="Endpoints" lead="Addresses that answer with a model version." />
      <Items
        query={endpoints}
        label="Endpoints"
        empty={
          <Empty title="No endpoints yet">
            <p>Serve a model version and try it here:</p>
            <Command text="windlass endpoint create tickets ticket-router@1" />
          </Empty>
        }
      >
        {(endpoint) => (
          <Link to="/projects/$project/endpoints/$endpoint" params={{ project, endpoint: endpoint.name }} className="row">
            <span className="row-state">
              <State value={endpoint.state} />
            </span>
            <span className="row-main">
              <strong className="clip">{endpoint.name}</strong>
              <span className="clip sub">{endpoint.reason ? endpoint.reason.message : served(endpoint)}</span>
            </span>
            <span className="row-end sub">
              <span>
                {endpoint.ready_replicas} of {endpoint.desired_replicas} replicas
              </span>
              <Ago time={endpoint.changed_at} />
            </span>
          </Link>
        )}
      </Items>
    </>
  );
}

export function EndpointPage() {
  const { project, endpoint: name } = endpointRoute.useParams();
  const endpoint = useQuery({
    queryKey: ["endpoint", project, name],
    queryFn: ({ signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/endpoints/{endpoint}", {
          params: { path: { project, endpoint: name } },
          signal,
        }),
      ),
    refetchInterval: LIVE_MILLISECONDS,
  });
  const mayPredict = useMay(project, "endpoints:predict");
  return (
    <Show query={endpoint}>
      {(data) => (
        <>
          <PageHead
            title={data.name}
            lead={
              <>
                <State value={data.state} /> <span className="sub">{words(data.task)}</span>
              </>
            }
          />
          {data.reason ? (
            <div className="reason">
              <strong>{data.reason.message}</strong>
              {data.reason.action ? <span>What to do: {data.reason.action}</span> : null}
            </div>
          ) : null}
          <Facts
            items={[
              ["Serves", served(data)],
              ["Replicas", `${data.ready_replicas} of ${data.desired_replicas}`],
              ["Changed", <Ago key="changed" time={data.changed_at} />],
            ]}
          />
          {mayPredict && data.task === "text-classification" ? <Playground project={project} endpoint={data} /> : null}
          {mayPredict && data.task === "chat" ? <ChatPlayground project={project} endpoint={data} /> : null}
          <EndpointTraffic project={project} endpoint={data.name} />
          <Requests project={project} endpoint={data.name} />
          <Section title="Address">
            <Command text={`${window.location.origin}${data.predict_url}`} />
          </Section>
          <Rollout project={project} endpoint={data} />
        </>
      )}
    </Show>
  );
}

interface PlaygroundProps {
  project: string;
  endpoint: Endpoint;
}

function Playground({ project, endpoint }: PlaygroundProps) {
  return (
    <Section title="Try it">
      <Tabs defaultValue="texts">
        <Tabs.List>
          <Tabs.Tab value="texts">Texts</Tabs.Tab>
          <Tabs.Tab value="table">Table</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="texts" pt="sm">
          <TextPlayground project={project} endpoint={endpoint} />
        </Tabs.Panel>
        <Tabs.Panel value="table" pt="sm">
          <TablePlayground project={project} endpoint={endpoint} batch={MOST_TEXTS} />
        </Tabs.Panel>
      </Tabs>
    </Section>
  );
}

/** Classify texts, one in each line. */
function TextPlayground({ project, endpoint }: PlaygroundProps) {
  const [text, setText] = useState("");
  const path = { project, endpoint: endpoint.name };
  const predicting = useMutation({
    mutationFn: async (inputs: string[]) => {
      const url = "/v1/projects/{project}/endpoints/{endpoint}:predict";
      return { inputs, answer: await unwrap(client.POST(url, { params: { path }, body: { inputs, top_k: 5 } })) };
    },
  });
  const texts = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const result = predicting.data;
  return (
    <>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          predicting.mutate(texts);
        }}
      >
        <Textarea
          label="Texts to classify"
          description={`One in each line, at most ${MOST_TEXTS}. Control and Enter sends them.`}
          autosize
          minRows={3}
          maxRows={12}
          value={text}
          onChange={(event) => {
            setText(event.currentTarget.value);
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && texts.length > 0) predicting.mutate(texts);
          }}
          error={texts.length > MOST_TEXTS ? `These are ${texts.length} texts.` : undefined}
        />
        <Button
          type="submit"
          mt="sm"
          loading={predicting.isPending}
          disabled={texts.length === 0 || texts.length > MOST_TEXTS}
        >
          Classify
        </Button>
      </form>
      {predicting.error ? <Failure error={predicting.error} /> : null}
      {result ? (
        <div aria-live="polite">
          <p className="sub">
            {result.answer.model}@{result.answer.number} answered
          </p>
          <ul className="answers" aria-label="Answers">
            {result.inputs.map((input, index) => (
              <li key={index}>
                <p className="breakable">{input}</p>
                {(result.answer.truncated ?? []).includes(index) ? (
                  <p className="sub">The text was too long; its end was ignored.</p>
                ) : null}
                <div className="labels">
                  {(result.answer.predictions[index] ?? []).map((each) => (
                    <div key={each.label}>
                      <span className="clip">{each.label}</span>
                      <Bar value={each.score} label={`Probability of ${each.label}`} />
                      <span className="number">{(each.score * 100).toFixed(1)} %</span>
                    </div>
                  ))}
                </div>
              </li>
            ))}
          </ul>
          <PredictSnippets
            address={{ project, endpoint: endpoint.name, path: endpoint.predict_url }}
            inputs={result.inputs}
          />
        </div>
      ) : null}
    </>
  );
}
