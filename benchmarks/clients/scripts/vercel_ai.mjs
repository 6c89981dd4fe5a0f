// Vercel's ai: its default for OpenAI, which is Responses, OpenAI's chat, OpenAI-compatible, and Anthropic.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import * as h from "./harness.mjs";

const baseURL = `${h.URL}/v1`;
const openai = createOpenAI({ baseURL, apiKey: h.KEY });
const compatible = createOpenAICompatible({
  name: "waypost",
  baseURL,
  apiKey: h.KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const anthropic = createAnthropic({ baseURL, apiKey: h.KEY });
const inputSchema = z.object({ city: z.string() });
const execute = async ({ city }) => (h.same(city, "Oslo"), h.WEATHER);
const tools = { get_weather: tool({ description: "Weather of a city.", inputSchema, execute }) };
const schema = z.object({ city: z.string(), population: z.number() });

function checks(model, providerOptions) {
  const asked = (prompt, more) => ({ model: model(), prompt, maxRetries: 0, providerOptions, ...more });
  const picture = [
    { type: "text", text: h.ASK_IMAGE },
    { type: "image", image: `data:image/png;base64,${h.PIXEL}` },
  ];
  return {
    async plain() {
      h.same((await generateText(asked(h.ASK))).text, h.ANSWER);
    },
    async stream() {
      let said = "";
      for await (const piece of streamText(asked(h.ASK)).textStream) said += piece;
      h.same(said, h.ANSWER);
    },
    async tools() {
      const loop = { tools, stopWhen: stepCountIs(3) };
      h.same((await generateText(asked(h.ASK_WEATHER, loop))).text, h.ANSWER_WEATHER);
      h.same(await streamText(asked(h.ASK_WEATHER, loop)).text, h.ANSWER_WEATHER);
    },
    async structured() {
      h.same((await generateText(asked(h.ASK_CITY, { output: Output.object({ schema }) }))).output, h.CITY);
    },
    async images() {
      h.same((await generateText(asked([{ role: "user", content: picture }]))).text, h.ANSWER_IMAGE);
    },
    async usage() {
      const { usage } = await generateText(asked(h.ASK));
      h.same([usage.inputTokens, usage.outputTokens], h.USAGE);
      const streamed = await streamText(asked(h.ASK)).usage;
      h.same([streamed.inputTokens, streamed.outputTokens], h.USAGE);
    },
    error: h.refuses(() => generateText(asked(h.ASK_REFUSED))),
  };
}

async function embeddings() {
  const { embeddings: found } = await embedMany({ model: openai.textEmbeddingModel(h.EMBEDDINGS), values: ["a", "b"] });
  h.same(found, [h.VECTOR, h.VECTOR]);
}

await h.run({
  "openai (Responses)": { ...checks(() => openai(h.model), { openai: { store: false } }), embeddings },
  "openai, defaults": checks(() => openai(h.model)),
  "openai.chat": checks(() => openai.chat(h.model)),
  "openai-compatible": checks(() => compatible(h.model)),
  anthropic: checks(() => anthropic(h.model)),
});
