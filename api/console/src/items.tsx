/** A list that is loaded page by page. */

import { Button } from "@mantine/core";
import type { ReactNode } from "react";
import { Failure, Loading } from "./widgets";

interface Pages<T> {
  data: { pages: { items: T[] }[] } | undefined;
  error: Error | null;
  refetch: () => unknown;
  hasNextPage: boolean;
  isFetchingNextPage: boolean;
  fetchNextPage: () => unknown;
}

interface ItemsProps<T> {
  query: Pages<T>;
  label: string;
  empty: ReactNode;
  children: (item: T) => ReactNode;
}

export function Items<T>({ query, label, empty, children }: ItemsProps<T>) {
  if (query.data === undefined) {
    return query.error ? <Failure error={query.error} retry={() => void query.refetch()} /> : <Loading />;
  }
  const items = query.data.pages.flatMap((page) => page.items);
  if (items.length === 0) return empty;
  return (
    <>
      <ul className="rows still" aria-label={label}>
        {items.map((item, index) => (
          <li key={index}>{children(item)}</li>
        ))}
      </ul>
      <More query={query} />
    </>
  );
}

export function More({ query }: { query: Omit<Pages<unknown>, "data"> }) {
  return (
    <>
      {query.error ? <Failure error={query.error} /> : null}
      {query.hasNextPage ? (
        <Button variant="default" mt="sm" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
          Show more
        </Button>
      ) : null}
    </>
  );
}
