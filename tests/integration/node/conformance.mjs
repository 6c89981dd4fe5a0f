// OpenAI's Node SDK against a running gateway: `node conformance.mjs BASE_URL KEY`.
// Prints one JSON object, an entry per check; what it holds is asserted by test_openai_node.py.
import OpenAI, { APIError } from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 10_000 });
const messages = [{ role: "user", content: "Say hello." }];
const tool = {
  type: "function",
  function: { name: "get_weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
};
const schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};

async function collected(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const checks = {
  async whole() {
    return client.chat.completions.create({ model: "auto", messages, seed: 7, chat_template_kwargs: { deep: [1, null] } });
  },
  async headers() {
    const { data, response, request_id } = await client.chat.completions
      .create({ model: "auto", messages })
      .withResponse();
    return { id: data.id, request_id, model: response.headers.get("x-waypost-model") };
  },
  async stream() {
    return collected(await client.chat.completions.create({ model: "auto", messages, stream: true }));
  },
  async stream_with_usage() {
    const options = { model: "auto", messages, stream: true, stream_options: { include_usage: true } };
    return collected(await client.chat.completions.create(options));
  },
  async tool_call() {
    return client.chat.completions.create({ model: "auto", messages, tools: [tool] });
  },
  async streamed_tool_call() {
    const runner = client.chat.completions.stream({ model: "auto", messages, tools: [tool] });
    return runner.finalChatCompletion();
  },
  async structured() {
    const response_format = { type: "json_schema", json_schema: { name: "capital", strict: true, schema } };
    return client.chat.completions.create({ model: "auto", messages, response_format });
  },
  async response() {
    const response = await client.responses.create({ model: "auto", input: "Say hello." });
    return { text: response.output_text, status: response.status, usage: response.usage };
  },
  async streamed_response() {
    const { type, function: named } = tool;
    const tools = [{ type, strict: false, ...named }];
    const stream = client.responses.stream({ model: "auto", input: "Say hello.", tools });
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    const response = await stream.finalResponse();
    return { kinds, output: response.output };
  },
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    return { names, small: await client.models.retrieve("small") };
  },
  async route() {
    return client.post("/route", { body: { model: "auto", messages } });
  },
  async feedback() {
    const answer = await client.chat.completions.create({ model: "auto", messages });
    return client.post("/feedback", { body: { id: answer.waypost.decision_id, score: 1 } });
  },
  async wrong_key() {
    const stranger = client.withOptions({ apiKey: "sk-foreign" });
    return stranger.chat.completions.create({ model: "auto", messages });
  },
  async unknown_model() {
    return client.chat.completions.create({ model: "nobody", messages });
  },
  async malformed() {
    return client.chat.completions.create({ model: "auto", messages: [] });
  },
  async provider_down() {
    return client.chat.completions.create({ model: "small", messages });
  },
  async cut_off() {
    const chunks = [];
    try {
      const stream = await client.chat.completions.create({ model: "auto", messages, stream: true });
      for await (const chunk of stream) chunks.push(chunk.choices[0].delta.content);
    } catch (error) {
      return { chunks, ...described(error) };
    }
    return { chunks };
  },
};

function described(error) {
  if (!(error instanceof APIError)) return { error: "not an APIError", message: String(error) };
  const { status = null, code = null, type = null, param = null } = error;
  return { error: error.constructor.name, status, code, type, param };
}

const results = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    results[name] = await check();
  } catch (error) {
    results[name] = described(error);
  }
}
console.log(JSON.stringify(results));
