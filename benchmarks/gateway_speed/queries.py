"""Writes the queries: many distinct ones of the length of a usual question, all answerable."""

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

POOL = 25_000
"""More than twice the entries of an embedding cache: read in a circle none is ever remembered."""

PEOPLE = "Anna Boris Chen Dalia Emeka Farid Greta Hiro Ines Jonas Keiko Lars Mina Noor Omar Priya"
THINGS = "pens apples tickets bricks candles books lemons chairs bolts cups stamps ropes maps tiles"
PLACES = "Lisbon Oslo Nairobi Quito Kyoto Bergen Tunis Lima Perth Riga Accra Hanoi Turin Cork"
TRADES = "baker smith nurse pilot farmer tailor printer plumber grocer potter florist miner"
ASKS = (
    "How many {thing} are left at the end of the week? Answer with the number only.",
    "Which of the two earned more, and by how much? Explain your reasoning step by step.",
    "Write a short Python function that computes the total for any number of weeks.",
    "Which is true: (A) they break even, (B) they lose money, (C) they gain? Give a letter.",
)


def queries(n: int, seed: int) -> Iterator[str]:
    """Make `n` distinct queries of 60 to 75 word pieces."""
    rng = random.Random(seed)
    for number in range(n):
        people, thing = rng.sample(PEOPLE.split(), 2), rng.choice(THINGS.split())
        ask = rng.choice(ASKS).format(thing=thing)
        yield (
            f"{people[0]}, a {rng.choice(TRADES.split())} from {rng.choice(PLACES.split())}, buys "
            f"{number + 100} {thing} for {rng.randint(2, 90)} dollars and sells "
            f"{rng.randint(3, 99)} of them every day at {rng.randint(2, 9)} dollars each, while "
            f"{people[1]} in {rng.choice(PLACES.split())} gives away {rng.randint(2, 40)}. {ask}"
        )


def write_message_lists(path: Path, n: int, seed: int) -> None:
    """Write one ``messages`` array per line."""
    with path.open("w", encoding="utf-8") as out:
        for text in queries(n, seed):
            out.write(json.dumps([{"role": "user", "content": text}]) + "\n")


def write_evaluations(path: Path, models: list[str], n: int, seed: int) -> None:
    """Write a table to train a router from: some models are dearer and better than others."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["query_id", "text", "split", "model", "score", "cost_usd"])
        for number, text in enumerate(queries(n, seed)):
            split = "val" if number % 5 == 0 else "train"
            for rank, model in enumerate(models):
                chance = 0.3 + 0.6 * rank / len(models) - 0.1 * ("Python" in text)
                score = float(rng.random() < chance)
                table.writerow([number, text, split, model, score, 1e-5 * 1.5 ** min(rank, 12)])
