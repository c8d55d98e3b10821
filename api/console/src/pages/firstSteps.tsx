import { Command, Empty } from "../widgets";

/** What to do next in a project without jobs. */
export function FirstSteps({ project, mayWrite }: { project: string; mayWrite: boolean }) {
  if (!mayWrite) {
    return (
      <Empty title="No jobs yet">
        <p>Nobody has started a job in {project}. You may read it, and not start jobs.</p>
      </Empty>
    );
  }
  const model = ["windlass examples fetch reviews minilm-l6", "windlass base-model add minilm-l6 examples/minilm-l6"];
  const data = [
    `windlass dataset upload reviews examples/reviews/reviews.csv --project ${project} \\`,
    "  --task text-classification",
  ];
  const job = [
    `windlass job create --project ${project} --task text-classification \\`,
    "  --base-model minilm-l6 --dataset reviews --model review-sentiment",
  ];
  return (
    <Empty title="No jobs yet">
      <p>A job tunes a base model on a dataset. Start the first one of {project} with the command line:</p>
      <ol className="steps">
        <li>
          Get example data, reviews with labels, and a small base model. Only a platform admin adds base models.
          <Command text={model.join("\n")} />
        </li>
        <li>
          Store the data as a dataset. The server checks it and reports what it found.
          <Command text={data.join("\n")} />
        </li>
        <li>
          Start a job. It appears on this page.
          <Command text={job.join("\n")} />
        </li>
      </ol>
    </Empty>
  );
}
