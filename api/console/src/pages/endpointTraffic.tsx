/** Requests to an endpoint over time: how they ended, and how long they took. */

import { SegmentedControl } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useMemo, useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import type { Series } from "../curves";
import { count, duration, milliseconds } from "../format";
import { Empty, Facts, Loading, Section, Show } from "../widgets";

const Curve = lazy(async () => ({ default: (await import("../curves")).Curve }));
const REFETCH_MILLISECONDS = 15_000;
const HOURS = { "1": "Hour", "24": "Day", "168": "Week" };
type Traffic = Schemas["EndpointTrafficOut"];
type Point = Schemas["TrafficPointOut"];

export function EndpointTraffic({ project, endpoint }: { project: string; endpoint: string }) {
  const [hours, setHours] = useState<string>("1");
  const traffic = useQuery({
    queryKey: ["traffic", project, endpoint, hours],
    queryFn: ({ signal }) => {
      const since = new Date(Date.now() - Number(hours) * 3_600_000).toISOString();
      const params = { path: { project, endpoint }, query: { since } };
      return unwrap(client.GET("/v1/projects/{project}/endpoints/{endpoint}/traffic", { params, signal }));
    },
    placeholderData: keepPreviousData,
    refetchInterval: REFETCH_MILLISECONDS,
  });
  const choice = (
    <SegmentedControl
      size="xs"
      aria-label="Time of the requests"
      value={hours}
      onChange={setHours}
      data={Object.entries(HOURS).map(([value, label]) => ({ value, label }))}
    />
  );
  return (
    <Section title="Requests over time" extra={choice}>
      <Show query={traffic}>
        {(data) =>
          data.total.requests === 0 ? (
            <Empty title={`No requests in the last ${HOURS[hours as keyof typeof HOURS].toLowerCase()}`} />
          ) : (
            <Charts key={hours} traffic={data} />
          )
        }
      </Show>
    </Section>
  );
}

function Charts({ traffic }: { traffic: Traffic }) {
  const { total } = traffic;
  const [requests, errors, latencies] = useMemo(() => {
    const steps = traffic.points.map((point) => Date.parse(point.at) / 1000);
    const series = (name: string, value: (point: Point) => number | null): Series => ({
      name,
      steps,
      values: traffic.points.map(value),
    });
    return [
      [series("all", (point) => point.requests)],
      [series("failed (5xx)", (point) => point.failed), series("refused (4xx)", (point) => point.rejected)],
      [series("p95", (point) => point.p95_milliseconds), series("p50", (point) => point.p50_milliseconds)],
    ];
  }, [traffic]);
  return (
    <>
      <Facts
        items={[
          ["All", count(total.requests)],
          ["Failed (5xx)", count(total.failed)],
          ["Refused (4xx)", count(total.rejected)],
          ["Cancelled", count(total.cancelled)],
          ["p50", milliseconds(total.p50_milliseconds)],
          ["p95", milliseconds(total.p95_milliseconds)],
        ]}
      />
      <p className="sub">
        Each point has the requests that ended in {duration(traffic.step_seconds)}; latencies are of those that succeeded.
      </p>
      <Suspense fallback={<Loading />}>
        <div className="curves">
          <Curve name="Requests" series={requests} weight={0} kind="time" />
          <Curve name="Errors" series={errors} weight={0} kind="time" />
          <Curve name="Latency in milliseconds" series={latencies} weight={0} kind="time" />
        </div>
      </Suspense>
    </>
  );
}
