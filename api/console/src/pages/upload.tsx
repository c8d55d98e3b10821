import { Anchor, Button, Checkbox, Group, NumberInput, Select, Table, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useId, useRef, useState, type DragEvent } from "react";
import type { Schemas } from "../api";
import { exampleFile } from "../examples";
import { bytes } from "../format";
import { asName, DELIMITER_NAMES, ENCODINGS, ROW_FORMATS, TASKS, type Task } from "../options";
import { uploadRoute } from "../router";
import { useMay, whoamiQuery } from "../session";
import { readPreview, type Preview } from "../tables";
import { totalBytes, uploadFiles, type UploadItem, type UploadProgress } from "../uploads";
import { Bar, Empty, Failure, PageHead, Section } from "../widgets";

const PHASES: Record<UploadProgress["phase"], string> = {
  hashing: "Reading the files",
  sending: "Sending",
  waiting: "The server does not answer. The upload goes on when it does.",
  committing: "Sent. The server checks the rows",
};

interface Reading {
  encoding: string;
  delimiter: string | null;
  header: boolean;
}

/** The first rows of a file. */
function usePreview(file: File, reading: Reading) {
  return useQuery({
    queryKey: ["preview", identity(file), reading],
    queryFn: () => readPreview(file, reading),
    retry: false,
    gcTime: 0,
  });
}

export function UploadPage() {
  const { project } = uploadRoute.useParams();
  const mayWrite = useMay(project, "datasets:write");
  const { example } = uploadRoute.useSearch();
  const [files, setFiles] = useState<UploadItem[]>(() => (example ? [{ file: exampleFile(), split: null }] : []));
  const choose = (chosen: File[]) => {
    if (chosen.length > 0) setFiles(chosen.map((file) => ({ file, split: null })));
  };
  const [first] = files;
  if (!mayWrite) return <Empty title="You may not upload data to this project" />;
  return (
    <>
      <PageHead
        title="Upload data"
        lead="CSV, TSV, JSON, JSON Lines or Parquet. Your browser reads the first rows and shows what becomes of them."
      />
      <DropZone files={files} choose={choose} />
      {files.length > 1 ? <FileList files={files} change={setFiles} /> : null}
      {first ? null : (
        <p>
          Or{" "}
          <Anchor component="button" underline="always" inherit onClick={() => { choose([exampleFile()]); }}>
            use the example data
          </Anchor>
          : 300 short tickets of a shop with the team that answers them.
        </p>
      )}
      {first ? <UploadForm key={identity(first.file)} project={project} files={files} first={first.file} /> : null}
    </>
  );
}

function identity(file: File): string {
  return `${file.name}/${file.size}/${file.lastModified}`;
}

interface DropZoneProps {
  files: UploadItem[];
  choose: (files: File[]) => void;
}

function DropZone({ files, choose }: DropZoneProps) {
  const [over, setOver] = useState(false);
  const id = useId();
  const [first] = files;
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    choose([...event.dataTransfer.files]);
  };
  const title = files.length > 1 ? `${files.length} files` : (first?.file.name ?? "Drop files here, or choose them");
  return (
    <label
      htmlFor={id}
      className={over ? "drop-zone over" : "drop-zone"}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => {
        setOver(false);
      }}
      onDrop={drop}
    >
      <strong className="breakable">{title}</strong>
      <span className="sub">{first ? `${bytes(totalBytes(files))}. Choose others to replace them.` : "Nothing is sent yet."}</span>
      <input
        id={id}
        type="file"
        multiple
        accept=".csv,.tsv,.json,.jsonl,.ndjson,.parquet,.gz"
        aria-label="Files"
        onChange={(event) => {
          choose([...(event.currentTarget.files ?? [])]);
        }}
      />
    </label>
  );
}

/** The files of an upload, with the split of each. All are read with the same columns. */
function FileList({ files, change }: { files: UploadItem[]; change: (files: UploadItem[]) => void }) {
  return (
    <Section title="Files">
      <p className="sub">They become one version. All are read as the first one is, whose rows are shown below.</p>
      <ul className="plain">
        {files.map(({ file, split }, index) => (
          <li key={identity(file)} className="filters">
            <span className="grow breakable">
              {file.name} <span className="sub">{bytes(file.size)}</span>
            </span>
            <Select
              aria-label={`Split of ${file.name}`}
              placeholder="Split later"
              clearable
              clearButtonProps={{ "aria-label": `No split of ${file.name}` }}
              data={["train", "validation", "test"]}
              value={split}
              onChange={(value) => {
                change(files.map((each, other) => (other === index ? { file, split: value } : each)));
              }}
            />
            <Button
              variant="default"
              aria-label={`Leave out ${file.name}`}
              onClick={() => {
                change(files.filter((_, other) => other !== index));
              }}
            >
              Leave out
            </Button>
          </li>
        ))}
      </ul>
    </Section>
  );
}

/** The fields that a row format has, mapped to columns of the file: by their names, else by the user. */
function mappedColumns(format: string, columns: string[], chosen: Record<string, string | null>) {
  const fields = ROW_FORMATS[format]?.fields ?? [];
  const mapped: Record<string, string | null> = {};
  for (const { name } of fields) mapped[name] = chosen[name] ?? (columns.includes(name) && !(name in chosen) ? name : null);
  return mapped;
}

function defaultFormat(task: Task, columns: string[]): string {
  const formats = Object.entries(ROW_FORMATS).filter(([, format]) => format.task === task);
  const fits = formats.find(([, { fields }]) => fields.every((field) => !field.required || columns.includes(field.name)));
  return (fits ?? formats[0])?.[0] ?? "text-label";
}

interface FormProps {
  project: string;
  files: UploadItem[];
  /** The file whose first rows are shown. */
  first: File;
}

function UploadForm({ project, files, first }: FormProps) {
  const search = uploadRoute.useSearch();
  const [dataset, setDataset] = useState(search.dataset ?? asName(first.name.replace(/\..*$/, "")));
  const [task, setTask] = useState<Task>(search.task ?? "text-classification");
  const [reading, setReading] = useState<Reading>({ encoding: "", delimiter: null, header: true });
  const [format, setFormat] = useState<string | null>(null);
  const [chosen, setChosen] = useState<Record<string, string | null>>({});
  const [holdOut, setHoldOut] = useState(20);
  const preview = usePreview(first, reading);
  const columns = preview.data?.columns ?? [];
  const delimited = preview.data?.delimiter !== null && preview.data !== undefined;
  const rowFormat = format ?? defaultFormat(task, columns);
  const mapped = mappedColumns(rowFormat, columns, chosen);
  const fields = ROW_FORMATS[rowFormat]?.fields ?? [];
  const missing = columns.length === 0 ? [] : fields.filter((field) => field.required && !mapped[field.name]);
  const renamed = Object.entries(mapped).filter((pair): pair is [string, string] => pair[1] !== null && pair[0] !== pair[1]);
  const options: Partial<Schemas["IngestOptions"]> = {
    ...(reading.encoding === "" ? {} : { encoding: reading.encoding as Schemas["Encoding"] }),
    ...(reading.delimiter === null ? {} : { delimiter: reading.delimiter }),
    header: reading.header,
    ...(format === null ? {} : { row_format: format as Schemas["RowFormat"] }),
    columns: Object.fromEntries(renamed),
    validation_fraction: holdOut / 100,
  };
  return (
    <>
      <Section title="Columns">
        <div className="filters">
          <TextInput
            label="Dataset"
            description="A new one, or one that gets a new version"
            value={dataset}
            onChange={(event) => {
              setDataset(event.currentTarget.value);
            }}
            required
          />
          <Select
            label="Task"
            description="What a model learns from the rows"
            data={TASKS}
            value={task}
            allowDeselect={false}
            onChange={(value) => {
              setTask(value as Task);
              setFormat(null);
            }}
          />
          <Select
            label="Row format"
            description="How a row says it"
            data={Object.entries(ROW_FORMATS)
              .filter(([, each]) => each.task === task)
              .map(([value, each]) => ({ value, label: each.label }))}
            value={rowFormat}
            allowDeselect={false}
            onChange={setFormat}
          />
        </div>
        <div className="filters">
          {fields.map((field) => (
            <ColumnChoice
              key={field.name}
              field={field}
              columns={columns}
              value={mapped[field.name] ?? null}
              choose={(column) => {
                setChosen({ ...chosen, [field.name]: column });
              }}
            />
          ))}
        </div>
        {missing.length > 0 ? (
          <p className="sub" role="status">
            Choose the column of {missing.map((field) => field.name).join(" and ")}.
          </p>
        ) : null}
        <FirstRows preview={preview.data ?? null} error={preview.error} mapped={mapped} />
        <details>
          <summary>How the file is read</summary>
          <div className="filters">
            <Select
              label="Encoding"
              placeholder="Detected"
              clearable
              clearButtonProps={{ "aria-label": "Detect the encoding" }}
              data={ENCODINGS}
              value={reading.encoding === "" ? null : reading.encoding}
              onChange={(value) => {
                setReading({ ...reading, encoding: value ?? "" });
              }}
            />
            {delimited ? (
              <Select
                label="Delimiter"
                placeholder={`Detected: ${DELIMITER_NAMES[preview.data.delimiter ?? ""] ?? "other"}`}
                clearable
                clearButtonProps={{ "aria-label": "Detect the delimiter" }}
                data={Object.entries(DELIMITER_NAMES).map(([value, label]) => ({ value, label }))}
                value={reading.delimiter}
                onChange={(value) => {
                  setReading({ ...reading, delimiter: value });
                }}
              />
            ) : null}
            {delimited ? (
              <Checkbox
                label="The first row names the columns"
                checked={reading.header}
                onChange={(event) => {
                  setReading({ ...reading, header: event.currentTarget.checked });
                }}
              />
            ) : null}
          </div>
        </details>
      </Section>
      <Section title="Split">
        <NumberInput
          disabled={files.some(({ split }) => split === "validation")}
          label="Rows to hold out for validation, in per cent"
          description="A model is tested on rows that it was not trained on. 0: you split the rows later."
          value={holdOut}
          min={0}
          max={90}
          allowDecimal={false}
          w={360}
          maw="100%"
          onChange={(value) => {
            setHoldOut(Number(value));
          }}
        />
      </Section>
      <Sending
        request={{ project, dataset, task, files, options }}
        disabled={dataset === "" || missing.length > 0 || preview.isPending || (preview.data?.problem ?? "").includes("no rows.")}
      />
    </>
  );
}

interface ColumnChoiceProps {
  field: { name: string; required: boolean; explanation: string };
  columns: string[];
  value: string | null;
  choose: (column: string | null) => void;
}

function ColumnChoice({ field, columns, value, choose }: ColumnChoiceProps) {
  const label = `Column of ${field.name}`;
  if (columns.length === 0) {
    return (
      <TextInput
        label={label}
        description={field.explanation}
        placeholder={field.name}
        value={value ?? ""}
        onChange={(event) => {
          choose(event.currentTarget.value === "" ? null : event.currentTarget.value);
        }}
      />
    );
  }
  return (
    <Select
      label={label}
      description={field.explanation}
      placeholder={field.required ? "Choose a column" : "None"}
      data={[...new Set(columns)].filter((column) => column !== "")}
      value={value}
      clearable={!field.required}
      clearButtonProps={{ "aria-label": `No ${field.name}` }}
      allowDeselect={!field.required}
      onChange={choose}
    />
  );
}

/** The first rows; the columns that are read say as what. */
function FirstRows({ preview, error, mapped }: { preview: Preview | null; error: Error | null; mapped: Record<string, string | null> }) {
  if (error) return <Failure error={new Error(`The file is not text in this encoding, or not of this format: ${error.message}`)} />;
  if (!preview) return null;
  if (preview.problem !== "") return <p className="sub">{preview.problem}</p>;
  const field = (column: string) => Object.entries(mapped).find(([, each]) => each === column)?.[0];
  return (
    <div className="scroll-x" tabIndex={0} role="region" aria-label="First rows">
      <Table verticalSpacing="xs">
        <Table.Thead>
          <Table.Tr>
            {preview.columns.map((column, index) => (
              <Table.Th key={index} className={field(column) ? "" : "unread"}>
                {column}
                <span className="sub">{field(column) ? ` is the ${field(column) ?? ""}` : " is not read"}</span>
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {preview.rows.map((row, number) => (
            <Table.Tr key={number}>
              {preview.columns.map((column, index) => (
                <Table.Td key={index} className={field(column) ? "cell" : "cell unread"}>
                  {(row[index] ?? "").slice(0, 500)}
                </Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </div>
  );
}

type Request = Omit<Parameters<typeof uploadFiles>[0], "user">;

function Sending({ request, disabled }: { request: Request; disabled: boolean }) {
  const queries = useQueryClient();
  const navigate = uploadRoute.useNavigate();
  const user = useQuery(whoamiQuery).data?.user ?? "";
  const [progress, setProgress] = useState<UploadProgress | null>(null);
  const stopping = useRef(new AbortController());
  const uploading = useMutation({
    mutationFn: () => {
      stopping.current = new AbortController();
      return uploadFiles({ ...request, user }, setProgress, stopping.current.signal);
    },
    onSuccess: async (version) => {
      await queries.invalidateQueries({ queryKey: ["versions", request.project, request.dataset] });
      const params = { project: request.project, dataset: version.dataset };
      await navigate({ to: "/projects/$project/datasets/$dataset", params });
    },
  });
  useEffect(() => {
    const controller = stopping;
    return () => {
      controller.current.abort();
    };
  }, []);
  const stopped = uploading.error instanceof DOMException;
  const share = progress === null ? 0 : progress.done / Math.max(1, totalBytes(request.files));
  return (
    <div className="panel">
      {uploading.isPending && progress ? (
        <div className="progress" role="status">
          <Bar value={share} label="Upload" />
          <span>
            {PHASES[progress.phase]}
            {progress.phase === "sending" || progress.phase === "hashing" ? `, ${Math.round(share * 100)} %` : ""}
          </span>
        </div>
      ) : null}
      {uploading.error && !stopped ? <Failure error={uploading.error} /> : null}
      {stopped ? <p>Stopped. Upload the same files again to go on where it stopped.</p> : null}
      <Group>
        <Button disabled={disabled} loading={uploading.isPending} onClick={() => { uploading.mutate(); }}>
          {stopped || uploading.error ? "Go on" : "Upload"}
        </Button>
        {uploading.isPending ? (
          <Button variant="default" onClick={() => { stopping.current.abort(); }}>
            Stop
          </Button>
        ) : null}
      </Group>
    </div>
  );
}
