// openai for Node: chat completions, Responses and embeddings.
import OpenAI from "openai";
import * as h from "./harness.mjs";

const client = new OpenAI({ baseURL: `${h.URL}/v1`, apiKey: h.KEY, maxRetries: 0 });
const schema = {
  type: "object",
  properties: { city: { type: "string" }, population: { type: "integer" } },
  required: ["city", "population"],
  additionalProperties: false,
};
const fn = { name: "get_weather", description: "Weather of a city.", parameters: { type: "object", properties: { city: { type: "string" } } } };
const user = (content) => [{ role: "user", content }];
const chat = (content, more) => client.chat.completions.create({ model: h.model, messages: user(content), ...more });
const respond = (input, more) => client.responses.create({ model: h.model, input, store: false, ...more });
const text = (answer) => answer.choices[0].message.content;

const chatChecks = {
  async plain() {
    h.same(text(await chat(h.ASK)), h.ANSWER);
  },
  async stream() {
    let said = "";
    for await (const chunk of await chat(h.ASK, { stream: true })) said += chunk.choices[0]?.delta?.content ?? "";
    h.same(said, h.ANSWER);
  },
  async tools() {
    const runner = client.chat.completions.runTools({
      model: h.model,
      messages: user(h.ASK_WEATHER),
      stream: true,
      tools: [{ type: "function", function: { ...fn, parse: JSON.parse, function: ({ city }) => (h.same(city, "Oslo"), h.WEATHER) } }],
    });
    h.same(await runner.finalContent(), h.ANSWER_WEATHER);
  },
  async structured() {
    const response_format = { type: "json_schema", json_schema: { name: "city", strict: true, schema } };
    h.same(JSON.parse(text(await chat(h.ASK_CITY, { response_format }))), h.CITY);
  },
  async images() {
    const image_url = { url: `data:image/png;base64,${h.PIXEL}` };
    h.same(text(await chat([{ type: "text", text: h.ASK_IMAGE }, { type: "image_url", image_url }])), h.ANSWER_IMAGE);
  },
  async usage() {
    const { usage } = await chat(h.ASK);
    h.same([usage.prompt_tokens, usage.completion_tokens], h.USAGE);
  },
  error: h.refuses(() => chat(h.ASK_REFUSED)),
  async embeddings() {
    const { data } = await client.embeddings.create({ model: h.EMBEDDINGS, input: ["a", "b"] });
    h.same(data.map((each) => each.embedding), [h.VECTOR, h.VECTOR]);
  },
};

const responsesChecks = {
  async plain() {
    h.same((await respond(h.ASK)).output_text, h.ANSWER);
  },
  async stream() {
    const stream = client.responses.stream({ model: h.model, input: h.ASK, store: false });
    h.same((await stream.finalResponse()).output_text, h.ANSWER);
  },
  async tools() {
    const tools = [{ type: "function", strict: false, ...fn }];
    const first = await respond(h.ASK_WEATHER, { tools });
    const call = first.output.find((item) => item.type === "function_call");
    const result = { type: "function_call_output", call_id: call.call_id, output: h.WEATHER };
    const last = await respond([...user(h.ASK_WEATHER), ...first.output, result], { tools });
    h.same(last.output_text, h.ANSWER_WEATHER);
  },
  async structured() {
    const format = { type: "json_schema", name: "city", strict: true, schema };
    h.same(JSON.parse((await respond(h.ASK_CITY, { text: { format } })).output_text), h.CITY);
  },
  async images() {
    const look = { type: "input_image", image_url: `data:image/png;base64,${h.PIXEL}`, detail: "auto" };
    h.same((await respond(user([{ type: "input_text", text: h.ASK_IMAGE }, look]))).output_text, h.ANSWER_IMAGE);
  },
  async usage() {
    const { usage } = await respond(h.ASK);
    h.same([usage.input_tokens, usage.output_tokens], h.USAGE);
  },
  error: h.refuses(() => respond(h.ASK_REFUSED)),
};

await h.run({ chat: chatChecks, responses: responsesChecks });
