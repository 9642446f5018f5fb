"""Which texts lean on what was said before; by example, in many languages, short and long."""

from __future__ import annotations

import pytest

from services.cache.referring import SELF_CONTAINED_WORDS, refers_back

FOLLOW_UPS = {
    "english": [
        "and in French?",
        "What about the second one?",
        "Is it faster than the other one?",
        "Make it shorter and more formal, please",
        "Can you rewrite the third paragraph so that a child of ten years would understand all of it without any help?",
        "Now please translate it into German, but keep the names of the cities and the dates just as they are",
        "And what would the same trip cost if two adults and three children went by train in the summer holidays?",
        "Could you explain the previous answer again with a simple example from everyday life?",
        "How does that compare with the price of a flat of the same size in Munich or in Hamburg in 2024?",
        "Please write a longer version with the changes that you suggested and add a short conclusion at the very end",
        "Why did they decide to leave the country when the war had already been over for more than two years?",
        "In your last answer there was a number for Berlin, so what would the number for Hamburg in 2020 be?",
        "What about people who live in the countryside and have no car, no train and only two buses in a day?",
        "Rewrite this in the style of Shakespeare, with a little more drama and a happy end for all the lovers",
    ],
    "german": [
        "Und was kostet das in Berlin",
        "Und auf Deutsch?",
        "Kannst du das kürzer machen?",
        "Was war die zweite Option in Hamburg",
        "Und was kostet das in Berlin, wenn man am Wochenende mit der Familie hinfährt und dort drei Tage bleibt?",
        "Bitte schreibe den dritten Absatz noch einmal so um, dass ihn auch ein Kind von zehn Jahren verstehen kann",
    ],
    "french": [
        "Et en anglais ?",
        "Et combien ça coûte à Paris",
        "Tu peux me donner la version plus courte ?",
        "Peux-tu expliquer encore une fois ta dernière réponse avec un exemple simple et court ?",
    ],
    "spanish": [
        "¿Y en Madrid?",
        "Y cuanto cuesta eso en Madrid",
        "Hazlo más corto",
        "¿Puedes explicar otra vez la segunda opción con un ejemplo sencillo que entienda un niño de diez años?",
    ],
    "italian": [
        "E in inglese?",
        "E quanto costa a Roma",
        "Puoi riscrivere il terzo paragrafo in modo che anche un bambino di dieci anni lo capisca senza nessun aiuto?",
    ],
    "portuguese": [
        "E em Lisboa?",
        "Explique melhor",
        "Me fale as regras do segundo",
        "Você pode explicar de novo a segunda opção com um exemplo simples que uma criança entenda?",
    ],
    "dutch": [
        "En in het Nederlands?",
        "Wat was de tweede of derde optie",
        "Kun je de derde alinea herschrijven zodat een kind van tien jaar het ook zonder hulp van anderen begrijpt?",
    ],
    "swedish": ["Och i Stockholm då?", "Kan du göra den kortare", "Vad var det andra alternativet i listan"],
    "danish": ["Og hvad med den anden", "Kan jeg have den i en kortere version for hele familien"],
    "polish": ["A co z Warszawą", "Czy możesz to skrócić", "I to my mamy do tego dodać"],
    "russian": ["А на русском?", "Сделай короче", "Объясни ещё раз второй вариант на простом примере"],
    "turkish": ["Peki ya ikincisi", "Bunu kısalt", "Daha basit bir örnekle ikinci seçeneği yeniden anlatır mısın"],
    "japanese": ["もっと短くして", "二番目は?", "それをもう一度、十歳の子供にもわかるように簡単な例で説明してください"],
    "chinese": ["短一点", "第二个呢?", "请用一个十岁的孩子也能听懂的简单例子再解释一遍你刚才说的第二个选项"],
    "korean": ["더 짧게 해줘", "두 번째 것은 어때", "열 살 아이도 이해할 수 있게 두 번째 답을 다시 설명해 줘"],
    "arabic": ["وماذا عن الثاني", "اجعله أقصر"],
    "hindi": ["और दूसरा वाला", "इसे छोटा करो"],
}  # fmt: skip

STAND_ALONE = [
    "How do I reset my password?",
    "What is the capital of France?",
    "How many people live in the city of Hamburg?",
    "Which programming language should a beginner learn?",
    "What does a litre of milk cost in Switzerland?",
    "Where can I renew my passport in Los Angeles?",
    "Who painted the ceiling of the Sistine Chapel?",
    "Is a dolphin a kind of fish?",
    "How far is the city of Rome by train?",
    "What are the visiting hours of the Museo Nacional del Prado in Madrid?",
    "Is it possible to grow tomatoes on a balcony that gets no more than three hours of sun in a day?",
    "Is it true that honey never spoils if one keeps the jar closed and stores it in a dark place?",
    "If I top up my card with a cheque on a Friday evening, when will it show up in my account?",
    "What is the best way to learn the piano as an adult with a full-time job and two small children?",
    "How do I write a function in Python that returns the second largest number of a list without sorting it?",
    "Please write a haiku about the sea in autumn, in English, with a word for the colour of the evening sky.",
    "My landlord wants to raise the rent by a third, although the flat was never renovated; what can I do?",
    "What are the differences between a credit card and a debit card when one pays for a hotel room in Japan?",
]

OF_THEIR_OWN = [
    "Wie setze ich mein Passwort zurück?",
    "Was kostet ein Liter Milch in der Schweiz?",
    "Comment réinitialiser mon mot de passe ?",
    "¿Cómo restablezco mi contraseña?",
    "Come posso reimpostare la mia password?",
    "パスワードをリセットする方法は?",
    "如何重置我的密码?",
    "Как сбросить пароль?",
]
"""Questions in languages that the rule does not know, and that nothing stands before."""

CONTINUED_ANYWHERE = ["and in French?", "Und auf Deutsch?", "Et en anglais ?", "А на русском?", "But why not in Rome?"]
BARE = [
    "yes",
    "Continue.",
    "ok thanks",
    "👍",
    "...",
    "ja bitte",
    "oui",
    "sí, gracias",
    "weiter",
    "perché?",
    "はい",
    "是的",
    "да",
]


@pytest.mark.parametrize(("language", "text"), [(name, text) for name, texts in FOLLOW_UPS.items() for text in texts])
def test_what_refers_back_is_for_the_exact_tier_only(language: str, text: str) -> None:
    assert refers_back(text, has_earlier_turns=True), language


@pytest.mark.parametrize("text", STAND_ALONE)
def test_what_says_all_that_it_needs_may_be_reworded(text: str) -> None:
    assert not refers_back(text, has_earlier_turns=True)
    assert not refers_back(text, has_earlier_turns=False)


@pytest.mark.parametrize("text", OF_THEIR_OWN)
def test_in_other_languages_a_first_question_may_be_reworded_and_a_later_one_not(text: str) -> None:
    assert not refers_back(text, has_earlier_turns=False)
    assert refers_back(text, has_earlier_turns=True)


@pytest.mark.parametrize("text", [*CONTINUED_ANYWHERE, *BARE])
def test_what_goes_on_with_something_does_so_also_where_nothing_stands_before(text: str) -> None:
    assert refers_back(text, has_earlier_turns=False)


def test_the_table_has_many_languages_and_long_texts_in_most() -> None:
    texts = [text for texts in FOLLOW_UPS.values() for text in texts]
    assert len(FOLLOW_UPS) >= 8
    assert len(texts) >= 60
    assert sum(len(text.split()) >= SELF_CONTAINED_WORDS for text in texts) >= 15
