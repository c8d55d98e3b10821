/** Reads the first rows of a file in the browser, so that its columns can be chosen before anything is sent. */

import Papa from "papaparse";

/** What the browser reads of a file. */
export const PREVIEW_BYTES = 128 << 10;
const PREVIEW_ROWS = 5;
const DELIMITERS = [",", ";", "\t", "|"];

export interface Preview {
  /** Empty: the browser cannot read this format; the server can. */
  columns: string[];
  rows: string[][];
  /** Null: the format has none. */
  delimiter: string | null;
  /** Why there are no rows; empty: there are some. */
  problem: string;
}

export interface ReadingOptions {
  encoding: string;
  /** Null: detected. */
  delimiter: string | null;
  header: boolean;
}

/** Split delimited text into rows, without empty ones; null: the delimiter that gives most rows the same fields. */
function delimitedRows(text: string, delimiter: string | null) {
  const { data, meta } = Papa.parse<string[]>(text, {
    delimiter: delimiter ?? "",
    delimitersToGuess: DELIMITERS,
    skipEmptyLines: true,
  });
  return { rows: data, delimiter: meta.delimiter };
}

export interface PastedTable {
  columns: string[];
  rows: string[][];
}

/** A table that was pasted: from a spreadsheet with tabs, else with the delimiter that splits all rows alike. */
export function pastedTable(text: string, header: boolean): PastedTable {
  const { rows, delimiter } = delimitedRows(text, text.includes("\t") ? "\t" : null);
  // Texts with commas are no table.
  const isTable = delimiter === "\t" || new Set(rows.map((row) => row.length)).size <= 1;
  const all = (isTable ? rows : delimitedRows(text, "\t").rows).filter((row) => row.some((cell) => cell.trim() !== ""));
  const width = Math.max(0, ...all.map((row) => row.length));
  const names = header ? (all[0] ?? []) : [];
  return { columns: Array.from({ length: width }, (_, i) => names[i] ?? String(i + 1)), rows: all.slice(header ? 1 : 0) };
}

function delimited(text: string, complete: boolean, name: string, options: ReadingOptions): Preview {
  const separator = /^sep=(.)\r?\n/.exec(text);
  const known = options.delimiter ?? separator?.[1] ?? (/\.tsv(\.gz)?$/i.test(name) ? "\t" : null);
  const { rows: all, delimiter } = delimitedRows(separator ? text.slice(separator[0].length) : text, known);
  // The last row of a part may be cut.
  const rows = complete ? all : all.slice(0, -1);
  const width = Math.max(0, ...rows.map((row) => row.length));
  const numbered = Array.from({ length: width }, (_, i) => String(i + 1));
  const columns = options.header ? (rows[0] ?? []) : numbered;
  const problem = rows.length > (options.header ? 1 : 0) ? "" : "The file has no rows.";
  return { columns, rows: rows.slice(options.header ? 1 : 0).slice(0, PREVIEW_ROWS), delimiter, problem };
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value);
}

function jsonLines(text: string, complete: boolean): Preview {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const objects: Record<string, unknown>[] = [];
  for (const line of complete ? lines : lines.slice(0, -1)) {
    try {
      const value: unknown = JSON.parse(line);
      if (typeof value === "object" && value !== null) objects.push(value as Record<string, unknown>);
    } catch {
      return { columns: [], rows: [], delimiter: null, problem: "A line of the file is not a JSON object." };
    }
  }
  const columns = [...new Set(objects.flatMap((object) => Object.keys(object)))];
  const rows = objects.slice(0, PREVIEW_ROWS).map((object) => columns.map((column) => asText(object[column])));
  return { columns, rows, delimiter: null, problem: objects.length > 0 ? "" : "The file has no rows." };
}

function decoded(bytes: ArrayBuffer, encoding: string, complete: boolean): string {
  const [first, second] = new Uint8Array(bytes);
  const marked = first === 0xff && second === 0xfe ? "utf-16le" : first === 0xfe && second === 0xff ? "utf-16be" : null;
  return new TextDecoder(encoding === "" ? (marked ?? "utf-8") : encoding).decode(bytes, { stream: !complete });
}

/** The first bytes of the content of a file, and whether these are all. */
async function firstBytes(file: File): Promise<{ bytes: ArrayBuffer; complete: boolean }> {
  if (!/\.gz$/i.test(file.name)) {
    return { bytes: await file.slice(0, PREVIEW_BYTES).arrayBuffer(), complete: file.size <= PREVIEW_BYTES };
  }
  const reader = file.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  const parts: BlobPart[] = [];
  let length = 0;
  let complete = false;
  while (length <= PREVIEW_BYTES && !complete) {
    const { value, done } = await reader.read();
    complete = done;
    if (value) {
      parts.push(value);
      length += value.length;
    }
  }
  await reader.cancel();
  return { bytes: await new Blob(parts).slice(0, PREVIEW_BYTES).arrayBuffer(), complete };
}

export async function readPreview(file: File, options: ReadingOptions): Promise<Preview> {
  const nothing = { columns: [], rows: [], delimiter: null };
  const name = file.name.replace(/\.gz$/i, "");
  if (/\.parquet$/i.test(name)) return { ...nothing, problem: "The browser shows no rows of this format." };
  const { bytes, complete } = await firstBytes(file);
  const text = decoded(bytes, options.encoding, complete).replace(/^\uFEFF/, "");
  if (/\.(jsonl|ndjson|json)$/i.test(name)) {
    if (!text.trimStart().startsWith("[")) return jsonLines(text, complete);
    if (!complete) return { ...nothing, problem: "The browser shows no rows of a large JSON array." };
    return jsonLines(
      (JSON.parse(text) as unknown[]).map((each) => JSON.stringify(each)).join("\n"),
      true,
    );
  }
  return delimited(text, complete, name, options);
}
