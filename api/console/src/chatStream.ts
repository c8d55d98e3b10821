/** The stream of a chat completion in OpenAI's format. */

import { client, unwrapAs } from "./api";

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

interface Chunk {
  choices?: { delta?: { content?: string | null } }[];
  error?: { message?: string };
}

/** Send messages, and call `add` with each part of the answer. */
export async function streamAnswer(
  project: string,
  endpoint: string,
  messages: Message[],
  add: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const stream = await unwrapAs<ReadableStream<Uint8Array>>(
    client.POST("/v1/projects/{project}/endpoints/{endpoint}/chat/completions", {
      params: { path: { project, endpoint } },
      body: { model: endpoint, messages: messages as never[], stream: true },
      parseAs: "stream",
      signal,
    }),
  );
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const data = /^data: ?(.*)$/.exec(line.trimEnd())?.[1];
      if (data === undefined || data === "[DONE]") continue;
      const chunk = JSON.parse(data) as Chunk;
      if (chunk.error) throw new Error(chunk.error.message ?? "The model server stopped.");
      const text = chunk.choices?.[0]?.delta?.content;
      if (text) add(text);
    }
  }
}
