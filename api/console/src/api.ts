/** The client of the API: typed by the OpenAPI document; errors are problem details (RFC 9457). */

import createClient from "openapi-fetch";
import type { components, paths } from "../build/api";
import { reportAnswer } from "./connection";

export type Schemas = components["schemas"];
export type Problem = Schemas["Problem"];

/** Statuses of a server, or of a proxy before it, that does not serve now. */
const UNAVAILABLE = new Set([502, 503, 504]);

/** An answer of the server that is not a success, or no answer. */
export class ApiError extends Error {
  readonly status: number;
  readonly hint: string;
  readonly requestId: string;

  constructor(message: string, status: number, hint = "", requestId = "") {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.hint = hint;
    this.requestId = requestId;
  }

  /** Whether the server was not reached, or does not serve now. */
  get lost(): boolean {
    return this.status === 0 || UNAVAILABLE.has(this.status);
  }
}

let csrfToken = "";

/** Set the token that requests of this page carry if they change something. */
export function setCsrfToken(token: string): void {
  csrfToken = token;
}

export const client = createClient<paths>({
  fetch: async (request) => {
    try {
      const response = await fetch(request);
      reportAnswer(!UNAVAILABLE.has(response.status));
      return response;
    } catch (error) {
      if (request.signal.aborted) throw error;
      reportAnswer(false);
      throw new ApiError("The server does not answer.", 0, "Check that it runs and that this machine reaches it.");
    }
  },
});

client.use({
  onRequest({ request }) {
    if (request.method !== "GET") request.headers.set("X-CSRF-Token", csrfToken);
    return request;
  },
});

/** As `unwrap`, for a route that also answers with another media type than JSON. */
export async function unwrapAs<T>(answer: Promise<Answer<unknown>>): Promise<T> {
  return (await unwrap(answer)) as T;
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

function isProblem(value: unknown): value is Problem {
  return typeof value === "object" && value !== null && "detail" in value && typeof value.detail === "string";
}

/** Return the body of a successful answer, or throw its problem. */
export async function unwrap<T>(answer: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await answer;
  if (response.ok) return data as T;
  if (isProblem(error)) {
    // The detail of a single field repeats it.
    const named = (error.errors ?? []).filter((each) => !error.detail.includes(each.detail));
    const fields = named.map((each) => `${each.pointer}: ${each.detail}`).join("; ");
    const message = fields === "" ? error.detail : `${error.detail}: ${fields}`;
    throw new ApiError(message, response.status, error.hint, error.request_id);
  }
  throw new ApiError(`The server answered with status ${response.status}.`, response.status);
}
