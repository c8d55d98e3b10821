/** Serve a model version: at a new endpoint, or in place of what an endpoint serves. */

import { Button, Group, Modal, NumberInput, Select, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { useMay } from "../session";
import { Failure, Show } from "../widgets";

type Version = Schemas["ModelVersionOut"];
type EndpointSpec = Schemas["EndpointSpec"];

/** The header that applies a change to the version of an object that the page shows. */
export function ifMatch(version: number): { "If-Match": string } {
  return { "If-Match": `"${version}"` };
}

export function ServeButton({ project, version }: { project: string; version: Version }) {
  const [opened, { open, close }] = useDisclosure(false);
  if (!useMay(project, "endpoints:write") || version.decision !== "candidate") return null;
  return (
    <>
      <Button onClick={open}>Serve</Button>
      <Modal
        opened={opened}
        onClose={close}
        title={`Serve ${version.model}@${version.number}`}
        closeButtonProps={{ "aria-label": "Close" }}
        attributes={{ header: { role: "presentation" } }}
      >
        <ServeForm project={project} version={version} />
      </Modal>
    </>
  );
}

const NEW = "A new endpoint";

function ServeForm({ project, version }: { project: string; version: Version }) {
  const endpoints = useQuery({
    queryKey: ["endpoint choices", project],
    queryFn: ({ signal }) =>
      unwrap(client.GET("/v1/projects/{project}/endpoints", { params: { path: { project }, query: { limit: 200 } }, signal })),
  });
  return <Show query={endpoints}>{({ items }) => <ServeFields project={project} version={version} endpoints={items} />}</Show>;
}

interface FieldsProps {
  project: string;
  version: Version;
  endpoints: Schemas["EndpointOut"][];
}

function ServeFields({ project, version, endpoints }: FieldsProps) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [where, setWhere] = useState(NEW);
  const [name, setName] = useState(version.model);
  const [share, setShare] = useState(100);
  const existing = endpoints.find((each) => each.name === where);
  const serving = useMutation({
    mutationFn: () => {
      const target = { model: version.model, version: version.number };
      if (!existing) {
        const spec = { traffic: [{ ...target, weight: 100 }] } as unknown as EndpointSpec;
        const params = { path: { project } };
        return unwrap(client.POST("/v1/projects/{project}/endpoints", { params, body: { name, spec } }));
      }
      const spec = { ...existing.spec, stopped: false, traffic: shared(existing, target, share) } as EndpointSpec;
      const params = { path: { project, endpoint: existing.name }, header: ifMatch(existing.version) };
      return unwrap(client.PATCH("/v1/projects/{project}/endpoints/{endpoint}", { params, body: { spec } }));
    },
    onSuccess: async (endpoint) => {
      await queries.invalidateQueries({ queryKey: ["endpoints", project] });
      await navigate({ to: "/projects/$project/endpoints/$endpoint", params: { project, endpoint: endpoint.name } });
    },
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        serving.mutate();
      }}
    >
      <Select
        label="Where"
        data={[NEW, ...endpoints.map((each) => each.name)]}
        value={where}
        allowDeselect={false}
        onChange={(value) => {
          setWhere(value ?? NEW);
        }}
      />
      {existing ? (
        <NumberInput
          mt="sm"
          label="Share of the traffic, per cent"
          description="The rest goes to what serves now; 100 replaces it. What serves now stays until the new version is healthy."
          value={share}
          min={1}
          max={100}
          allowDecimal={false}
          onChange={(value) => {
            setShare(Number(value));
          }}
        />
      ) : (
        <TextInput
          mt="sm"
          label="Name of the endpoint"
          value={name}
          required
          onChange={(event) => {
            setName(event.currentTarget.value);
          }}
        />
      )}
      {serving.error ? <Failure error={serving.error} /> : null}
      <Group justify="flex-end" mt="md">
        <Button type="submit" loading={serving.isPending}>
          Serve it
        </Button>
      </Group>
    </form>
  );
}

/** The traffic with a new target that has a share; the others keep their proportions. The weights add up to 100. */
export function shared(
  endpoint: Schemas["EndpointOut"],
  target: { model: string; version: number },
  share: number,
): EndpointSpec["traffic"] {
  const live = endpoint.live.filter((each) => each.model !== target.model || each.number !== target.version);
  const sum = live.reduce((total, each) => total + each.weight, 0);
  if (share >= 100 || sum === 0) return [{ ...target, weight: 100 }];
  const others = live.map((each) => ({
    model: each.model,
    version: each.number,
    weight: Math.floor((each.weight * (100 - share)) / sum),
  }));
  const rest = others.reduce((total, each) => total + each.weight, 0);
  return [{ ...target, weight: 100 - rest }, ...others.filter((each) => each.weight > 0)];
}
