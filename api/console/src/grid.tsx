/** A table with a name, which scrolls by itself where it is wider than the page. */

import { Table } from "@mantine/core";
import type { ReactNode } from "react";

export interface GridColumn<T> {
  title: string;
  /** What a row shows; texts of users stay texts. */
  cell: (row: T) => ReactNode;
  right?: boolean;
}

interface GridProps<T> {
  label: string;
  rows: T[];
  /** Titles may be equal. */
  columns: GridColumn<T>[];
  rowKey: (row: T) => string;
}

export function Grid<T>({ label, rows, columns, rowKey }: GridProps<T>) {
  return (
    <div className="scroll-x" tabIndex={0} role="region" aria-label={label}>
      <Table verticalSpacing="xs">
        <Table.Thead>
          <Table.Tr>
            {columns.map((column, index) => (
              <Table.Th key={index} ta={column.right ? "right" : "left"}>
                {column.title}
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row) => (
            <Table.Tr key={rowKey(row)}>
              {columns.map((column, index) => (
                <Table.Td key={index} className={column.right ? "number" : "cell"}>
                  {column.cell(row)}
                </Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </div>
  );
}
