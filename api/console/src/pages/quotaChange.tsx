/** Try a change of a quota: what it would stop and start; then apply exactly this change. */

import { Button, Group, Modal, NumberInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { plural } from "../format";
import { useMay } from "../session";
import { Failure } from "../widgets";

type Quota = Schemas["QuotaOut"];
type Wanted = Schemas["QuotaIn"];

export function QuotaChangeButton({ quota }: { quota: Quota }) {
  const [opened, { open, close }] = useDisclosure(false);
  if (!useMay(quota.project, "quotas:write")) return null;
  return (
    <>
      <Button size="compact-sm" variant="default" onClick={open}>
        Change
      </Button>
      <Modal
        opened={opened}
        onClose={close}
        title={`Quota of ${quota.project} in ${quota.pool}`}
        closeButtonProps={{ "aria-label": "Close" }}
        attributes={{ header: { role: "presentation" } }}
      >
        <ChangeForm quota={quota} close={close} />
      </Modal>
    </>
  );
}

function ChangeForm({ quota, close }: { quota: Quota; close: () => void }) {
  const queries = useQueryClient();
  const [wanted, setWanted] = useState<Wanted>({
    nominal: quota.nominal,
    borrowing_limit: quota.borrowing_limit,
    lending_limit: quota.lending_limit,
  });
  const path = { project: quota.project, pool: quota.pool };
  const put = (dry_run: boolean) =>
    unwrap(
      client.PUT("/v1/projects/{project}/quotas/{pool}", { params: { path, query: { dry_run } }, body: wanted }),
    );
  const trying = useMutation({ mutationFn: () => put(true) });
  const applying = useMutation({
    mutationFn: () => put(false),
    onSuccess: async (change) => {
      if (change.state === "refused") return;
      notifications.show({ message: change.state === "applied" ? "The quota is changed." : "The cluster applies the change." });
      await queries.invalidateQueries({ queryKey: ["quotas"] });
      close();
    },
  });
  const set = (changed: Partial<Wanted>) => {
    setWanted({ ...wanted, ...changed });
    trying.reset();
  };
  const limit = (name: "borrowing_limit" | "lending_limit", label: string) => (
    <NumberInput
      mt="sm"
      label={label}
      placeholder="No limit"
      value={wanted[name] ?? ""}
      min={0}
      allowDecimal={false}
      onChange={(value) => {
        set({ [name]: value === "" ? null : Number(value) });
      }}
    />
  );
  const result = applying.data?.state === "refused" ? applying.data : trying.data;
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        trying.mutate();
      }}
    >
      <NumberInput
        label="Own GPUs or CPU slots"
        value={wanted.nominal}
        min={0}
        allowDecimal={false}
        onChange={(value) => {
          set({ nominal: Number(value) });
        }}
      />
      {limit("borrowing_limit", "May borrow at most")}
      {limit("lending_limit", "Lends at most")}
      {trying.error ? <Failure error={trying.error} /> : null}
      {applying.error ? <Failure error={applying.error} /> : null}
      {result ? <Effect change={result} /> : null}
      <Group justify="flex-end" mt="md">
        <Button type="submit" variant="default" loading={trying.isPending}>
          Try it
        </Button>
        <Button disabled={!trying.data} loading={applying.isPending} onClick={() => { applying.mutate(); }}>
          Apply it
        </Button>
      </Group>
    </form>
  );
}

function Effect({ change }: { change: Schemas["QuotaChangeOut"] }) {
  const jobs = (list: Schemas["JobImpactOut"][]) => list.map((each) => `${each.job} of ${each.project}`).join(", ");
  return (
    <div role="status" className="effect">
      {change.problem ? <p>{change.problem}</p> : null}
      <p>
        {change.preempts.length === 0 ? "It stops no job." : `It stops ${plural(change.preempts.length, "job")}: ${jobs(change.preempts)}.`}
      </p>
      <p>{change.starts.length === 0 ? "It starts no job." : `It starts ${plural(change.starts.length, "job")}: ${jobs(change.starts)}.`}</p>
    </div>
  );
}
