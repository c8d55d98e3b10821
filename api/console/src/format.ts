/** Numbers, times and sizes as text. */

const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

/** The exact time in the reader's zone. */
export function exactTime(text: string): string {
  return EXACT.format(new Date(text));
}

export function relativeTime(text: string, now: number): string {
  const seconds = (new Date(text).getTime() - now) / 1000;
  for (const [unit, length] of STEPS) {
    if (Math.abs(seconds) >= length) return RELATIVE.format(Math.trunc(seconds / length), unit);
  }
  return Math.abs(seconds) < 5 ? "just now" : RELATIVE.format(Math.trunc(seconds), "second");
}

/** A duration: 4.2 s, 3 min 12 s, 2 h 5 min. */
export function duration(seconds: number): string {
  if (seconds < 0) return "0 s";
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit] ?? ""}`;
}

export function count(value: number): string {
  return value.toLocaleString();
}

/** A score or loss with four significant digits. */
export function metric(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size < 0.001 || size >= 1e6 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** A latency: 42 ms, 1.5 s. */
export function milliseconds(value: number | null): string {
  if (value === null) return "–";
  return value < 1000 ? `${Math.round(value)} ms` : duration(value / 1000);
}

/** A name of the API for people: weighted_f1 becomes "weighted f1". */
export function words(name: string): string {
  return name.replaceAll(/[_-]/g, " ");
}

export function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A number with its noun: 1 row, 20 rows. */
export function plural(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}
