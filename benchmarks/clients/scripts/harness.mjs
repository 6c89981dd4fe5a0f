// What every script for Node shares: where the gateway is, what to ask, what must come back.
import { isDeepStrictEqual, inspect } from "node:util";

export const URL = process.env.WAYPOST_URL;
export const KEY = process.env.WAYPOST_KEY;
export const EMBEDDINGS = "text-embedding-3-small";
export const VECTOR = [0.25, -0.5, 0.125, 1.0];
export const ASK = "Name the capital of Norway.";
export const ANSWER = "The capital of Norway is Oslo.";
export const ASK_WEATHER = 'What is the weather? Look it up. <<call get_weather {"city":"Oslo"}>>';
export const WEATHER = "sunny, 17 degrees";
export const ANSWER_WEATHER = `Done: ${WEATHER}`;
export const ASK_CITY = 'Describe the city. <<json {"city":"Oslo","population":700000}>>';
export const CITY = { city: "Oslo", population: 700000 };
export const ASK_IMAGE = "What do you see?";
export const ANSWER_IMAGE = "I see images: 1";
export const ASK_REFUSED = "Work at night. <<refuse>>";
export const REFUSAL = "the model is too tired";
export const USAGE = [21, 7];
export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

export let model = "";

export function same(found, expected) {
  if (!isDeepStrictEqual(found, expected)) throw new Error(`expected ${inspect(expected)}, found ${inspect(found)}`);
}

export function refuses(check) {
  return async () => {
    let result;
    try {
      result = await check();
    } catch (error) {
      if (!inspect(error, { depth: 5 }).includes(REFUSAL)) throw error;
      return;
    }
    throw new Error(`no error, but ${inspect(result)}`);
  };
}

export async function run(modes) {
  for (const [column, name] of Object.entries(JSON.parse(process.env.WAYPOST_MODELS))) {
    model = name;
    for (const [mode, checks] of Object.entries(modes)) {
      for (const [capability, check] of Object.entries(checks)) {
        let error = null;
        try {
          await check();
        } catch (thrown) {
          error = String(thrown).slice(0, 1500);
        }
        console.log(JSON.stringify({ mode, capability, column, error }));
      }
    }
  }
}
