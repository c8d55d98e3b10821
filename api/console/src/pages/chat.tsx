/** Talk to chat endpoints; with a second endpoint both answer side by side. */

import { Button, Group, Select, Textarea } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { client, unwrap, type Schemas } from "../api";
import { streamAnswer, type Message } from "../chatStream";
import { ChatSnippets } from "../snippets";
import { Failure, Section } from "../widgets";

type Endpoint = Schemas["EndpointOut"];

interface Conversation {
  messages: Message[];
  error: Error | null;
}

const EMPTY: Conversation = { messages: [], error: null };

export function ChatPlayground({ project, endpoint }: { project: string; endpoint: Endpoint }) {
  const [other, setOther] = useState<string | null>(null);
  const [system, setSystem] = useState("");
  const [text, setText] = useState("");
  const [talks, setTalks] = useState<Record<string, Conversation>>({});
  const [running, setRunning] = useState(0);
  const stopping = useRef(new AbortController());
  const endpoints = useQuery({
    queryKey: ["endpoint choices", project],
    queryFn: ({ signal }) =>
      unwrap(client.GET("/v1/projects/{project}/endpoints", { params: { path: { project }, query: { limit: 200 } }, signal })),
  });
  const others = (endpoints.data?.items ?? []).filter((each) => each.task === "chat" && each.name !== endpoint.name);
  const names = other === null ? [endpoint.name] : [endpoint.name, other];
  useEffect(() => {
    const controller = stopping;
    return () => {
      controller.current.abort();
    };
  }, []);

  const ask = async (name: string, question: string, signal: AbortSignal) => {
    const update = (change: (talk: Conversation) => Conversation) => {
      setTalks((all) => ({ ...all, [name]: change(all[name] ?? EMPTY) }));
    };
    const before = (talks[name] ?? EMPTY).messages.filter((each) => each.role !== "system");
    const start: Message[] = system === "" ? [] : [{ role: "system", content: system }];
    const sent: Message[] = [...start, ...before, { role: "user", content: question }];
    update(() => ({ messages: [...sent, { role: "assistant", content: "" }], error: null }));
    setRunning((count) => count + 1);
    try {
      await streamAnswer(
        project,
        name,
        sent,
        (part) => {
          update((talk) => {
            const last = talk.messages.at(-1)?.content ?? "";
            return { ...talk, messages: [...talk.messages.slice(0, -1), { role: "assistant", content: last + part }] };
          });
        },
        signal,
      );
    } catch (error) {
      if (!signal.aborted) update((talk) => ({ ...talk, error: error instanceof Error ? error : new Error(String(error)) }));
    } finally {
      setRunning((count) => count - 1);
    }
  };
  const send = () => {
    if (text.trim() === "" || running > 0) return;
    stopping.current = new AbortController();
    for (const name of names) void ask(name, text, stopping.current.signal);
    setText("");
  };
  const messages = (talks[endpoint.name] ?? EMPTY).messages;
  return (
    <Section title="Try it">
      <div className="filters">
        <Select
          label="Compare with"
          description="Another endpoint answers the same, for example one of the base model"
          placeholder="None"
          clearable
          clearButtonProps={{ "aria-label": "Compare with none" }}
          data={others.map((each) => each.name)}
          value={other}
          onChange={setOther}
        />
        <Textarea
          label="System message"
          description="May be empty"
          autosize
          value={system}
          onChange={(event) => {
            setSystem(event.currentTarget.value);
          }}
        />
      </div>
      <div className="talks">
        {names.map((name) => (
          <Talk key={name} name={name} talk={talks[name] ?? EMPTY} />
        ))}
      </div>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <Textarea
          label="Message"
          description="Control and Enter sends it."
          autosize
          minRows={2}
          value={text}
          onChange={(event) => {
            setText(event.currentTarget.value);
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
          }}
        />
        <Group mt="sm" gap="xs">
          <Button type="submit" disabled={text.trim() === ""} loading={running > 0}>
            Send
          </Button>
          {running > 0 ? (
            <Button variant="default" onClick={() => { stopping.current.abort(); }}>
              Stop
            </Button>
          ) : null}
          {messages.length > 0 && running === 0 ? (
            <Button variant="default" onClick={() => { setTalks({}); }}>
              Begin again
            </Button>
          ) : null}
        </Group>
      </form>
      {messages.length > 0 && running === 0 ? (
        <ChatSnippets
          address={{ project, endpoint: endpoint.name, path: endpoint.predict_url }}
          messages={messages.slice(0, -1)}
        />
      ) : null}
    </Section>
  );
}

function Talk({ name, talk }: { name: string; talk: Conversation }) {
  return (
    <section aria-label={`Conversation with ${name}`} className="talk">
      <h3 className="breakable">{name}</h3>
      <ol aria-live="polite">
        {talk.messages
          .filter((each) => each.role !== "system")
          .map((message, index) => (
            <li key={index} className={message.role}>
              {message.content === "" ? "…" : message.content}
            </li>
          ))}
      </ol>
      {talk.error ? <Failure error={talk.error} /> : null}
    </section>
  );
}
