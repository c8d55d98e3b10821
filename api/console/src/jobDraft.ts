/** What the form of a job contains, and the spec that it makes. */

import type { Schemas } from "./api";
import { asName, type Task } from "./options";

export type Spec = Schemas["JobSpec"];
/** The parts of a spec that the form changes; the others are those of the job that is repeated. */
export interface Draft {
  name: string;
  dataset: string;
  task: Task;
  base_model: string;
  model: string;
  method: "full" | "head-only" | "lora";
  rank: number | null;
  pool: string;
  workers: number;
  gpus: number;
  training: Record<string, number | null>;
  gates: string;
  endpoint: string;
  priority: number;
}

/** Hyperparameters of the form; a number that is left open is chosen by the server. */
export const TRAINING: [string, string][] = [
  ["epochs", "How often each row is seen"],
  ["learning_rate", "How far a step goes"],
  ["batch_size", "Rows of a step and process"],
  ["max_steps", "At most so many steps; open: all epochs"],
  ["max_length", "Tokens of a row; longer ones are cut"],
  ["warmup_ratio", "Share of the steps in which the rate rises"],
  ["weight_decay", "Pull of the weights to zero"],
  ["gradient_accumulation", "Micro-batches of a step"],
  ["seed", "Of all random numbers"],
];
export const METHODS = [
  { value: "full", label: "All weights" },
  { value: "lora", label: "LoRA" },
  { value: "head-only", label: "Head only" },
];

/** What a job of the project may use. */
export interface Choices {
  datasets: Schemas["DatasetOut"][];
  models: Schemas["BaseModelOut"][];
  pools: string[];
}

/** What the form begins with. */
export function firstDraft(choices: Choices, spec: Spec | null, dataset: string | null): Draft {
  const first = choices.datasets.find((each) => each.name === dataset?.split("@")[0]) ?? choices.datasets[0];
  const task = spec?.task ?? first?.task ?? "text-classification";
  const fitting = choices.models.filter((each) => each.tasks.includes(task));
  const method = spec?.method;
  const training = (spec?.training ?? {}) as Record<string, unknown>;
  const gates = spec?.evaluation.gates ?? [];
  return {
    name: spec?.name ?? "",
    dataset: dataset ?? (first ? `${first.name}@${first.latest ?? 1}` : ""),
    task,
    base_model: spec?.base_model ?? fitting[0]?.name ?? "",
    model: spec?.model ?? (first ? asName(`${first.name}-model`) : ""),
    method: method?.type ?? "full",
    rank: method?.type === "lora" ? method.rank : null,
    pool: spec?.resources.pool ?? choices.pools[0] ?? "local",
    workers: spec?.resources.workers ?? 1,
    gpus: spec?.resources.gpus_per_worker ?? 1,
    training: Object.fromEntries(
      TRAINING.map(([name]) => [name, typeof training[name] === "number" ? training[name] : null]),
    ),
    gates: gates.map((gate) => `${gate.metric} ${gate.operator} ${gate.threshold}`).join("\n"),
    endpoint: spec?.deploy?.endpoint ?? "",
    priority: spec?.priority ?? 0,
  };
}

/** The spec of a draft; what it leaves open is absent. */
export function specOf(draft: Draft, origin: Spec | null): Spec {
  const open = Object.fromEntries(TRAINING.map(([name]) => [name, undefined]));
  const set = Object.fromEntries(Object.entries(draft.training).filter(([, value]) => value !== null));
  const lora = origin?.method.type === "lora" ? origin.method : {};
  const spec = {
    ...origin,
    name: draft.name === "" ? null : draft.name,
    task: draft.task,
    base_model: draft.base_model,
    dataset: draft.dataset,
    model: draft.model,
    method: draft.method === "lora" ? { ...lora, type: "lora", ...(draft.rank === null ? {} : { rank: draft.rank }) } : { type: draft.method },
    training: { ...origin?.training, ...open, ...set },
    evaluation: { ...origin?.evaluation, gates: draft.gates.split("\n").map((gate) => gate.trim()).filter((gate) => gate !== "") },
    resources: { ...origin?.resources, pool: draft.pool, workers: draft.workers, gpus_per_worker: draft.gpus },
    deploy: draft.endpoint === "" ? null : { endpoint: draft.endpoint },
    priority: draft.priority,
  };
  return spec as unknown as Spec;
}
