"""Telling languages apart, cheaply."""

import pytest

from gateway.grading.languages import Languages, load_languages

TEXTS = {
    "English": "The train to the city is late, and I do not know what to do about it.",
    "German": "Der Zug in die Stadt ist zu spät, und ich weiß nicht, was ich mit dir machen soll.",
    "French": "Le train pour la ville est en retard et je ne sais pas ce que je dois faire.",
    "Spanish": "El tren que va a la ciudad no llega, y no sé qué hacer con el equipaje.",
    "Italian": "Il treno per la città è in ritardo e non so che cosa fare con la valigia.",
    "Dutch": "De trein naar de stad is te laat en ik weet niet wat ik met het boek moet doen.",
    "Cyrillic": "Поезд в город опаздывает, и я не знаю, что мне делать.",
    "Chinese": "开往城里的火车晚点了，我不知道该怎么办。",  # noqa: RUF001 (it is Chinese)
    "Japanese": "町へ行く電車が遅れていて、どうすればいいかわかりません。",
    "Hangul": "시내로 가는 기차가 늦어서 어떻게 해야 할지 모르겠습니다.",
    "Arabic": "القطار المتجه إلى المدينة متأخر ولا أعرف ماذا أفعل.",
}


@pytest.fixture(scope="module")
def languages() -> Languages:
    return load_languages()


@pytest.mark.parametrize(("language", "text"), TEXTS.items(), ids=TEXTS)
def test_a_sentence_tells_its_language(languages, language, text):
    assert languages.language_of(text) == language


@pytest.mark.parametrize("text", ["", "Rome", "42 + 17 = 59", "x = f(y)\n" * 9, "```" + "a b" * 99])
def test_what_is_short_or_no_prose_tells_none_for_sure(languages, text):
    assert languages.language_of(text) in (None, "Latin")


def test_languages_differ_only_where_both_are_sure(languages):
    assert languages.differ(TEXTS["English"], TEXTS["German"])
    assert languages.differ(TEXTS["Chinese"], TEXTS["English"])
    assert not languages.differ(TEXTS["English"], TEXTS["English"])
    assert not languages.differ("Rome?", TEXTS["German"])
    assert not languages.differ(TEXTS["Chinese"], TEXTS["Japanese"])
    assert not languages.differ(
        "Recette crème brûlée classique maison facile rapide", TEXTS["French"]
    )
    assert languages.differ(
        TEXTS["Cyrillic"], "Recette crème brûlée classique maison facile rapide"
    )
