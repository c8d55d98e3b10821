/** Example data to try the console with: short tickets of a shop, each with the team that answers it. */

const PARTS: Record<string, [string[], string[]]> = {
  billing: [
    ["The invoice of March", "My last bill", "The receipt for my order", "The amount on my card", "The yearly price"],
    ["is charged twice", "has the wrong address", "does not include the discount", "is too high", "has no tax number"],
  ],
  delivery: [
    ["The parcel", "My order of Monday", "The second box", "The express delivery", "The courier"],
    ["has not arrived yet", "went to my old address", "arrived with a dent", "is three days late", "rang at the wrong door"],
  ],
  technical: [
    ["The app", "The login page", "The search on the site", "The password link", "The mobile version"],
    ["shows an empty page", "stops after the update", "does not accept my code", "is very slow today", "forgets my settings"],
  ],
};
const ENDINGS = ["", " again", ", please help", ", what can I do"];

/** A CSV file with 300 rows; its columns have other names than the fields, as most files do. */
export function exampleFile(): File {
  const rows = Object.entries(PARTS).flatMap(([team, [things, problems]]) =>
    things.flatMap((thing) =>
      problems.flatMap((problem) => ENDINGS.map((ending) => `"${thing} ${problem}${ending}",${team}`)),
    ),
  );
  return new File([["message,team", ...rows, ""].join("\n")], "tickets.csv", { type: "text/csv" });
}
