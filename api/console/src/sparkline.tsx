/** A small curve in a row of a list: the loss of a job that runs. */

import { useQuery } from "@tanstack/react-query";
import { client, unwrap } from "./api";
import { metric } from "./format";

const POINTS = 40;
const MILLISECONDS = 5000;
const WIDTH = 72;
const HEIGHT = 20;

export function Sparkline({ project, job }: { project: string; job: string }) {
  const metrics = useQuery({
    queryKey: ["sparkline", project, job],
    queryFn: ({ signal }) => {
      const params = { path: { project, job }, query: { names: "train_loss", points: POINTS } };
      return unwrap(client.GET("/v1/projects/{project}/jobs/{job}/metrics", { params, signal }));
    },
    refetchInterval: MILLISECONDS,
  });
  const values = (metrics.data?.series[0]?.values ?? []).filter((value) => value !== null);
  const last = values.at(-1);
  if (values.length < 2 || last === undefined) return null;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const points = values.map((value, index) => {
    const height = most === least ? 0.5 : (value - least) / (most - least);
    return `${(index * WIDTH) / (values.length - 1)},${HEIGHT - 1 - height * (HEIGHT - 2)}`;
  });
  return (
    <svg className="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`Training loss ${metric(last)}`}>
      <polyline points={points.join(" ")} />
    </svg>
  );
}
