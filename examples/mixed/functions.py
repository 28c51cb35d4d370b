"""What `app.yaml` names of Python: a key function, compiled to WASM, and operators over a shared table."""

from __future__ import annotations

from actorflow import App, Operator
from actorflow.wasm import wasm

app = App("mixed")
table = app.table("words_by_letter", key="letter", key_type=int, value=int)


@wasm
def first_letter(word: bytes) -> int:
    """Return the first letter of a word, as its number in Unicode's first 128; 0 for all others."""
    if len(word) == 0 or word[0] > 127:
        return 0
    return word[0]


class Count(Operator):
    """Counts a word, and passes it on."""

    words_by_letter = table.owned()

    def process(self, word: str) -> str:
        letter = first_letter(word.encode())
        self.words_by_letter[letter] = self.words_by_letter.get(letter, 0) + 1
        return word


class Letters(Operator):
    """Answers with what has been counted so far, for all requests together."""

    words_by_letter = table.snapshot()

    def process(self, _: object) -> dict[str, int]:
        return {chr(letter): count for letter, count in self.words_by_letter.items() if letter}
