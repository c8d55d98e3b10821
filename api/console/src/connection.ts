/** Whether the server answers: reported by every request, shown by the shell. */

import { useSyncExternalStore } from "react";

let connected = true;
const listeners = new Set<() => void>();

export function reportAnswer(answered: boolean): void {
  if (answered === connected) return;
  connected = answered;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useConnected(): boolean {
  return useSyncExternalStore(subscribe, () => connected);
}
