"""Finds the part of a text that it marks as its answer."""

import re

# "Answer: 42", "The final answer is **42**", "#### 42" (GSM8K's own mark).
_MARK = re.compile(r"(?:\banswer\b[*_]{0,2}\s{0,3}(?::|=|\bis\b:?)|####)[*_\s]{0,5}", re.IGNORECASE)


def extract_final_answer(text: str) -> str | None:
    r"""Return what stands in the last ``\boxed{}`` or after the last "Answer:", if anything does.

    After a mark the answer ends with its line.
    """
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    rest = text[marks[-1].end() :].strip()
    return rest.partition("\n")[0] or None


def _last_boxed(text: str) -> str | None:
    r"""Return the content of the last balanced ``\boxed{...}``."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for position in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position]
    return None
