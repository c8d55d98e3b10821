/** Names for versions of a model, such as champion: endpoints that serve an alias follow it. */

import { Button, NumberInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { useMay } from "../session";
import { Failure, Section } from "../widgets";

export function Aliases({ project, model }: { project: string; model: Schemas["ModelOut"] }) {
  const queries = useQueryClient();
  const mayWrite = useMay(project, "models:write");
  const [alias, setAlias] = useState("");
  const [version, setVersion] = useState(model.latest ?? 1);
  const setting = useMutation({
    mutationFn: () => {
      const path = { project, model: model.name, alias: alias.trim() };
      const url = "/v1/projects/{project}/models/{model}/aliases/{alias}";
      return unwrap(client.PUT(url, { params: { path }, body: { version } }));
    },
    onSuccess: async () => {
      setAlias("");
      await queries.invalidateQueries({ queryKey: ["model", project, model.name] });
    },
  });
  const names = Object.entries(model.aliases);
  if (!mayWrite && names.length === 0) return null;
  return (
    <Section title="Aliases">
      {names.length > 0 ? (
        <ul className="plain">
          {names.map(([name, number]) => (
            <li key={name}>
              <strong>{name}</strong> is version {number}
            </li>
          ))}
        </ul>
      ) : null}
      {mayWrite ? (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            setting.mutate();
          }}
        >
          <div className="filters">
            <TextInput
              label="Alias"
              description="Such as champion; endpoints follow it"
              value={alias}
              required
              onChange={(event) => {
                setAlias(event.currentTarget.value);
              }}
            />
            <NumberInput
              label="Version"
              description="One that passed its gates"
              value={version}
              min={1}
              allowDecimal={false}
              onChange={(value) => {
                setVersion(Number(value));
              }}
            />
            <Button type="submit" variant="default" loading={setting.isPending}>
              Set the alias
            </Button>
          </div>
          {setting.error ? <Failure error={setting.error} /> : null}
        </form>
      ) : null}
    </Section>
  );
}
