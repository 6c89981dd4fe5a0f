"""The library is what the ids are held against; serving does without it."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from router_models.encoders.word_pieces import HEAD_TOKENS, TAIL_TOKENS, TOKENIZER_FILE, WordPieces
from router_models.errors import ArtifactRejected
from tests.fakes.encoders import packaged_files


@pytest.fixture(scope="module")
def file() -> bytes:
    return packaged_files()[TOKENIZER_FILE]


@pytest.fixture(scope="module")
def pieces(file) -> WordPieces:
    return WordPieces(file)


@pytest.fixture(scope="module")
def tokenizer(file) -> Tokenizer:
    plain = Tokenizer.from_str(file.decode())
    plain.no_truncation()
    plain.no_padding()
    return plain


def split(pieces, texts, **options) -> list[list[int]]:
    return [ids.tolist() for ids in pieces.split(texts, **options)]


def test_reads_the_first_96_and_the_last_32_word_pieces(pieces) -> None:
    words = [chr(ord("a") + i % 26) for i in range(200)]
    (everything,) = split(pieces, [" ".join(words[:96] + words[-32:])])
    (kept,) = split(pieces, [" ".join(words)])
    assert len(kept) == 128
    assert kept == everything


def test_reads_the_ends_alone_of_a_very_long_text(pieces) -> None:
    head, tail = ["one two three"], ["four five six"]
    (kept,) = split(pieces, [" ".join(head + ["zebra"] * 900 + tail)])
    assert [kept[:3], kept[-3:]] == split(pieces, head + tail)
    assert len(kept) == 128


def test_marks_both_ends_on_request(file, pieces) -> None:
    vocabulary = json.loads(file)["model"]["vocab"]
    assert split(pieces, [""], mark_ends=True) == [[vocabulary["[CLS]"], vocabulary["[SEP]"]]]


MARKS_OF_2002 = {"\u166d", "\u1734", "\u1885", "\u1886"}
"""Of which Unicode has changed its mind since."""
CHARACTERS = [
    character
    for character in map(chr, range(0x30000))
    if unicodedata.ucd_3_2_0.category(character) not in {"Cn", "Cs"}
    and character not in MARKS_OF_2002
]


ALIKE = (
    range(0x3400, 0xA000),  # ideographs
    range(0xAC00, 0xD7A4),  # syllables of Hangul
    range(0xE000, 0xF900),  # for private use
    range(0x20000, 0x2A6D7),  # ideographs
)


def test_every_character_is_split_as_the_library_splits_it(tokenizer, pieces) -> None:
    """Between letters; those that are like few others on their own and under an accent too."""
    odd = [c for c in CHARACTERS if not any(ord(c) in block for block in ALIKE)]
    texts = [f"a{c}b" for c in CHARACTERS] + [f"{c} e{c}\u0301 . {c}" for c in odd]
    expected = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    found = split(pieces, texts)
    different = [t for t, e, f in zip(texts, expected, found, strict=True) if e.ids != f]
    assert not different


WORDS = st.sampled_from(
    ["The", "quick", "3.14", "[MASK]", "[sep]", "don't", "x_1", "\t", "\n\n", "##ing", "a" * 200]
)
ODD_WORDS = st.sampled_from(
    [
        "Za\u017c\u00f3\u0142\u0107",
        "\u6211\u80fd",
        "[CLS][SEP]",
        "\u0130",
        "\x00",
        "\x1f",
        "\x85",
        "\u2028",
    ]
)
PLAIN = st.characters(max_codepoint=127)
ANY = st.sampled_from(CHARACTERS)


@given(st.lists(st.text(ANY, max_size=12) | st.text(PLAIN) | WORDS | ODD_WORDS))
def test_a_text_is_split_as_the_library_splits_it(tokenizer, pieces, words) -> None:
    text = " ".join(words)[:300]
    expected = tokenizer.encode(text, add_special_tokens=False).ids
    if len(expected) <= HEAD_TOKENS + TAIL_TOKENS:
        assert split(pieces, [text]) == [expected]


def test_a_word_that_has_no_pieces_is_unknown(file, pieces) -> None:
    unknown = json.loads(file)["model"]["vocab"]["[UNK]"]
    assert split(pieces, ["\u1200", "x" * 101]) == [[unknown], [unknown]]


@pytest.mark.parametrize("text", ["\x00", "\ufffd", "\u200d", " \n\t\u3000"])
def test_a_text_of_nothing_that_shows_has_no_pieces(pieces, text) -> None:
    assert split(pieces, [text]) == [[]]


@pytest.mark.parametrize("name", ["[CLS]", "[SEP]", "[UNK]"])
def test_a_tokenizer_without_a_special_piece_is_refused(file, name) -> None:
    document = json.loads(file)
    del document["model"]["vocab"][name]
    with pytest.raises(ArtifactRejected, match=name.strip("[]")):
        WordPieces(json.dumps(document).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b'{"model": {"type": "BPE", "vocab": {}}}',
        b'{"model": {"type": "WordPiece", "vocab": ["a"]}}',
        b'{"model": {"type": "WordPiece", "vocab": {"a": "b"}}}',
    ],
)
def test_what_is_no_tokenizer_of_word_pieces_is_refused(content) -> None:
    with pytest.raises(ArtifactRejected, match=TOKENIZER_FILE):
        WordPieces(content)
