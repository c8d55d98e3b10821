/** Small parts that all pages use. */

import { Alert, Button, Code, Group, Loader, Text, Title } from "@mantine/core";
import { createContext, useContext, useEffect, useState, type ReactNode } from "react";
import { ApiError } from "./api";
import { capitalized, exactTime, relativeTime, words } from "./format";

const Now = createContext(0);

/** Provides the current time, which moves every five seconds, so that all ages on a page agree. */
export function Clock({ children }: { children: ReactNode }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => {
      setNow(Date.now());
    }, 5000);
    return () => {
      clearInterval(timer);
    };
  }, []);
  return <Now value={now}>{children}</Now>;
}

export function useNow(): number {
  return useContext(Now);
}

/** A time as an age; the exact one is its title. */
export function Ago({ time }: { time: string }) {
  const now = useNow();
  return (
    <time dateTime={time} title={exactTime(time)}>
      {relativeTime(time, now)}
    </time>
  );
}

/** What went wrong, what to do, and the id by which an admin finds the request in the log. */
export function Failure({ error, retry }: { error: unknown; retry?: () => void }) {
  const known = error instanceof ApiError ? error : null;
  const message = error instanceof Error ? error.message : String(error);
  return (
    <Alert color="red" variant="outline" className="failure" title="That did not work" role="alert">
      <Text size="sm">{message}</Text>
      {known?.hint ? (
        <Text size="sm" mt={4}>
          What to do: {known.hint}
        </Text>
      ) : null}
      {known?.requestId ? (
        <Text size="xs" mt={4} c="dimmed">
          Request <Code>{known.requestId}</Code>
        </Text>
      ) : null}
      {retry ? (
        <Button size="xs" variant="default" mt="sm" onClick={retry}>
          Try again
        </Button>
      ) : null}
    </Alert>
  );
}

export function Loading() {
  return (
    <Group gap="sm" py="xl" justify="center" role="status">
      <Loader size="sm" aria-hidden />
      <Text c="dimmed">Loading</Text>
    </Group>
  );
}

interface Loaded<T> {
  data: T | undefined;
  error: Error | null;
  refetch: () => unknown;
}

/** Shows data when it is there; an error of a repeated request does not replace the data of an earlier one. */
export function Show<T>({ query, children }: { query: Loaded<T>; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return children(query.data);
  if (query.error) return <Failure error={query.error} retry={() => void query.refetch()} />;
  return <Loading />;
}

const TONES: Record<string, string> = {
  queued: "wait",
  starting: "active",
  running: "active",
  cancelling: "wait",
  succeeded: "good",
  failed: "bad",
  cancelled: "idle",
  ready: "good",
  processing: "active",
  pending: "wait",
  "rolling-out": "active",
  stopped: "idle",
  deleting: "wait",
  candidate: "good",
  rejected: "bad",
  error: "bad",
  warning: "wait",
};

/** A state as a word with a colour. */
export function State({ value }: { value: string }) {
  return <span className={`state state-${TONES[value] ?? "idle"}`}>{capitalized(words(value))}</span>;
}

export function PageHead({ title, lead, children }: { title: string; lead?: ReactNode; children?: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Windlass`;
  }, [title]);
  return (
    <header className="page-head">
      <div className="grow">
        <Title order={1} className="breakable">
          {title}
        </Title>
        {lead ? <div className="lead">{lead}</div> : null}
      </div>
      {children ? <Group gap="xs">{children}</Group> : null}
    </header>
  );
}

export function Section({ title, extra, children }: { title: string; extra?: ReactNode; children: ReactNode }) {
  return (
    <section className="panel" aria-label={title}>
      <div className="panel-head">
        <Title order={2}>{title}</Title>
        {extra}
      </div>
      {children}
    </section>
  );
}

/** A list of names and values. */
export function Facts({ items }: { items: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {items.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <Title order={2}>{title}</Title>
      {children}
    </div>
  );
}

/** A command to copy, as text. */
export function Command({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  return (
    <div className="command">
      <pre tabIndex={0}>{text}</pre>
      <Button size="compact-xs" variant="default" onClick={() => void copy()}>
        {copied ? "Copied" : "Copy"}
      </Button>
    </div>
  );
}

/** A horizontal bar of a share between 0 and 1. */
export function Bar({ value, label }: { value: number; label: string }) {
  const percent = Math.round(Math.min(1, Math.max(0, value)) * 100);
  return (
    <div className="bar" role="progressbar" aria-label={label} aria-valuenow={percent} aria-valuemin={0} aria-valuemax={100}>
      <div style={{ width: `${percent}%` }} />
    </div>
  );
}
