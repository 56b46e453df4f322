"""What the page owes its readers: well formed, offline, escaped, legible, no number typed in."""

import copy
import json
import re
from pathlib import Path

import pytest

from pages import QUESTION, Reader, luminance
from report import markup, page, terminal


def test_the_page_is_well_formed_and_complete(report):
    reader = Reader(page.page(report))
    text = " ".join(reader.text)
    assert (
        reader.tags["title"] == reader.tags["h1"] == reader.tags["main"] == 1
        and reader.tags["h2"] == 7
    )
    links = {value[1:] for tag, name, value in reader.attributes if tag == "a" and name == "href"}
    sections = {"run", "strips", "criteria", "links", "stage1", "teacher", "clip"}
    assert links == sections <= reader.ids.keys()
    assert reader.tags["button"] == sum(
        2 * len(a["tokens"]) for e in report["examples"] for a in e["answers"]
    )
    assert (
        "new laws" in text
        and "✓ right" in text
        and "✗ wrong" in text
        and "What to conclude" in text
    )
    assert all(value for tag, name, value in reader.attributes if name == "aria-label")


def test_the_page_needs_no_network(report):
    html = page.page(report)
    assert not re.search(
        r"@import|url\(|<link|<iframe|<img|\bfetch\(|XMLHttpRequest|\bimport\b.*from", html
    )
    for tag, name, value in Reader(html).attributes:
        assert name not in ("src", "srcset", "data") or not value
        assert tag == "a" or not re.match("(https?:)?//", value or "") or name.startswith("xmlns")


def leaves(value, path=()):
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


SHOWN = [
    "table,0,rows,0,cells,0,0",
    "table,0,rows,0,n",
    "table,1,rows,3,cells,1,0",
    "curves,0,points,0,1",
    "runs,0,seconds,base",
    "runs,0,parameters",
    "runs,0,settings,seed",
    "runs,0,changed,base_steps",
    "examples,0,tried",
    "examples,0,samples",
    "examples,0,rubric,0,weight",
    "examples,0,answers,0,tokens,0,before,divergence",
    "examples,0,answers,0,tokens,0,after,logprob",
    "examples,0,answers,0,tokens,0,teacher,logprob",
    "examples,0,answers,0,tokens,0,before,top,1,1",
    "examples,0,answers,0,tokens,0,before,entropy",
    "examples,0,answers,0,effects,logprob,left out,0,0",
    "examples,0,answers,0,effects,divergence,alone,0,0",
    "stage1,0,rows,0,reference,weight",
    "teacher,questions",
    "teacher,tail_k",
    "teacher,scale_clip",
    "teacher,point_clip",
    "teacher,columns,solution,right",
    "teacher,columns,student\\, after,leak",
    "teacher,columns,learned rubric,tail",
    "link_tokens,questions",
    "link_tokens,criteria",
    "link_tokens,lines,1,count",
    "link_tokens,lines,2,divergence share",
    "examples,0,answers,0,links,0,tokens",
    "examples,0,answers,0,links,0,token share",
]


@pytest.mark.parametrize("path", SHOWN)
def test_a_number_of_the_page_is_that_of_the_json(report, path):
    changed = copy.deepcopy(report)
    *way, last = [
        int(k) if k.isdigit() else k.replace("\\", "") for k in re.split(r"(?<!\\),", path)
    ]
    at = changed
    for key in way:
        at = at[key]
    at[last] += 31
    assert page.page(changed) != page.page(report)


def test_no_number_is_typed_into_the_text(report):
    """Every number of the JSON 0 and no digit in its texts: then the page says none but the bounds
    of its shades."""
    changed = copy.deepcopy(report)
    for path in leaves(changed):
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = -99 if path[-1] == "logprob" else 0  # a probability of 0
    changed["runs"][0] |= {"machine": "m", "preset": "p"}

    def keep(value):
        return (
            {k: keep(v) for k, v in value.items()}
            if isinstance(value, dict)
            else [keep(v) for v in value]
            if isinstance(value, list)
            else re.sub(r"\d", "", value)
            if isinstance(value, str) and value not in markup.NAMES
            else value
        )

    changed = keep({k: v for k, v in changed.items() if k != "runs"}) | {"runs": changed["runs"]}
    bins = {f"{b:g}" for b in markup.BINS}
    words = " ".join(Reader(re.sub("<svg.*?</svg>", "", page.page(changed), flags=re.S)).text)
    numbers = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?", words.replace("Stage 0", "")))
    assert {n for n in numbers if float(n)} <= bins


def test_text_of_others_is_escaped(report):
    changed = copy.deepcopy(report)
    changed["examples"][0]["question"] = changed["stage1"][0]["question"] = QUESTION
    changed["examples"][0]["answers"][0]["tokens"][0]["text"] = '</script><i title="x">&\n'
    changed["examples"][0]["rubric"][0]["text"] = "Essential: <u>a</u> & b"
    changed["stage1"][0]["problems"]["base"] = changed["runs"][0]["machine"] = "<s>"
    html = page.page(changed)
    reader = Reader(html)
    assert not reader.tags.keys() & {"b", "u", "s"} and QUESTION in " ".join(reader.text)
    assert html.count("</script>") == 2
    data = json.loads(re.search(r"id=data>(.*?)</script>", html, re.S)[1])
    assert data["examples"][0]["answers"][0]["tokens"][0]["text"] == '</script><i title="x">&\n'


def test_missing_numbers_and_sections_are_no_error(report):
    assert "h2" not in Reader(page.page({})).tags
    bare = copy.deepcopy(report)
    bare["table"][0]["rows"][0]["cells"][0] = [None, None]
    bare["teacher"]["clip"] = None
    bare["stage1"], bare["examples"], bare["link_tokens"] = [], [], None
    text = " ".join(Reader(page.page(bare)).text)
    assert "–" in text and "no token's gradient was turned round" in text
    assert Reader(page.page({k: report[k] for k in ("runs", "table", "curves")})).tags["h2"] == 1


def test_text_can_be_read_on_every_shade_and_shades_differ_in_lightness_alone():
    css = (Path(page.__file__).parent / "page.css").read_text()
    for block in re.findall(r":root \{(.*?)\}", css, re.S):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))

        def contrast(a, b):
            return max(x := (luminance(a) + 0.05, luminance(b) + 0.05)) / min(x)

        pairs = [(f"c{i}", f"t{i}") for i in range(len(markup.BINS) + 1)]
        pairs += [
            (back, front)
            for back in ("paper", "card")
            for front in ("ink", "soft", "accent", "good", "bad")
        ]
        found = {pair: contrast(*(colours[name] for name in pair)) for pair in pairs}
        assert {pair: c for pair, c in found.items() if c < 4.5} == {}
        light = [luminance(colours[f"c{i}"]) for i in range(len(markup.BINS) + 1)]
        assert light in (sorted(light), sorted(light, reverse=True)) and len(set(light)) == len(
            light
        )


def test_shades_follow_the_bins():
    assert [markup.level(x) for x in (0, 0.02, -0.02, 0.1, 0.99, 1, -50)] == [0, 1, 1, 2, 3, 4, 5]
    assert len(terminal.SHELL_SHADES) == len(markup.BINS) + 1
    assert markup.num(-0.0001) == "0.00" and markup.num(-1.5) == "−1.50" and markup.num(None) == "–"
