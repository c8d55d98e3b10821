import { Button, Group } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { client, unwrap } from "../api";
import { useMay, whoamiQuery } from "../session";
import { Command, Empty } from "../widgets";

/** What to do next in a project without jobs. */
export function FirstSteps({ project, mayWrite }: { project: string; mayWrite: boolean }) {
  const mayUpload = useMay(project, "datasets:write");
  const mayAdd = useQuery(whoamiQuery).data?.permissions.includes("base-models:write") ?? false;
  const models = useQuery({
    queryKey: ["base models"],
    queryFn: ({ signal }) => unwrap(client.GET("/v1/base-models", { params: { query: { limit: 1 } }, signal })),
  });
  const datasets = useQuery({
    queryKey: ["first dataset", project],
    queryFn: ({ signal }) =>
      unwrap(client.GET("/v1/projects/{project}/datasets", { params: { path: { project }, query: { limit: 1 } }, signal })),
  });
  if (!mayWrite) {
    return (
      <Empty title="No jobs yet">
        <p>Nobody has started a job in {project}. You may read it, and not start jobs.</p>
      </Empty>
    );
  }
  const example = ["windlass examples fetch reviews minilm-l6", "windlass base-model add minilm-l6 examples/minilm-l6"];
  const hasData = (datasets.data?.items.length ?? 0) > 0;
  return (
    <Empty title="No jobs yet">
      <p>A job tunes a base model on a dataset, and its result is a model that you can serve and call.</p>
      <ol className="steps">
        {models.data?.items.length === 0 ? (
          <li>
            The server needs a base model. {mayAdd ? "Add one, for example a small encoder:" : "Ask a platform admin to add one."}
            {mayAdd ? <Command text={example.join("\n")} /> : null}
          </li>
        ) : null}
        {mayUpload ? (
          <li>
            {hasData ? "The project has data. You can upload more." : "Upload a file with examples, or try the example data."}
            <Group gap="xs" mt="xs">
              <Button
                variant={hasData ? "default" : "filled"}
                renderRoot={(props) => <Link to="/projects/$project/upload" params={{ project }} {...props} />}
              >
                Upload data
              </Button>
              {hasData ? null : (
                <Button
                  variant="default"
                  renderRoot={(props) => (
                    <Link to="/projects/$project/upload" params={{ project }} search={{ example: true }} {...props} />
                  )}
                >
                  Use the example data
                </Button>
              )}
            </Group>
          </li>
        ) : null}
        <li>
          Start a job on it. It appears on this page.
          {hasData ? (
            <Group mt="xs">
              <Button renderRoot={(props) => <Link to="/projects/$project/new-job" params={{ project }} {...props} />}>
                Start the first job
              </Button>
            </Group>
          ) : null}
        </li>
        <li>Serve its result, and call it.</li>
      </ol>
    </Empty>
  );
}
