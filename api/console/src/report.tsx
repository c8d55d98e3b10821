/** A training report: a page that the server makes of texts of users, shown in a frame that runs nothing. */

import { Anchor } from "@mantine/core";
import { Section } from "./widgets";

interface ReportProps {
  project: string;
  model: string;
  number: number;
}

export function reportAddress({ project, model, number }: ReportProps): string {
  return `/v1/projects/${project}/models/${model}/versions/${number}/report`;
}

export function ReportFrame(props: ReportProps) {
  const address = reportAddress(props);
  return (
    <Section
      title="Training report"
      extra={
        <Anchor href={address} target="_blank" rel="noopener" underline="always" inherit>
          Open it alone
        </Anchor>
      }
    >
      <iframe className="report" title="Training report" src={address} sandbox="" loading="lazy" />
    </Section>
  );
}
