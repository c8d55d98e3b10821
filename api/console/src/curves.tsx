/** Curves of metrics. Drag to zoom, double-click to see all. */

import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import UPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { metric } from "./format";

const HEIGHT = 180;
const DAYS = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
/** For light and for dark: with a contrast of 3 to the ground, and different for the colour-blind. */
const LINES: [string, string][] = [
  ["#1864ab", "#74c0fc"],
  ["#c2410c", "#ffa94d"],
  ["#2b8a3e", "#8ce99a"],
  ["#9c36b5", "#e599f7"],
  ["#7a5200", "#ffd43b"],
  ["#0b7285", "#66d9e8"],
  ["#a61e4d", "#faa2c1"],
  ["#495057", "#ced4da"],
];

export interface Series {
  name: string;
  /** Training steps, or seconds since 1970. */
  steps: number[];
  values: (number | null)[];
}

/** A curve among others; its name says whose it is. */
export type NamedSeries = Series;

type Column = (number | null | undefined)[];

/** Exponential moving average without the bias of its start; `weight` 0 changes nothing. */
export function smoothed(values: (number | null)[], weight: number): (number | null)[] {
  let average = 0;
  let total = 0;
  return values.map((value) => {
    if (value === null) return null;
    average = average * weight + value * (1 - weight);
    total = total * weight + (1 - weight);
    return average / total;
  });
}

/** The columns of a plot: the steps of all series, then the raw and the smoothed values of each. */
function columns(series: Series[], weight: number): [number[], ...Column[]] {
  const tables = series.map((each) => {
    const raw: [number[], ...Column[]] = [each.steps, weight > 0 ? each.values : each.values.map(() => undefined), smoothed(each.values, weight)];
    return raw;
  });
  if (tables.length === 0) return [[]];
  // Between the points of one series there are steps of the others: undefined is no gap, null is one.
  return UPlot.join(tables) as unknown as [number[], ...Column[]];
}

/** The times of an axis: days where it has some, else times of the day. */
function times(_: UPlot, ticks: number[]): string[] {
  const format = (ticks.at(-1) ?? 0) - (ticks[0] ?? 0) >= 2 * 86_400 ? DAYS : CLOCK;
  return ticks.map((tick) => format.format(tick * 1000));
}

/** The range of counts and times, which are never negative. */
function fromZero(_: UPlot, __: number | null, most: number | null): [number, number] {
  return [0, (most ?? 0) > 0 ? (most ?? 0) * 1.05 : 1];
}

/** The part of the horizontal axis to which the user has zoomed; null: all is shown. */
function shownPart(chart: UPlot): Range | null {
  const { min, max } = chart.scales.x ?? {};
  const [first, last] = [chart.data[0][0], chart.data[0].at(-1)];
  // The axis of a single point is wider than the point.
  if (first === undefined || last === first || last === undefined || min === undefined || max === undefined) return null;
  return min === first && max === last ? null : [min, max];
}

/** A series with the points of a part of it replaced by more detailed ones. */
export function withDetail(series: Series, detail: Series): Series {
  const [first, last] = [detail.steps[0], detail.steps.at(-1)];
  if (first === undefined || last === undefined) return series;
  const end = series.steps.findIndex((step) => step >= first);
  const rest = series.steps.findIndex((step) => step > last);
  const [head, tail] = [end < 0 ? series.steps.length : end, rest < 0 ? series.steps.length : rest];
  return {
    name: series.name,
    steps: [...series.steps.slice(0, head), ...detail.steps, ...series.steps.slice(tail)],
    values: [...series.values.slice(0, head), ...detail.values, ...series.values.slice(tail)],
  };
}

function colour(index: number, dark: boolean): string {
  const pair = LINES[index % LINES.length] as [string, string];
  return pair[dark ? 1 : 0];
}

interface CurveProps {
  name: string;
  /** At least one; their number does not change. */
  series: Series[];
  weight: number;
  /** What the horizontal axis has. Values over time start at 0. */
  kind?: "step" | "time";
  /** Called with the shown part of the horizontal axis when the user zooms, and with null when all is shown again. */
  onZoom?: (range: Range | null) => void;
}

export type Range = [from: number, to: number];

export function Curve({ name, series, weight, kind = "step", onZoom }: CurveProps) {
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);
  const zoomed = useRef(onZoom);
  useEffect(() => {
    zoomed.current = onZoom;
  }, [onZoom]);
  const dark = useComputedColorScheme("light") === "dark";
  const size = series.length;
  const time = kind === "time";

  useEffect(() => {
    const target = element.current;
    if (!target) return;
    const ink = dark ? "#c9c9c9" : "#495057";
    const axis = { stroke: ink, grid: { stroke: dark ? "#373a40" : "#e9ecef", width: 1 }, ticks: { show: false } };
    // Between times without a value a point has no line.
    const points = time ? { show: true, size: 4 } : { show: size === 1 ? undefined : false };
    const lines = Array.from({ length: size }, (_, index) => [
      { label: "raw", stroke: `${colour(index, dark)}55`, width: 1, points: { show: false }, spanGaps: false },
      { label: "smoothed", stroke: colour(index, dark), width: 2, points },
    ]).flat();
    const created = new UPlot(
      {
        width: target.clientWidth,
        height: HEIGHT,
        scales: { x: { time }, ...(time ? { y: { range: fromZero } } : {}) },
        legend: { show: false },
        cursor: { y: false },
        axes: [{ ...axis, size: 30, ...(time ? { values: times } : {}) }, { ...axis, size: 56, values: (_, ticks) => ticks.map(metric) }],
        series: [{ label: "step" }, ...(lines as UPlot.Series[])],
        hooks: {
          setScale: [
            (chart, key) => {
              if (key === "x") zoomed.current?.(shownPart(chart));
            },
          ],
        },
      },
      [[], ...lines.map(() => [])],
      target,
    );
    plot.current = created;
    const resized = new ResizeObserver(() => {
      created.setSize({ width: target.clientWidth, height: HEIGHT });
    });
    resized.observe(target);
    return () => {
      resized.disconnect();
      created.destroy();
      plot.current = null;
    };
  }, [dark, size, time]);

  useEffect(() => {
    const chart = plot.current;
    if (!chart) return;
    const part = shownPart(chart);
    chart.setData(columns(series, weight), part === null);
    if (part) chart.redraw();
  }, [series, weight, dark, time]);

  const newest = (each: Series) => {
    const value = each.values.at(-1);
    return value === null || value === undefined ? "no value" : metric(value);
  };
  const [first] = series;
  const text = series.map((each) => `${size > 1 ? `${each.name}: ` : ""}${newest(each)}`).join("; ");
  return (
    <figure className="curve">
      <figcaption>
        <strong>{name}</strong>
        {size === 1 && first ? (
          <span>
            {newest(first)}
            {time ? "" : ` at step ${first.steps.at(-1) ?? 0}`}
          </span>
        ) : null}
      </figcaption>
      <div ref={element} role="img" aria-label={`Curve of ${name}; the newest value is ${text}`} />
      {size > 1 ? (
        <ul className="keys">
          {series.map((each, index) => (
            <li key={each.name}>
              <span aria-hidden style={{ background: colour(index, dark) }} />
              <span className="breakable">
                {each.name}, {newest(each)}
              </span>
            </li>
          ))}
        </ul>
      ) : null}
    </figure>
  );
}
