/** Uploads files in parts: shows progress, goes on after a lost connection, and after the page was loaded again. */

// The browser's own SHA-256 takes only whole buffers, and is missing where a page is served without TLS.
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { ApiError, client, unwrap, type Schemas } from "./api";

const PART_BYTES = 2 << 20;
const RETRY_MILLISECONDS = 1000;
/** How often it is tried to send the same part, or to commit. */
const MOST_TRIES = 120;
/** How often the same file may be uploaded again with the same options. */
const MOST_REPETITIONS = 100;

export interface UploadProgress {
  phase: "hashing" | "sending" | "waiting" | "committing";
  /** Bytes of all files that are done in the phase. */
  done: number;
}

/** A file of an upload, and the split to which its rows belong; null: none yet. */
export interface UploadItem {
  file: File;
  split: Schemas["Split"] | null;
}

export interface UploadRequest {
  project: string;
  user: string;
  dataset: string;
  task: Schemas["Task"];
  /** At least one. */
  files: UploadItem[];
  options: Partial<Schemas["IngestOptions"]>;
}

type Report = (progress: UploadProgress) => void;

/** The server's rule for names of files; the ending tells the format. */
export function fileName(name: string): string {
  const plain = name.replaceAll(/[^A-Za-z0-9._-]/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  return plain === "" ? "data" : plain.slice(-100).replace(/^[^A-Za-z0-9]+/, "");
}

/** The names of files in one upload, in which each is unique. */
function uniqueNames(files: UploadItem[]): string[] {
  const names = files.map(({ file }) => fileName(file.name));
  return names.map((name, index) => (names.indexOf(name) < index ? `${index + 1}-${name.slice(-90)}` : name));
}

export function totalBytes(files: UploadItem[]): number {
  return files.reduce((sum, { file }) => sum + file.size, 0);
}

function sha256Of(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text)));
}

async function hashFile(file: File, before: number, report: Report, signal: AbortSignal): Promise<string> {
  const hash = sha256.create();
  for (let start = 0; start < file.size; start += PART_BYTES) {
    signal.throwIfAborted();
    hash.update(new Uint8Array(await file.slice(start, start + PART_BYTES).arrayBuffer()));
    report({ phase: "hashing", done: before + Math.min(file.size, start + PART_BYTES) });
  }
  return bytesToHex(hash.digest());
}

async function ensureDataset({ project, dataset, task }: UploadRequest, signal: AbortSignal): Promise<void> {
  try {
    await unwrap(
      client.GET("/v1/projects/{project}/datasets/{dataset}", { params: { path: { project, dataset } }, signal }),
    );
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error;
    const body = { name: dataset, task, description: "", purposes: [] };
    await unwrap(client.POST("/v1/projects/{project}/datasets", { params: { path: { project } }, body, signal }));
  }
}

/**
 * Open an upload, or find the one that was interrupted: its idempotency key is computed from the files and the options,
 * so that the same files, chosen again, continue it. After a commit the next number makes a new one.
 */
async function open(request: UploadRequest, hashes: string[], signal: AbortSignal): Promise<Schemas["UploadOut"]> {
  const { project, dataset, files } = request;
  const names = uniqueNames(files);
  const body = {
    dataset,
    files: files.map(({ file, split }, index) => ({
      name: names[index] ?? "",
      bytes: file.size,
      sha256: hashes[index] ?? "",
      split,
    })),
    options: request.options as Schemas["IngestOptions"],
  };
  for (let repetition = 0; repetition < MOST_REPETITIONS; repetition++) {
    const header = { "Idempotency-Key": `console-${sha256Of(JSON.stringify([request.user, body, repetition]))}` };
    const url = "/v1/projects/{project}/uploads";
    const upload = await unwrap(client.POST(url, { params: { path: { project }, header }, body, signal }));
    if (upload.state === "open") return upload;
  }
  throw new Error("These files were uploaded very often. Use one of their versions, or change them.");
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = window.setTimeout(resolve, RETRY_MILLISECONDS);
    signal.addEventListener("abort", () => {
      window.clearTimeout(timer);
      reject(new DOMException("The upload was stopped.", "AbortError"));
    });
  });
}

/** Whether another try may succeed: the server was lost, or it has other bytes than the page knows of. */
function isTransient(error: unknown): boolean {
  return error instanceof ApiError && (error.lost || error.status === 409 || error.status === 429);
}

/** A file of an open upload. */
interface OpenFile {
  project: string;
  upload: string;
  name: string;
  file: File;
  received: number;
}

async function received({ project, upload, name }: OpenFile, signal: AbortSignal): Promise<number> {
  const path = { project, upload };
  const state = await unwrap(client.GET("/v1/projects/{project}/uploads/{upload}", { params: { path }, signal }));
  return state.files.find((each) => each.name === name)?.received ?? 0;
}

async function sendPart({ project, upload, name, file }: OpenFile, offset: number, signal: AbortSignal) {
  const path = { project, upload, name };
  const sent = await unwrap(
    client.PUT("/v1/projects/{project}/uploads/{upload}/files/{name}", {
      params: { path, header: { "Upload-Offset": offset } },
      headers: { "Content-Type": "application/octet-stream" },
      body: file.slice(offset, offset + PART_BYTES) as unknown as string,
      bodySerializer: (body) => body,
      signal,
    }),
  );
  return sent.received;
}

/** Send the rest of a file, `before` bytes after the first file; after a failure ask the server where to go on. */
async function send(open: OpenFile, before: number, report: Report, signal: AbortSignal) {
  const { size } = open.file;
  let offset = open.received;
  let lost = false;
  for (let tries = 0; offset < size; ) {
    report({ phase: lost ? "waiting" : "sending", done: before + offset });
    try {
      if (lost) offset = await received(open, signal);
      lost = false;
      if (offset < size) offset = await sendPart(open, offset, signal);
      tries = 0;
    } catch (error) {
      if (signal.aborted || !isTransient(error) || ++tries >= MOST_TRIES) throw error;
      lost = true;
      report({ phase: "waiting", done: before + offset });
      await pause(signal);
    }
  }
}

async function commit(project: string, upload: string, signal: AbortSignal): Promise<Schemas["DatasetVersionOut"]> {
  for (let tries = 0; ; ) {
    try {
      const path = { project, upload };
      return await unwrap(client.POST("/v1/projects/{project}/uploads/{upload}:commit", { params: { path }, signal }));
    } catch (error) {
      if (signal.aborted || !(error instanceof ApiError && error.lost) || ++tries >= MOST_TRIES) throw error;
      await pause(signal);
    }
  }
}

/** Upload files as a new version of a dataset, which is created if needed. */
export async function uploadFiles(
  request: UploadRequest,
  report: Report,
  signal: AbortSignal,
): Promise<Schemas["DatasetVersionOut"]> {
  const { project, files } = request;
  const hashes: string[] = [];
  let before = 0;
  for (const { file } of files) {
    hashes.push(await hashFile(file, before, report, signal));
    before += file.size;
  }
  await ensureDataset(request, signal);
  const upload = await open(request, hashes, signal);
  before = 0;
  for (const [index, { file }] of files.entries()) {
    const { name, received } = upload.files[index] ?? { name: "", received: 0 };
    await send({ project, upload: upload.id, name, file, received }, before, report, signal);
    before += file.size;
  }
  report({ phase: "committing", done: before });
  return await commit(project, upload.id, signal);
}
