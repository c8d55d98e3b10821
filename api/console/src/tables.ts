/** Reads the first rows of a file in the browser, so that its columns can be chosen before anything is sent. */

/** What the browser reads of a file. */
export const PREVIEW_BYTES = 128 << 10;
const PREVIEW_ROWS = 5;
const DELIMITERS = [",", ";", "\t", "|"] as const;
const COMPARED_ROWS = 20;

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

/** Split delimited text into rows. A field that begins with a quote ends with a quote (RFC 4180). */
export function delimitedRows(text: string, delimiter: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let field = "";
  let quoted = false;
  let begun = false;
  const endField = () => {
    row.push(field);
    field = "";
    begun = false;
  };
  const endRow = () => {
    endField();
    if (row.length > 1 || row[0] !== "") rows.push(row);
    row = [];
  };
  for (let i = 0; i < text.length; i++) {
    const character = text.charAt(i);
    if (quoted) {
      if (character !== '"') field += character;
      else if (text.charAt(i + 1) === '"') {
        field += '"';
        i++;
      } else quoted = false;
    } else if (character === '"' && !begun) {
      quoted = true;
      begun = true;
    } else if (character === delimiter) endField();
    else if (character === "\n" || character === "\r") {
      if (character === "\r" && text.charAt(i + 1) === "\n") i++;
      endRow();
    } else {
      field += character;
      begun = true;
    }
  }
  if (field !== "" || row.length > 0) endRow();
  return rows;
}

/** The delimiter that gives most rows the same number of fields, more than one. */
function detectDelimiter(text: string, name: string): string {
  if (/\.tsv(\.gz)?$/i.test(name)) return "\t";
  let best: string = ",";
  let most = 0;
  for (const delimiter of DELIMITERS) {
    const widths = delimitedRows(text, delimiter)
      .slice(0, COMPARED_ROWS)
      .map((row) => row.length);
    const first = widths[0] ?? 1;
    const score = first < 2 ? 0 : widths.filter((width) => width === first).length + first / 1000;
    if (score > most) [best, most] = [delimiter, score];
  }
  return best;
}

export interface PastedTable {
  columns: string[];
  rows: string[][];
}

/** A table that was pasted: from a spreadsheet with tabs, else with the delimiter that splits all rows alike. */
export function pastedTable(text: string, header: boolean): PastedTable {
  const delimiter = text.includes("\t") ? "\t" : detectDelimiter(text, "");
  let all = delimitedRows(text, delimiter);
  // Texts with commas are no table.
  if (delimiter !== "\t" && new Set(all.map((row) => row.length)).size > 1) all = delimitedRows(text, "\t");
  all = all.filter((row) => row.some((cell) => cell.trim() !== ""));
  const width = Math.max(0, ...all.map((row) => row.length));
  const names = header ? (all[0] ?? []) : [];
  return { columns: Array.from({ length: width }, (_, i) => names[i] ?? String(i + 1)), rows: all.slice(header ? 1 : 0) };
}

function delimited(text: string, complete: boolean, name: string, options: ReadingOptions): Preview {
  const separator = /^sep=(.)\r?\n/.exec(text);
  const delimiter = options.delimiter ?? separator?.[1] ?? detectDelimiter(text, name);
  const all = delimitedRows(separator ? text.slice(separator[0].length) : text, delimiter);
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

function decoded(bytes: ArrayBuffer, encoding: string): string {
  const [first, second] = new Uint8Array(bytes);
  const marked = first === 0xff && second === 0xfe ? "utf-16le" : first === 0xfe && second === 0xff ? "utf-16be" : null;
  return new TextDecoder(encoding === "" ? (marked ?? "utf-8") : encoding).decode(bytes);
}

export async function readPreview(file: File, options: ReadingOptions): Promise<Preview> {
  const nothing = { columns: [], rows: [], delimiter: null };
  if (/\.(gz|parquet)$/i.test(file.name)) return { ...nothing, problem: "The browser shows no rows of this format." };
  const bytes = await file.slice(0, PREVIEW_BYTES).arrayBuffer();
  const text = decoded(bytes, options.encoding).replace(/^\uFEFF/, "");
  const complete = file.size <= PREVIEW_BYTES;
  if (/\.(jsonl|ndjson|json)$/i.test(file.name)) {
    if (!text.trimStart().startsWith("[")) return jsonLines(text, complete);
    if (!complete) return { ...nothing, problem: "The browser shows no rows of a large JSON array." };
    return jsonLines(
      (JSON.parse(text) as unknown[]).map((each) => JSON.stringify(each)).join("\n"),
      true,
    );
  }
  return delimited(text, complete, file.name, options);
}
