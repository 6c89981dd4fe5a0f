// Anthropic's Node SDK against a running gateway: `node messages.mjs BASE_URL KEY MODEL`.
// Prints one JSON object, an entry per check; what it holds is asserted by test_anthropic_node.py.
import Anthropic, { APIError } from "@anthropic-ai/sdk";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0, timeout: 10_000 });
const asked = { model, max_tokens: 100, messages: [{ role: "user", content: "Say hello." }] };
const tools = [
  {
    name: "get_weather",
    description: "Weather of a city.",
    input_schema: { type: "object", properties: { city: { type: "string" } } },
  },
];

const checks = {
  async whole() {
    return client.messages.create(asked);
  },
  async stream() {
    const texts = [];
    const stream = client.messages.stream(asked).on("text", (text) => texts.push(text));
    return { texts, message: await stream.finalMessage() };
  },
  async streamed_tool_call() {
    return client.messages.stream({ ...asked, tools }).finalMessage();
  },
  async count() {
    return client.messages.countTokens({ model, messages: asked.messages });
  },
  async models() {
    const names = [];
    for await (const { id } of client.models.list({ limit: 2 })) names.push(id);
    return { names, shown: await client.models.retrieve(model) };
  },
  async refused() {
    return client.messages.create(asked);
  },
  async cut_off() {
    const texts = [];
    try {
      const stream = await client.messages.create({ ...asked, stream: true });
      for await (const event of stream) if (event.delta?.text) texts.push(event.delta.text);
    } catch (error) {
      return { texts, ...described(error) };
    }
    return { texts };
  },
  async wrong_key() {
    const stranger = client.withOptions({ apiKey: "sk-foreign" });
    return stranger.messages.create(asked);
  },
  async unknown_model() {
    return client.messages.create({ ...asked, model: "nobody" });
  },
  async malformed() {
    return client.messages.create({ ...asked, messages: [] });
  },
};

function described(error) {
  if (!(error instanceof APIError)) return { error: "not an APIError", message: String(error) };
  const { status = null, message, requestID = null } = error;
  return { error: error.constructor.name, status, type: error.error?.error?.type, message, requestID };
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
