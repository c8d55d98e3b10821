/** Curves of a job's metrics. Drag to zoom, double-click to see all. */

import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import UPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { metric } from "./format";

const HEIGHT = 180;

export interface Series {
  name: string;
  steps: number[];
  values: (number | null)[];
}

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

export function Curve({ series, weight }: { series: Series; weight: number }) {
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<UPlot | null>(null);
  const dark = useComputedColorScheme("light") === "dark";

  useEffect(() => {
    const target = element.current;
    if (!target) return;
    const ink = dark ? "#c9c9c9" : "#495057";
    const axis = { stroke: ink, grid: { stroke: dark ? "#373a40" : "#e9ecef", width: 1 }, ticks: { show: false } };
    const line = dark ? "#74c0fc" : "#1864ab";
    const created = new UPlot(
      {
        width: target.clientWidth,
        height: HEIGHT,
        scales: { x: { time: false } },
        legend: { show: false },
        cursor: { y: false },
        axes: [{ ...axis, size: 30 }, { ...axis, size: 56, values: (_, ticks) => ticks.map(metric) }],
        series: [
          { label: "step" },
          { label: "raw", stroke: `${line}55`, width: 1, points: { show: false } },
          { label: "smoothed", stroke: line, width: 2 },
        ],
      },
      [[], [], []],
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
  }, [dark]);

  useEffect(() => {
    const chart = plot.current;
    if (!chart) return;
    const { min, max } = chart.scales.x ?? {};
    const before = chart.data[0];
    const zoomed = before.length > 0 && (min !== before[0] || max !== before.at(-1));
    chart.setData([series.steps, weight > 0 ? series.values : [], smoothed(series.values, weight)], !zoomed);
    if (zoomed) chart.redraw();
  }, [series, weight, dark]);

  const last = series.values.at(-1);
  const text = last === null || last === undefined ? "no value" : metric(last);
  return (
    <figure className="curve">
      <figcaption>
        <strong>{series.name}</strong>
        <span>
          {text} at step {series.steps.at(-1) ?? 0}
        </span>
      </figcaption>
      <div ref={element} role="img" aria-label={`Curve of ${series.name}; the newest value is ${text}`} />
    </figure>
  );
}
