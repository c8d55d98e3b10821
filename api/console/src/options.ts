/** What a dataset's file and a job may be: the choices of the forms. */

import type { Schemas } from "./api";

export type Task = Schemas["Task"];

export const TASKS: { value: Task; label: string }[] = [
  { value: "text-classification", label: "Text classification: a label for each text" },
  { value: "chat", label: "Chat: an answer to each conversation" },
];

interface Field {
  name: string;
  required: boolean;
  explanation: string;
}

const GROUP: Field = { name: "group", required: false, explanation: "rows of a group stay in one split" };

/** The fields of a row by its format. */
export const ROW_FORMATS: Record<string, { label: string; task: Task; fields: Field[] }> = {
  "text-label": {
    label: "A text and its label",
    task: "text-classification",
    fields: [
      { name: "text", required: true, explanation: "what is classified" },
      { name: "label", required: true, explanation: "what it is" },
      GROUP,
    ],
  },
  messages: {
    label: "Messages with roles",
    task: "chat",
    fields: [{ name: "messages", required: true, explanation: "the list of messages" }, GROUP],
  },
  sharegpt: {
    label: "ShareGPT conversations",
    task: "chat",
    fields: [{ name: "conversations", required: true, explanation: "the list of messages" }, GROUP],
  },
  "prompt-completion": {
    label: "A prompt and its completion",
    task: "chat",
    fields: [
      { name: "prompt", required: true, explanation: "what is asked" },
      { name: "completion", required: true, explanation: "what is answered" },
    ],
  },
  alpaca: {
    label: "Alpaca: instruction, input, output",
    task: "chat",
    fields: [
      { name: "instruction", required: true, explanation: "what is asked" },
      { name: "input", required: false, explanation: "more of the question" },
      { name: "output", required: true, explanation: "what is answered" },
    ],
  },
};

export const ENCODINGS = [
  ...["utf-8", "utf-16le", "utf-16be", "iso-8859-1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251"],
  ...["windows-1252", "windows-1253", "windows-1254", "windows-1257", "koi8-r", "macintosh", "shift_jis", "euc-jp"],
  ...["euc-kr", "big5", "gb18030"],
];

export const DELIMITER_NAMES: Record<string, string> = { ",": "Comma", ";": "Semicolon", "\t": "Tab", "|": "Pipe" };

/** The server's rule for names of datasets, models and endpoints: a name made of any text. */
export function asName(text: string): string {
  return text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replace(/^-+/, "")
    .slice(0, 40)
    .replace(/-+$/, "");
}
