/** Choose the cleaning steps of a new version; the numbers come from the validation report of this one. */

import { Button, Checkbox, Group, NumberInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { count, plural, words } from "../format";
import { Failure, Section } from "../widgets";

type Version = Schemas["DatasetVersionOut"];
type Report = Schemas["DatasetReportOut"]["report"];
type Step = Schemas["CleanIn"]["steps"][number];

interface Choice {
  label: string;
  /** What the step does to the rows of this version, as a sentence. */
  effect: (report: Report) => string;
  /** Rows that the step drops if no other one precedes it. */
  drops: (report: Report) => number;
  step: Record<string, unknown>;
  tasks?: string;
}

function total(report: Report, of: (split: Schemas["SplitReport"]) => number): number {
  return Object.values(report.splits).reduce((sum, split) => sum + of(split), 0);
}

function dropped(rows: number): string {
  return rows === 0 ? "drops no row" : `drops ${plural(rows, "row")}`;
}

const NO_ROWS = () => 0;
/** Within each split, and those of the other splits that are also in train. */
const EXACT = (report: Report) =>
  total(report, (split) => split.exact_duplicates) + Object.values(report.overlap ?? {}).reduce((sum, rows) => sum + rows, 0);
const NEAR = (report: Report) => EXACT(report) + total(report, (split) => split.near_duplicates);
const MISSING = (report: Report) => total(report, (split) => split.missing);

/** In the order in which they are applied: what changes rows precedes what compares them. */
const CHOICES: Record<string, Choice> = {
  missing: {
    label: "Drop incomplete rows",
    effect: (report) => dropped(MISSING(report)),
    drops: MISSING,
    step: { op: "drop-missing" },
  },
  normalize: {
    label: "Normalize texts: Unicode, control characters, white space",
    effect: () => "drops no row; rows that become equal are found as duplicates afterwards",
    drops: NO_ROWS,
    step: { op: "normalize-text" },
  },
  mask: {
    label: "Replace personal data by tags such as [EMAIL]",
    effect: (report) => {
      const kinds = Object.entries(report.personal_data ?? {}).map(([kind, rows]) => `${words(kind)} in ${plural(rows, "row")}`);
      return kinds.length === 0 ? "drops no row; none was found" : `drops no row; replaces ${kinds.join(", ")}`;
    },
    drops: NO_ROWS,
    step: { op: "mask-personal-data" },
  },
  labels: {
    label: "Merge labels that look alike",
    effect: () => "drops no row",
    drops: NO_ROWS,
    step: { op: "merge-labels" },
    tasks: "text-classification",
  },
  exact: {
    label: "Drop duplicates",
    effect: (report) => dropped(EXACT(report)),
    drops: EXACT,
    step: { op: "deduplicate" },
  },
  near: {
    label: "Drop near duplicates too",
    effect: (report) => dropped(NEAR(report)),
    drops: NEAR,
    step: { op: "deduplicate", near: true },
  },
};

/** How many rows remain; a row that two steps drop is counted by both. */
function remaining(before: number, drops: number[]): string {
  const least = Math.max(0, before - drops.reduce((sum, rows) => sum + rows, 0));
  const most = before - Math.max(0, ...drops);
  return least === most ? count(most) : `${count(least)} to ${count(most)}`;
}

interface CleanProps {
  project: string;
  version: Version;
  report: Report;
  /** Called with the new version. */
  done: (number: number) => void;
}

export function Clean({ project, version, report, done }: CleanProps) {
  const queries = useQueryClient();
  const [chosen, setChosen] = useState<string[]>([]);
  const [split, setSplit] = useState(false);
  const [shares, setShares] = useState({ validation: 20, test: 0 });
  const [stratify, setStratify] = useState(version.task === "text-classification");
  const grouped = Object.values(report.splits).some((each) => typeof each.groups === "number");
  const choices = Object.entries(CHOICES).filter(([, each]) => each.tasks === undefined || each.tasks === version.task);
  const picked = choices.filter(([key]) => chosen.includes(key) && !(key === "exact" && chosen.includes("near")));
  const train = 100 - shares.validation - shares.test;
  const steps = picked.map(([, each]) => each.step);
  if (split) {
    const fractions = { train: train / 100, validation: shares.validation / 100, test: shares.test / 100 };
    steps.push({ op: "split", ...fractions, stratify, by_group: grouped });
  }
  const before = total(report, (each) => each.rows);
  const cleaning = useMutation({
    mutationFn: () =>
      unwrap(
        client.POST("/v1/projects/{project}/datasets/{dataset}/versions/{number}:clean", {
          params: { path: { project, dataset: version.dataset, number: version.number } },
          body: { steps: steps as unknown as Step[], allow_overlap: false },
        }),
      ),
    onSuccess: async (created) => {
      await queries.invalidateQueries({ queryKey: ["versions", project, version.dataset] });
      done(created.number);
    },
  });
  return (
    <>
      <Section title="Steps">
        <p className="sub">
          They make a new version; this one stays. The numbers are those of the report of this version, for each step by
          itself. The report of the new version says what each step did.
        </p>
        <Checkbox.Group value={chosen} onChange={setChosen} aria-label="Steps">
          {choices.map(([key, each]) => (
            <Checkbox key={key} value={key} label={each.label} description={each.effect(report)} mt="sm" />
          ))}
        </Checkbox.Group>
        <Checkbox
          mt="sm"
          label="Split all rows again"
          description="drops no row; equal texts stay in one split"
          checked={split}
          onChange={(event) => {
            setSplit(event.currentTarget.checked);
          }}
        />
        {split ? (
          <div className="filters">
            {(["validation", "test"] as const).map((name) => (
              <NumberInput
                key={name}
                label={`${name === "validation" ? "Validation" : "Test"}, per cent`}
                value={shares[name]}
                min={0}
                max={90}
                allowDecimal={false}
                onChange={(value) => {
                  setShares({ ...shares, [name]: Number(value) });
                }}
              />
            ))}
            <p className="sub">
              {train} % for training{grouped ? "; rows of a group stay in one split" : ""}
            </p>
            {version.task === "text-classification" ? (
              <Checkbox
                label="Keep the proportions of labels"
                checked={stratify}
                onChange={(event) => {
                  setStratify(event.currentTarget.checked);
                }}
              />
            ) : null}
          </div>
        ) : null}
      </Section>
      {cleaning.error ? <Failure error={cleaning.error} /> : null}
      <Group mt="md">
        <Button
          disabled={steps.length === 0 || train < 1}
          loading={cleaning.isPending}
          onClick={() => {
            cleaning.mutate();
          }}
        >
          Make the new version
        </Button>
        <span className="sub" role="status">
          {`${plural(before, "row")} now, ${remaining(before, picked.map(([, each]) => each.drops(report)))} afterwards`}
        </span>
      </Group>
    </>
  );
}
