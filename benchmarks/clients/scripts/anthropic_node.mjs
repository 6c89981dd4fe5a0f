// @anthropic-ai/sdk: Messages.
import Anthropic from "@anthropic-ai/sdk";
import * as h from "./harness.mjs";

const client = new Anthropic({ baseURL: h.URL, apiKey: h.KEY, maxRetries: 0 });
const user = (content) => [{ role: "user", content }];
const tools = [{ name: "get_weather", description: "Weather of a city.", input_schema: { type: "object", properties: { city: { type: "string" } } } }];
const asked = (messages, more) => ({ model: h.model, max_tokens: 1000, messages, ...more });
const ask = (content, more) => client.messages.create(asked(user(content), more));

await h.run({
  messages: {
    async plain() {
      h.same((await ask(h.ASK)).content[0].text, h.ANSWER);
    },
    async stream() {
      const stream = client.messages.stream(asked(user(h.ASK)));
      h.same((await stream.finalMessage()).content[0].text, h.ANSWER);
    },
    async tools() {
      const first = await ask(h.ASK_WEATHER, { tools });
      const call = first.content.find((block) => block.type === "tool_use");
      h.same(call.input, { city: "Oslo" });
      const result = { type: "tool_result", tool_use_id: call.id, content: h.WEATHER };
      const history = [...user(h.ASK_WEATHER), { role: "assistant", content: first.content }, ...user([result])];
      const stream = client.messages.stream(asked(history, { tools }));
      h.same((await stream.finalMessage()).content[0].text, h.ANSWER_WEATHER);
    },
    async images() {
      const source = { type: "base64", media_type: "image/png", data: h.PIXEL };
      h.same((await ask([{ type: "text", text: h.ASK_IMAGE }, { type: "image", source }])).content[0].text, h.ANSWER_IMAGE);
    },
    async usage() {
      const { usage } = await ask(h.ASK);
      h.same([usage.input_tokens, usage.output_tokens], h.USAGE);
    },
    error: h.refuses(() => ask(h.ASK_REFUSED)),
  },
});
