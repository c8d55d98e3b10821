import { Button } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { client, unwrap } from "../api";
import { words } from "../format";
import { Items } from "../items";
import { datasetsRoute } from "../router";
import { useMay } from "../session";
import { Ago, Command, Empty, PageHead } from "../widgets";

export function DatasetsPage() {
  const { project } = datasetsRoute.useParams();
  const mayWrite = useMay(project, "datasets:write");
  const datasets = useInfiniteQuery({
    queryKey: ["datasets", project],
    queryFn: ({ pageParam, signal }) =>
      unwrap(
        client.GET("/v1/projects/{project}/datasets", {
          params: { path: { project }, query: pageParam === null ? {} : { cursor: pageParam } },
          signal,
        }),
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? null,
  });
  return (
    <>
      <PageHead title="Datasets" lead="Each has numbered versions that never change.">
        {mayWrite ? (
          <Button renderRoot={(props) => <Link to="/projects/$project/upload" params={{ project }} {...props} />}>
            Upload data
          </Button>
        ) : null}
      </PageHead>
      <Items
        query={datasets}
        label="Datasets"
        empty={
          <Empty title="No datasets yet">
            <p>A CSV file with a header is enough. The server checks it and reports what it found.</p>
            <Command text="windlass dataset upload tickets tickets.csv --task text-classification" />
          </Empty>
        }
      >
        {(dataset) => (
          <Link
            key={dataset.id}
            to="/projects/$project/datasets/$dataset"
            params={{ project, dataset: dataset.name }}
            className="row"
          >
            <span className="row-main">
              <strong className="clip">{dataset.name}</strong>
              <span className="clip sub">{dataset.description || words(dataset.task)}</span>
            </span>
            <span className="row-end sub">
              <span>{dataset.latest === null ? "no ready version" : `version ${dataset.latest}`}</span>
              <Ago time={dataset.created_at} />
            </span>
          </Link>
        )}
      </Items>
    </>
  );
}
