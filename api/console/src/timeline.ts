/** The stages of a job with their seconds, from the times of its events. */

import type { Schemas } from "./api";

export interface Stage {
  name: string;
  /** Null: not reached. */
  seconds: number | null;
  active: boolean;
}

type Event = Schemas["EventOut"];

function isStep(event: Event, step: string): boolean {
  return event.code.startsWith("step_") && event.context.step === step;
}

/** What begins each stage. */
const BEGINNINGS: [string, (event: Event) => boolean][] = [
  ["Starting", (event) => event.code === "job_admitted" || event.code === "run_created"],
  ["Loading", (event) => event.code === "attempt_started"],
  ["Training", (event) => event.code === "training_started" || event.code === "training_resumed"],
  ["Evaluating", (event) => event.code === "training_finished"],
  ["Registering", (event) => event.code === "evaluation_finished" || isStep(event, "register")],
  ["Deploying", (event) => event.code === "deploy_requested" || isStep(event, "deploy")],
];

export function timeline(job: Schemas["JobDetailOut"], events: Event[], now: number): Stage[] {
  const starts: [string, number | null][] = [["Queued", Date.parse(job.queued_at ?? job.created_at)]];
  for (const [name, begins] of BEGINNINGS) {
    if (name === "Deploying" && !job.spec.deploy) continue;
    const event = events.find(begins);
    starts.push([name, event ? Date.parse(event.time) : null]);
  }
  const end = job.finished_at ? Date.parse(job.finished_at) : null;
  const reached = starts.findLastIndex(([, start]) => start !== null);
  // Of a job that has ended only the stages that it reached.
  const shown = end === null ? starts : starts.filter(([, start]) => start !== null);
  return shown.map(([name, start]) => {
    if (start === null) return { name, seconds: null, active: false };
    const next = starts.slice(starts.findIndex(([each]) => each === name) + 1).find(([, each]) => each !== null)?.[1] ?? end ?? now;
    return { name, seconds: Math.max(0, (next - start) / 1000), active: end === null && name === starts[reached]?.[0] };
  });
}
