"""1. One BPE merge                                                    about 8 lines, 10 minutes

Byte pair encoding learns a vocabulary by one move, repeated: take the most frequent pair of neighbouring tokens and
write it as one token wherever it stands. This is the move, for one word.

    word   list of tokens (bytes), such as [b"a", b"a", b"a", b"b"]
    pair   two tokens, such as (b"a", b"a")
    out    a new list; the word that was passed in stays as it was

Read from the left. Where the next two tokens are the pair, they become one token and both are used up; a new token is
not looked at again in this merge.

By hand: a a a b with the pair (a, a). The first two merge, the third a has only b beside it: aa a b, 3 tokens.

Why it matters: encoding repeats exactly these merges. If training and encoding merge in different directions, the same
text has different ids in the two, and the model meets tokens that it was never trained on.

The answer lives in data/tokenizer.py: _merge. Check with: python -m exercises.check 1
"""


def _merge(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    raise NotImplementedError("exercise 1: replace this line")
