"""Measure the median CPU ms of both encoders: one query at a time, tokenizer and features included.

Usage: OMP_NUM_THREADS=1 python -m benchmarks.encoders.timing
"""

import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from gateway.routing.encoders import load_encoder
from router_models.encoders.features import cap_text, raw_features

ENCODERS: Final = ("static", "minilm")
LENGTHS = (16, 64, 256, 512, 25_000)
REPEATS = 200
SENTENCE = (
    "Which of the two shops sells 3 pens for less than $4.50, and how much would a customer save "
    "by buying twelve of them there instead of at the other shop? "
)
WORDS = (SENTENCE * 1_000).split()


def text_of(n_tokens: int) -> str:
    # 31 words of this sentence are 36 word pieces.
    return " ".join(WORDS[: round(n_tokens * 31 / 36)])


def median_ms(encode: Callable[[str], object], text: str) -> float:
    for _ in range(10):
        encode(text)
    durations = []
    for _ in range(REPEATS):
        # CPU time, so that other work on the machine does not count.
        begin = time.process_time()
        encode(text)
        durations.append(time.process_time() - begin)
    return statistics.median(durations) * 1e3


def main() -> None:
    print("| encoder | " + " | ".join(f"{n:,} tokens" for n in LENGTHS) + " | load ms | MB |")
    print("|---|" + "---|" * (len(LENGTHS) + 2))
    row("cheap features alone", lambda: lambda text: raw_features(cap_text(text)))
    for name in ENCODERS:
        row(name, partial(load_one, name))


def load_one(name: Literal["static", "minilm"]) -> Callable[[str], object]:
    encoder = load_encoder(name)
    return lambda text: encoder.encode([text])


def row(name: str, load: Callable[[], Callable[[str], object]]) -> None:
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin = time.process_time()
    encode = load()
    load_ms = (time.process_time() - begin) * 1e3
    times = [median_ms(encode, text_of(n)) for n in LENGTHS]
    grown_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb
    shown = " | ".join(f"{ms:.2f}" for ms in times)
    print(f"| {name} | {shown} | {load_ms:.0f} | {grown_mb:.0f} |", flush=True)


if __name__ == "__main__":
    main()
