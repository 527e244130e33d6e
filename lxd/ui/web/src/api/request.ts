import type { Envelope } from "./types.ts";

/** An answer of the API's that says no, in its own words. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

export interface Answer<T> {
  metadata: T;
  etag: string;
  /** The operation that a request has begun, by its URL. */
  operation: string;
}

export interface Options {
  body?: unknown;
  etag?: string;
  signal?: AbortSignal;
}

let onForbidden: () => void = () => {};

/** Names what to call when the server refuses something: the session may be over. */
export function whenForbidden(f: () => void): void {
  onForbidden = f;
}

/** Joins path elements and parameters; each element is escaped. */
export function path(elements: string[], params: Record<string, string | undefined> = {}): string {
  const query = Object.entries(params)
    .filter((p): p is [string, string] => p[1] !== undefined && p[1] !== "")
    .map(([k, v]) => `${encodeURIComponent(k)}=${encodeURIComponent(v)}`)
    .join("&");
  const joined = "/1.0" + elements.map((e) => "/" + encodeURIComponent(e)).join("");
  return query === "" ? joined : joined + "?" + query;
}

/** Sends one request; an answer that is an error is thrown. */
export async function request<T>(method: string, url: string, options: Options = {}): Promise<Answer<T>> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  if (options.etag) headers["If-Match"] = options.etag;
  const response = await fetch(url, {
    method,
    headers,
    body: options.body === undefined ? undefined : JSON.stringify(options.body),
    signal: options.signal,
    credentials: "same-origin",
    cache: "no-store",
  });
  const text = await response.text();
  let envelope: Envelope;
  try {
    envelope = JSON.parse(text) as Envelope;
  } catch {
    throw new ApiError(response.status, text.slice(0, 300) || response.statusText);
  }
  if (envelope.type === "error" || !response.ok) {
    if (response.status === 401 || response.status === 403) onForbidden();
    throw new ApiError(envelope.error_code || response.status, envelope.error || response.statusText);
  }
  return {
    metadata: envelope.metadata as T,
    etag: (response.headers.get("ETag") ?? "").replace(/^"|"$/g, ""),
    operation: envelope.operation ?? "",
  };
}

export async function get<T>(url: string, signal?: AbortSignal): Promise<T> {
  return (await request<T>("GET", url, { signal })).metadata;
}

/** Fetches text that is in no envelope, such as a log; an error has one. */
export async function text(url: string): Promise<string> {
  const response = await fetch(url, { credentials: "same-origin", cache: "no-store" });
  const body = await response.text();
  if (response.ok) return body;
  let message = response.statusText;
  try {
    message = (JSON.parse(body) as Envelope).error || message;
  } catch {
    // not an envelope: the status has to do
  }
  throw new ApiError(response.status, message);
}

/** The address of a websocket at a path of the API's. */
export function websocketURL(location: { protocol: string; host: string }, p: string): string {
  return (location.protocol === "https:" ? "wss://" : "ws://") + location.host + p;
}
