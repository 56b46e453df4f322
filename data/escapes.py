r"""LaTeX in JSON text: backslashes that were not doubled, and what JSON made of them.

In JSON, \alpha and \( are no escapes, so the line is no JSON. \nu, \rho and \frac are worse: they
are legal and become a line break, a carriage return or a form feed, with the letters left over. Two
of the public files that this was tried on have such lines. `mend_escapes` doubles the backslash
where LaTeX was meant.
"""

import re
from collections import Counter

# Commands that open with an escape of JSON: \b, \f, \n, \r or \t.
COMMANDS = frozenset(
    """
    fallingdotseq fbox flat footnotesize forall frac framebox frown
    nRightarrow nabla natural ncong ne nearrow neg neq newline nexists ngeq nleftarrow nleq nless
    nmid nobreak noindent nolimits nonumber normalsize not notin nparallel nrightarrow nsim
    nsubseteq nu nwarrow
    raisebox rangle rbrace rbrack rceil ref rfloor rho right rightarrow rightharpoonup
    rightleftharpoons rm root rtimes rule rvert rVert
    tag tan tanh tau tbinom text textbf textit textrm textsf textstyle texttt tfrac therefore theta
    thickapprox thinspace tilde times tiny to top triangle triangleleft triangleright
    """.split()
)
# Without its first letter each of these is a word or a symbol that may well open a line or a column.
WORDS = frozenset("nu ne neg nmid nsim nless nexists nparallel".split()) | frozenset(
    "tan to top rangle rbrace rfloor rm".split()
)

MENDED = "LaTeX backslashes put back"
UNSURE = "line breaks or tabs that may be a LaTeX backslash"

# What matters in a line: quotes, dollar signs, and escapes with the letters behind them. A doubled
# backslash is one token with the bracket that it may open a formula with.
_TOKEN = re.compile(
    r'(?P<quote>")|(?P<dollar>\$\$?)'
    r"|(?P<line_break>\\\\\\\\)|(?P<bracket>\\?\\[()\[\]])"
    r'|(?P<fine>\\(?:\\\$?|["/]|u[0-9a-fA-F]{4}))|\\(?P<letters>[A-Za-z]*)',
    re.ASCII,
)


def mend_escapes(text: str, notes: Counter) -> str:
    r"""A line of JSON with the backslashes of its LaTeX doubled; `notes` counts them.

    A backslash that is no escape is one of LaTeX. So is \b before a letter, as no text means a
    backspace, and \f, \n, \r or \t before the rest of a command of COMMANDS. A command of WORDS
    must stand inside $...$, \(...\) or \[...\], or in one string with another such backslash, and
    not where a line of a formula would break anyway. If not, it stays as it is and is counted.
    """
    tokens = list(_TOKEN.finditer(text))
    strings, number = set(), 0  # the numbers of the strings that surely have such a backslash
    for match in tokens:
        number += match.lastgroup == "quote"
        if _is_surely_latex(match):
            strings.add(number)
    pieces, done, number, in_formula = [], 0, 0, False
    break_end = -1  # the end of the last token after which a line may break
    for match in tokens:
        kind, token, start, end = match.lastgroup, match[0], match.start(), match.end()
        at_break = break_end >= 0 and not text[break_end:start].strip()
        if kind == "quote":
            number, in_formula = number + 1, False
        elif kind == "dollar":
            in_formula = not in_formula
        elif kind == "bracket":
            in_formula = token[-1] in "(["
        if kind == "line_break" or token in ("$$", r"\[", r"\\[", r"\n"):
            break_end = end
        is_latex = _is_surely_latex(match)
        if match["letters"] in WORDS and text[end : end + 1] != ".":  # not "e.g." on a new line
            is_latex = (in_formula or number in strings) and not at_break
            notes[UNSURE] += not is_latex
        if is_latex:
            notes[MENDED] += 1
            pieces += [text[done:start], "\\"]
            done = start
    notes -= Counter()  # without what was found 0 times
    return "".join(pieces) + text[done:]


def _is_surely_latex(match: re.Match) -> bool:
    """Whether this token of a line opens with a single backslash that JSON has no use for."""
    letters = match["letters"]
    if letters is None:
        return match.lastgroup == "bracket" and len(match[0]) == 2
    if not letters or letters[0] not in "bfnrt":
        return True
    if letters[0] == "b":
        return len(letters) > 1
    return letters in COMMANDS and letters not in WORDS
