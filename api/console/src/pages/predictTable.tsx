/** Classify the rows of a pasted table; the result is the table with added columns. */

import { Button, Checkbox, Group, Select, Textarea } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { saveText } from "../files";
import { count, metric, plural } from "../format";
import { Grid } from "../grid";
import { delimitedText } from "../spreadsheets";
import { pastedTable, type PastedTable } from "../tables";
import { Failure } from "../widgets";

const MOST_ROWS = 2000;
const SHOWN_ROWS = 100;
/** The columns that `windlass predict --file` adds. */
const ADDED = ["prediction_label", "prediction_score", "prediction_truncated", "prediction_model"];
/** Makes spreadsheets read a file as UTF-8. */
const MARK = "\uFEFF";

interface Result {
  header: string[];
  rows: string[][];
  blank: number;
}

interface TableProps {
  project: string;
  endpoint: Schemas["EndpointOut"];
  /** Texts in one request. */
  batch: number;
}

/** The column that most likely has the texts: one with that name, or the one with most characters. */
function likelyColumn(table: PastedTable): number {
  const named = table.columns.findIndex((name) => name.toLowerCase() === "text");
  if (named >= 0) return named;
  const sizes = table.columns.map((_, index) => table.rows.reduce((sum, row) => sum + (row[index] ?? "").length, 0));
  return Math.max(0, sizes.indexOf(Math.max(...sizes)));
}

export function TablePlayground({ project, endpoint, batch }: TableProps) {
  const [text, setText] = useState("");
  const [header, setHeader] = useState(true);
  const [chosen, setChosen] = useState<string | null>(null);
  const table = useMemo(() => pastedTable(text, header), [text, header]);
  const column = chosen !== null && Number(chosen) < table.columns.length ? Number(chosen) : likelyColumn(table);
  const predicting = useMutation({
    mutationFn: async (): Promise<Result> => {
      const path = { project, endpoint: endpoint.name };
      const rows = table.rows.map((row) => table.columns.map((_, index) => row[index] ?? ""));
      const filled = rows.filter((row) => (row[column] ?? "").trim() !== "");
      const added = new Map<string[], string[]>();
      for (let start = 0; start < filled.length; start += batch) {
        const part = filled.slice(start, start + batch);
        const inputs = part.map((row) => row[column] ?? "");
        const url = "/v1/projects/{project}/endpoints/{endpoint}:predict";
        const answer = await unwrap(client.POST(url, { params: { path }, body: { inputs, top_k: 1 } }));
        const truncated = new Set(answer.truncated ?? []);
        part.forEach((row, index) => {
          const best = answer.predictions[index]?.[0];
          const values = [best?.label ?? "", best ? String(best.score) : "", String(truncated.has(index))];
          added.set(row, [...values, `${answer.model}@${answer.number}`]);
        });
      }
      return {
        header: [...table.columns, ...ADDED],
        rows: rows.map((row) => [...row, ...(added.get(row) ?? ADDED.map(() => ""))]),
        blank: rows.length - filled.length,
      };
    },
  });
  const tooMany = table.rows.length > MOST_ROWS;
  return (
    <>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          predicting.mutate();
        }}
      >
        <Textarea
          label="Table to classify"
          description={`Rows of a spreadsheet or of a CSV file, at most ${count(MOST_ROWS)}`}
          autosize
          minRows={4}
          maxRows={12}
          value={text}
          onChange={(event) => {
            setText(event.currentTarget.value);
          }}
          error={tooMany ? `These are ${plural(table.rows.length, "row")}.` : undefined}
        />
        <Group gap="md" mt="sm" align="end">
          <Select
            label="Column of the texts"
            allowDeselect={false}
            disabled={table.columns.length === 0}
            value={table.columns.length === 0 ? null : String(column)}
            data={table.columns.map((name, index) => ({ value: String(index), label: name || `Column ${index + 1}` }))}
            onChange={setChosen}
          />
          <Checkbox
            label="The first row has the names of the columns"
            checked={header}
            onChange={(event) => {
              setHeader(event.currentTarget.checked);
            }}
          />
        </Group>
        <Button
          type="submit"
          mt="sm"
          loading={predicting.isPending}
          disabled={table.rows.length === 0 || tooMany}
        >
          Classify {plural(table.rows.length, "row")}
        </Button>
      </form>
      {predicting.error ? <Failure error={predicting.error} /> : null}
      {predicting.data ? <ResultTable result={predicting.data} name={`${endpoint.name}-scored.csv`} /> : null}
    </>
  );
}

function ResultTable({ result, name }: { result: Result; name: string }) {
  const [copied, setCopied] = useState<Result | null>(null);
  const { header, rows } = result;
  const shown = rows.slice(0, SHOWN_ROWS).map((cells, index) => ({ cells, index }));
  const own = header.length - ADDED.length;
  const copy = async () => {
    await navigator.clipboard.writeText(delimitedText([header, ...rows], "\t"));
    setCopied(result);
  };
  return (
    <div aria-live="polite">
      <p className="sub">
        {plural(rows.length, "row")}
        {result.blank > 0 ? `, of which ${count(result.blank)} without a text` : ""}
        {rows.length > shown.length ? `; the first ${shown.length} are shown` : ""}. A cell that a spreadsheet would run as
        a formula gets an apostrophe before it in the copy and in the file.
      </p>
      <Group gap="xs" my="sm">
        <Button variant="default" onClick={() => void copy()}>
          {copied === result ? "Copied" : "Copy the table"}
        </Button>
        <Button
          variant="default"
          onClick={() => {
            saveText(MARK + delimitedText([header, ...rows], ","), name, "text/csv");
          }}
        >
          Download as CSV
        </Button>
      </Group>
      <Grid
        label="Classified rows"
        rows={shown}
        rowKey={({ index }) => String(index)}
        columns={[
          { title: "Label", cell: ({ cells }) => cells[own] },
          {
            title: "Probability",
            right: true,
            cell: ({ cells }) => (cells[own + 1] ? metric(Number(cells[own + 1])) : "–"),
          },
          ...header.slice(0, own).map((title, index) => ({
            title: title || `Column ${index + 1}`,
            cell: ({ cells }: { cells: string[] }) => cells[index],
          })),
        ]}
      />
    </div>
  );
}
