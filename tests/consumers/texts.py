"""The texts that every consumer embeds: short and long ones, and those that tokenizers disagree on."""

TEXTS = [
    "A sentence.",
    "a",
    "The cat sleeps in the house by the river, and the dog runs through the old city.",
    "",
    " \t two  spaces and\ta tab ",
    "Line one.\nLine two.\r\nLine three.",
    "Thumbs up 👍🏽, a family 👨‍👩‍👧‍👦, a flag 🇩🇪 and a heart ❤️.",
    "今天天气很好，我们去公园散步。東京は日本の首都です。 서울은 한국의 수도이다.",
    "Żółć, naïve café, Ångström, Dvořák, e\u0301 in two code points, İstanbul, STRASSE, straße.",
    "السلام عليكم ورحمة الله. שלום עולם. नमस्ते दुनिया। สวัสดีชาวโลก",
    "x² + y² = z², ½ of 3,14 €; http://example.org/a?b=c#d -- (quotes) “curly” and 'plain'…",
    "control \x07 characters \x00 and zero\u200bwidth \ufeff marks",
    "[CLS] special [MASK] tokens [SEP] as text [PAD] [UNK]",
    "antidisestablishmentarianism" * 8,
    " ".join(f"Sentence {number} of a text that is longer than the model reads." for number in range(100)),
]
