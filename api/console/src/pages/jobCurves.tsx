/** The curves of a job. Zooming loads the points of the range. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { Curve, withDetail, type Range } from "../curves";
import { SmoothingSlider } from "../smoothingSlider";
import { Empty, Show } from "../widgets";

const LIVE_MILLISECONDS = 1500;
/** Points of each curve, about as many as it has pixels. */
const POINTS = 500;

interface CurvesProps {
  project: string;
  job: string;
  live: boolean;
}

export function Curves({ project, job, live }: CurvesProps) {
  const [smoothing, setSmoothing] = useState(0);
  const path = { project, job };
  const metrics = useQuery({
    queryKey: ["metrics", project, job],
    queryFn: ({ signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/jobs/{job}/metrics", { params: { path, query: { points: POINTS } }, signal }),
      ),
    refetchInterval: live ? LIVE_MILLISECONDS : false,
  });
  return (
    <Show query={metrics}>
      {({ series }) =>
        series.length === 0 ? (
          <Empty title="No curves yet">
            <p>They appear with the first training step.</p>
          </Empty>
        ) : (
          <>
            <SmoothingSlider value={smoothing} onChange={setSmoothing} />
            <p className="sub">Drag over a curve to zoom; double-click to see all of it.</p>
            <div className="curves">
              {series.map((each) => (
                <ZoomedCurve key={each.name} project={project} job={job} live={live} series={each} weight={smoothing} />
              ))}
            </div>
          </>
        )
      }
    </Show>
  );
}

interface ZoomedProps extends CurvesProps {
  series: Schemas["MetricSeriesOut"];
  weight: number;
}

/** The curve of one series, with all points of the part that is shown, as far as the plot can show them. */
function ZoomedCurve({ project, job, live, series, weight }: ZoomedProps) {
  const [range, setRange] = useState<Range | null>(null);
  const [after, through] = range ? [Math.ceil(range[0]) - 1, Math.floor(range[1])] : [-1, -1];
  const detail = useQuery({
    queryKey: ["metrics", project, job, series.name, after, through],
    queryFn: ({ signal }) => {
      const query = { names: series.name, after, through, points: POINTS };
      const params = { path: { project, job }, query };
      return unwrap(client.GET("/v1/projects/{project}/jobs/{job}/metrics", { params, signal }));
    },
    enabled: through > after && series.total > series.steps.length,
    placeholderData: keepPreviousData,
    refetchInterval: live ? LIVE_MILLISECONDS : false,
  });
  const points = range ? detail.data?.series[0] : undefined;
  const list = useMemo(() => [points ? withDetail(series, points) : series], [series, points]);
  const onZoom = useCallback((next: Range | null) => {
    setRange((now) => (now && next && now[0] === next[0] && now[1] === next[1] ? now : next));
  }, []);
  return <Curve name={series.name} series={list} weight={weight} onZoom={onZoom} />;
}
