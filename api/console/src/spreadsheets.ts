/** Tables for spreadsheets: delimited text whose cells no spreadsheet runs as formulas. */

const FORMULA = /^[=+\-@\t\r]/;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** A cell with an apostrophe before it if a spreadsheet would run it as a formula; numbers are none. */
export function escapeFormula(text: string): string {
  return FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
}

function field(text: string, delimiter: string): string {
  const escaped = escapeFormula(text);
  return [delimiter, '"', "\n", "\r"].some((each) => escaped.includes(each)) ? `"${escaped.replaceAll('"', '""')}"` : escaped;
}

/** Rows as delimited text (RFC 4180), safe for spreadsheets. */
export function delimitedText(rows: string[][], delimiter: string): string {
  return rows.map((row) => `${row.map((each) => field(each, delimiter)).join(delimiter)}\r\n`).join("");
}
