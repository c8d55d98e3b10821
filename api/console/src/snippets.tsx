/** What was just done in the page, for programs: curl, Python, and the openai client. */

import { Tabs } from "@mantine/core";
import { Command } from "./widgets";

/** Quote a text for a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A value as Python writes it: JSON, but with True, False and None. JSON strings are Python strings. */
function python(value: unknown): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value as Record<string, unknown>)
      .map(([key, each]) => `${JSON.stringify(key)}: ${python(each)}`)
      .join(", ")}}`;
  }
  return JSON.stringify(value);
}

function curl(url: string, body: unknown): string {
  return [
    `curl -H "Authorization: Bearer $WINDLASS_KEY" -H "Content-Type: application/json" \\`,
    `  ${quoted(url)} \\`,
    `  -d ${quoted(JSON.stringify(body))}`,
  ].join("\n");
}

interface SnippetsProps {
  /** Code by the name of its language or client. */
  snippets: Record<string, string>;
}

function Snippets({ snippets }: SnippetsProps) {
  const names = Object.keys(snippets);
  return (
    <section aria-label="The same from a program">
      <h3>The same from a program</h3>
      <Tabs defaultValue={names[0] ?? ""}>
        <Tabs.List>
          {names.map((name) => (
            <Tabs.Tab key={name} value={name}>
              {name}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {names.map((name) => (
          <Tabs.Panel key={name} value={name}>
            <Command text={snippets[name] ?? ""} />
          </Tabs.Panel>
        ))}
      </Tabs>
    </section>
  );
}

interface Address {
  project: string;
  endpoint: string;
  /** Path on this server. */
  path: string;
}

export function PredictSnippets({ address, inputs }: { address: Address; inputs: string[] }) {
  const url = `${window.location.origin}${address.path}`;
  const client = [
    "import os",
    "from windlass.sdk import Client",
    "",
    `with Client(${JSON.stringify(window.location.origin)}, os.environ["WINDLASS_KEY"], project=${JSON.stringify(address.project)}) as client:`,
    `    answer = client.endpoints.predict(${JSON.stringify(address.endpoint)}, ${python(inputs)}, top_k=5)`,
    "    print(answer)",
  ].join("\n");
  return <Snippets snippets={{ curl: curl(url, { inputs, top_k: 5 }), Python: client }} />;
}

export function ChatSnippets({ address, messages }: { address: Address; messages: { role: string; content: string }[] }) {
  const url = `${window.location.origin}${address.path}`;
  const base = url.replace(/\/chat\/completions$/, "");
  const openai = [
    "import os",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(base)}, api_key=os.environ["WINDLASS_KEY"])`,
    `answer = client.chat.completions.create(model=${JSON.stringify(address.endpoint)}, messages=${python(messages)})`,
    "print(answer.choices[0].message.content)",
  ].join("\n");
  return <Snippets snippets={{ curl: curl(url, { model: address.endpoint, messages }), openai }} />;
}
