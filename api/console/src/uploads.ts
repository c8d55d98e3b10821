/** Uploads a file in parts: shows progress, goes on after a lost connection, and after the page was loaded again. */

import { ApiError, client, unwrap, type Schemas } from "./api";
import { Sha256 } from "./sha256";

const PART_BYTES = 2 << 20;
const RETRY_MILLISECONDS = 1000;
/** How often it is tried to send the same part, or to commit. */
const MOST_TRIES = 120;
/** How often the same file may be uploaded again with the same options. */
const MOST_REPETITIONS = 100;

export interface UploadProgress {
  phase: "hashing" | "sending" | "waiting" | "committing";
  /** Bytes done of the phase. */
  done: number;
}

export interface UploadRequest {
  project: string;
  user: string;
  dataset: string;
  task: Schemas["Task"];
  file: File;
  options: Partial<Schemas["IngestOptions"]>;
}

type Report = (progress: UploadProgress) => void;

/** The server's rule for names of files; the ending tells the format. */
export function fileName(name: string): string {
  const plain = name.replaceAll(/[^A-Za-z0-9._-]/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  return plain === "" ? "data" : plain.slice(-100).replace(/^[^A-Za-z0-9]+/, "");
}

function sha256Of(text: string): string {
  const hash = new Sha256();
  hash.update(new TextEncoder().encode(text));
  return hash.hex();
}

async function hashFile(file: File, report: Report, signal: AbortSignal): Promise<string> {
  const hash = new Sha256();
  for (let start = 0; start < file.size; start += PART_BYTES) {
    signal.throwIfAborted();
    hash.update(new Uint8Array(await file.slice(start, start + PART_BYTES).arrayBuffer()));
    report({ phase: "hashing", done: Math.min(file.size, start + PART_BYTES) });
  }
  return hash.hex();
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
 * Open an upload, or find the one that was interrupted: its idempotency key is computed from the file and the options,
 * so that the same file, chosen again, continues it. After a commit the next number makes a new one.
 */
async function open(request: UploadRequest, sha256: string, signal: AbortSignal): Promise<Schemas["UploadOut"]> {
  const { project, dataset, file } = request;
  const body = {
    dataset,
    files: [{ name: fileName(file.name), bytes: file.size, sha256, split: null }],
    options: request.options as Schemas["IngestOptions"],
  };
  for (let repetition = 0; repetition < MOST_REPETITIONS; repetition++) {
    const header = { "Idempotency-Key": `console-${sha256Of(JSON.stringify([request.user, body, repetition]))}` };
    const url = "/v1/projects/{project}/uploads";
    const upload = await unwrap(client.POST(url, { params: { path: { project }, header }, body, signal }));
    if (upload.state === "open") return upload;
  }
  throw new Error("This file was uploaded very often. Use one of its versions, or change it.");
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

async function received(project: string, upload: string, signal: AbortSignal): Promise<number> {
  const path = { project, upload };
  const state = await unwrap(client.GET("/v1/projects/{project}/uploads/{upload}", { params: { path }, signal }));
  return state.files[0]?.received ?? 0;
}

async function sendPart(project: string, upload: string, file: File, offset: number, signal: AbortSignal) {
  const path = { project, upload, name: fileName(file.name) };
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

/** Send the rest of the file; after a failure ask the server where to go on. */
async function send(project: string, upload: Schemas["UploadOut"], file: File, report: Report, signal: AbortSignal) {
  let offset = upload.files[0]?.received ?? 0;
  let lost = false;
  for (let tries = 0; offset < file.size; ) {
    report({ phase: lost ? "waiting" : "sending", done: offset });
    try {
      if (lost) offset = await received(project, upload.id, signal);
      lost = false;
      if (offset < file.size) offset = await sendPart(project, upload.id, file, offset, signal);
      tries = 0;
    } catch (error) {
      if (signal.aborted || !isTransient(error) || ++tries >= MOST_TRIES) throw error;
      lost = true;
      report({ phase: "waiting", done: offset });
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

/** Upload a file as a new version of a dataset, which is created if needed. */
export async function uploadFile(
  request: UploadRequest,
  report: Report,
  signal: AbortSignal,
): Promise<Schemas["DatasetVersionOut"]> {
  const { project, file } = request;
  const sha256 = await hashFile(file, report, signal);
  await ensureDataset(request, signal);
  const upload = await open(request, sha256, signal);
  await send(project, upload, file, report, signal);
  report({ phase: "committing", done: file.size });
  return await commit(project, upload.id, signal);
}
