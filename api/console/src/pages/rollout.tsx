/** Controls of an endpoint: shares of its versions, replicas, stop and start, back to what served before, delete. */

import { Button, Group, Modal, NumberInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { useMay } from "../session";
import { Failure, Section } from "../widgets";
import { ifMatch } from "./serve";

type Endpoint = Schemas["EndpointOut"];
type Spec = Schemas["EndpointSpec"];

function targetName(target: Spec["traffic"][number]): string {
  return `${target.model}@${target.alias ?? target.version ?? ""}`;
}

export function Rollout({ project, endpoint }: { project: string; endpoint: Endpoint }) {
  const queries = useQueryClient();
  const updating = useMutation({
    mutationFn: (spec: Spec) => {
      const params = { path: { project, endpoint: endpoint.name }, header: ifMatch(endpoint.version) };
      return unwrap(client.PATCH("/v1/projects/{project}/endpoints/{endpoint}", { params, body: { spec } }));
    },
    onSettled: () => queries.invalidateQueries({ queryKey: ["endpoint", project, endpoint.name] }),
  });
  if (!useMay(project, "endpoints:write")) return null;
  const live = endpoint.live.map((each) => `${each.model}@${each.number}`);
  const desired = endpoint.spec.traffic.map(targetName);
  // A rollout that failed, or has not ended: what serves is not what is desired.
  const differs = live.length > 0 && endpoint.observed_generation !== endpoint.generation;
  const back = {
    ...endpoint.spec,
    traffic: endpoint.live.map((each) => ({ model: each.model, version: each.number, weight: each.weight })),
  };
  return (
    <Section title="Rollout">
      <p>
        Desired: {desired.join(", ")}
        {endpoint.spec.stopped ? ", stopped" : ""}
      </p>
      <SpecForm key={endpoint.version} endpoint={endpoint} pending={updating.isPending} save={updating.mutate} />
      {updating.error ? <Failure error={updating.error} /> : null}
      <Group gap="xs" mt="md">
        {differs ? (
          <Button variant="default" onClick={() => { updating.mutate(back); }}>
            Back to {live.join(", ")}
          </Button>
        ) : null}
        <Button
          variant="default"
          onClick={() => {
            updating.mutate({ ...endpoint.spec, stopped: !endpoint.spec.stopped });
          }}
        >
          {endpoint.spec.stopped ? "Start it" : "Stop it"}
        </Button>
        <DeleteButton project={project} endpoint={endpoint} />
      </Group>
    </Section>
  );
}

interface SpecFormProps {
  endpoint: Endpoint;
  pending: boolean;
  save: (spec: Spec) => void;
}

function SpecForm({ endpoint, pending, save }: SpecFormProps) {
  const { spec } = endpoint;
  const [weights, setWeights] = useState(spec.traffic.map((each) => each.weight));
  const [replicas, setReplicas] = useState({ min: spec.replicas.min, max: spec.replicas.max });
  const sum = weights.reduce((total, each) => total + each, 0);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        // A version without traffic is not served any more.
        const traffic = spec.traffic.map((each, index) => ({ ...each, weight: weights[index] ?? 0 })).filter((each) => each.weight > 0);
        save({ ...spec, traffic, replicas: { ...spec.replicas, ...replicas } });
      }}
    >
      <div className="filters">
        {spec.traffic.length < 2
          ? null
          : spec.traffic.map((target, index) => (
              <NumberInput
                key={targetName(target)}
                label={`Share of ${targetName(target)}, per cent`}
                description="0 removes it"
                value={weights[index] ?? 0}
                min={0}
                max={100}
                allowDecimal={false}
                error={sum === 100 ? undefined : `The shares add up to ${sum}.`}
                onChange={(value) => {
                  setWeights(weights.map((each, other) => (other === index ? Number(value) : each)));
                }}
              />
            ))}
        <NumberInput
          label="Fewest replicas"
          description="0: none while idle"
          value={replicas.min}
          min={0}
          allowDecimal={false}
          onChange={(value) => {
            setReplicas({ ...replicas, min: Number(value) });
          }}
        />
        <NumberInput
          label="Most replicas"
          description="By the load"
          value={replicas.max}
          min={1}
          allowDecimal={false}
          onChange={(value) => {
            setReplicas({ ...replicas, max: Number(value) });
          }}
        />
        <Button type="submit" variant="default" loading={pending} disabled={sum !== 100 || replicas.min > replicas.max}>
          Save
        </Button>
      </div>
    </form>
  );
}

function DeleteButton({ project, endpoint }: { project: string; endpoint: Endpoint }) {
  const navigate = useNavigate();
  const [asking, { open, close }] = useDisclosure(false);
  const deleting = useMutation({
    mutationFn: () => {
      const params = { path: { project, endpoint: endpoint.name }, header: ifMatch(endpoint.version) };
      return unwrap(client.DELETE("/v1/projects/{project}/endpoints/{endpoint}", { params }));
    },
    onSuccess: () => navigate({ to: "/projects/$project/endpoints", params: { project } }),
  });
  return (
    <>
      <Button variant="default" onClick={open} disabled={endpoint.state === "deleting"}>
        Delete it
      </Button>
      <Modal
        opened={asking}
        onClose={close}
        title={`Delete ${endpoint.name}?`}
        closeButtonProps={{ "aria-label": "Close" }}
        attributes={{ header: { role: "presentation" } }}
      >
        <p>Its address stops to answer. The model versions stay.</p>
        {deleting.error ? <Failure error={deleting.error} /> : null}
        <Group justify="flex-end" mt="md">
          <Button variant="default" onClick={close}>
            Keep it
          </Button>
          <Button color="red" loading={deleting.isPending} onClick={() => { deleting.mutate(); }}>
            Delete it
          </Button>
        </Group>
      </Modal>
    </>
  );
}
