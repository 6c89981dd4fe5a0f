"""dspy: chat completions by litellm, and embeddings."""

import dspy
import harness as h


def model(**more):
    return dspy.LM(
        f"openai/{h.MODEL}",
        api_base=f"{h.URL}/v1",
        api_key=h.KEY,
        cache=False,
        num_retries=0,
        **more,
    )


class City(dspy.Signature):
    """Describe a city."""

    question: str = dspy.InputField()
    city: str = dspy.OutputField()
    population: int = dspy.OutputField()


def text_of(answer):
    return answer if isinstance(answer, str) else answer["text"]


def plain():
    h.same(text_of(model()(h.ASK)[0]), h.ANSWER)


def responses_plain():
    h.same(text_of(model(model_type="responses")(h.ASK)[0]), h.ANSWER)


def structured():
    with dspy.context(lm=model(), adapter=dspy.JSONAdapter()):
        found = dspy.Predict(City)(question=h.ASK_CITY)
    h.same({"city": found.city, "population": found.population}, h.CITY)


def usage():
    lm = model()
    lm(h.ASK)
    used = lm.history[-1]["usage"]
    h.same((used["prompt_tokens"], used["completion_tokens"]), h.USAGE)


def embeddings():
    embed = dspy.Embedder(
        f"openai/{h.EMBEDDINGS}", api_base=f"{h.URL}/v1", api_key=h.KEY, caching=False
    )
    h.same([list(map(float, vector)) for vector in embed(["a", "b"])], [h.VECTOR] * 2)


h.run(
    {
        "chat": {
            "plain": plain,
            "structured": structured,
            "usage": usage,
            "error": h.refuses(lambda: model()(h.ASK_REFUSED)),
            "embeddings": embeddings,
        },
        "responses": {"plain": responses_plain},
    }
)
