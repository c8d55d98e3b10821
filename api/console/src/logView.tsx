/** The log of a job: follows it, finds lines, and saves what was loaded. */

import { Button, Checkbox, TextInput } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef, useState } from "react";
import { client } from "./api";
import { saveText } from "./files";
import { count } from "./format";
import { Failure } from "./widgets";

const POLL_MILLISECONDS = 1500;
const MAX_LINES = 50_000;
const FIRST_LINES = 5000;
const LINE_PIXELS = 20;

interface Log {
  lines: string[];
  ended: boolean;
  error: Error | null;
}

async function read(project: string, job: string, offset: number | null, signal: AbortSignal) {
  const query = offset === null ? { tail: FIRST_LINES } : { offset };
  const { data, response } = await client.GET("/v1/projects/{project}/jobs/{job}/logs", {
    params: { path: { project, job }, query },
    parseAs: "text",
    signal,
  });
  if (!response.ok) throw new Error(`The log is not available (status ${response.status}).`);
  return {
    text: String(data),
    next: Number(response.headers.get("Windlass-Next-Offset") ?? "0"),
    ended: response.headers.get("Windlass-Log-End") === "true",
  };
}

/** Follow a log from its last lines until its end. */
function useLog(project: string, job: string): Log {
  const [log, setLog] = useState<Log>({ lines: [], ended: false, error: null });
  useEffect(() => {
    const controller = new AbortController();
    let timer = 0;
    let offset: number | null = null;
    let rest = "";
    const poll = async () => {
      try {
        const part = await read(project, job, offset, controller.signal);
        const lines = (rest + part.text).split("\n");
        rest = lines.pop() ?? "";
        const more = offset !== part.next;
        offset = part.next;
        const ended = part.ended && part.text === "";
        setLog((log) => ({ lines: [...log.lines, ...lines].slice(-MAX_LINES), ended, error: null }));
        if (!ended) timer = window.setTimeout(() => void poll(), more && part.text !== "" ? 50 : POLL_MILLISECONDS);
      } catch (error) {
        if (controller.signal.aborted) return;
        setLog((log) => ({ ...log, error: error instanceof Error ? error : new Error(String(error)) }));
        timer = window.setTimeout(() => void poll(), POLL_MILLISECONDS);
      }
    };
    void poll();
    return () => {
      controller.abort();
      window.clearTimeout(timer);
    };
  }, [project, job]);
  return log;
}

export function LogView({ project, job }: { project: string; job: string }) {
  const { lines, ended, error } = useLog(project, job);
  const [text, setText] = useState("");
  const [follow, setFollow] = useState(true);
  const found = useMemo(() => {
    const wanted = text.toLowerCase();
    return wanted === "" ? lines : lines.filter((line) => line.toLowerCase().includes(wanted));
  }, [lines, text]);
  const element = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: found.length,
    getScrollElement: () => element.current,
    estimateSize: () => LINE_PIXELS,
    overscan: 30,
  });
  useEffect(() => {
    if (follow && found.length > 0) rows.scrollToIndex(found.length - 1);
  }, [follow, found.length, rows]);
  const save = () => {
    saveText(`${lines.join("\n")}\n`, `${job}.log`);
  };
  return (
    <>
      <div className="filters">
        <TextInput
          label="Find lines"
          value={text}
          onChange={(event) => {
            setText(event.currentTarget.value);
          }}
        />
        <Checkbox
          label="Follow the end"
          checked={follow}
          onChange={(event) => {
            setFollow(event.currentTarget.checked);
          }}
        />
        <Button variant="default" onClick={save} disabled={lines.length === 0}>
          Save
        </Button>
      </div>
      {error ? <Failure error={error} /> : null}
      <p className="sub">
        {text === "" ? `${count(lines.length)} lines` : `${count(found.length)} of ${count(lines.length)} lines`}
        {ended ? "" : ", more may come"}
      </p>
      <div className="log" ref={element} tabIndex={0} role="region" aria-label="Log">
        <div style={{ height: rows.getTotalSize() }}>
          {rows.getVirtualItems().map((row) => (
            <div key={row.key} className="log-line" style={{ transform: `translateY(${row.start}px)` }}>
              {found[row.index]}
            </div>
          ))}
        </div>
      </div>
    </>
  );
}
