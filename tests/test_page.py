"""The report: its numbers against independent ones, its page against what a page owes its readers, bad input."""
import copy
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch

import evaluate
import rcsd
from data.load import load_examples
from data.prepare import noisy_rubric
from data.tokenizer import Tokenizer, train_bpe
from loss import token_divergence
from model import load, save
from report import explain, page, panels, picture
from rubrics import Criterion, Rubric, prompt
from run import Settings

TINY = dict(base_rows=300, stage1_questions=16, stage2_questions=16, test_questions=12, vocab_size=400, base_steps=6,
            base_tokens=1024, stage1_steps=3, stage2_steps=3, batch=4, width=32, n_head=2, n_kv_head=1, head_dim=16,
            n_layer=1, mlp_width=32, max_new_tokens=12, context=400, exposure_count=8)
FLAGS = ["--preset", "smoke", "--device", "cpu", *(f for k, v in TINY.items() for f in ("--" + k.replace("_", "-"), str(v)))]
LINES = "5 Essential: uses force = mass × acceleration\n3 Important: gives the answer in N\n-1 Pitfall: does not add"
QUESTION = "Is <b>1 & 2</b> \"a\" force?</script>"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of random-looking models, evaluated; tests only read it or link to it."""
    out = tmp_path_factory.mktemp("page") / "run"
    for stage in ("data", "base", "stage1", "stage2"):
        assert rcsd.main([stage, "--out", str(out), *FLAGS]) == 0
    assert evaluate.main(["--out", str(out), *FLAGS]) == 0
    return out


@pytest.fixture(scope="module")
def run(finished):
    """Models far from uniform, and far from each other."""
    run = explain.open_run(finished, replace(Settings(), **load(finished / "stage2.pt")["settings"], device="cpu"))
    for seed, model in enumerate((run.base, run.student)):
        torch.manual_seed(seed)
        for p in model.parameters():
            p.data += 0.3 * torch.randn(p.shape)
    return run


@pytest.fixture(scope="module")
def report(finished):
    """Its report, with an answer more that is right, as a trained model would have."""
    made = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    for e in made["examples"]:
        e["answers"] = [copy.deepcopy(e["answers"][0]) | {"right": right} for right in (True, False)]
    return made


def linked(finished, out, *names):
    out.mkdir()
    for name in ("data", *(f"{stage}.{kind}" for stage in ("base", "stage1", "stage2") for kind in ("pt", "jsonl")), *names):
        (out / name).symlink_to(finished / name)
    return out


# ------------------------------------------------------------------------- which criterion moves which token: a stub
CRITERIA = tuple(Criterion("", f"Essential: {name}", 5) for name in "abc")
MOVES = {c: torch.tensor([[1.0, 0.0, -2.0]]) * (i + 1) for i, c in enumerate(CRITERIA)}   # [M = 1, n = 3]


def additive(criteria):
    return torch.full((1, 3), -7.0) + sum((MOVES.get(c, 0.0) for c in criteria), torch.zeros(1, 3))


def redundant(criteria):
    """Saying it once is enough."""
    return additive(tuple(sorted(set(criteria), key=CRITERIA.index)))


def together(criteria):
    """Two that work only side by side."""
    return torch.ones(1, 3) * (CRITERIA[0] in criteria and CRITERIA[1] in criteria)


def test_additive_criteria_sum_to_the_whole_both_ways():
    found = explain.attribute(additive, CRITERIA)
    assert found["whole"].tolist() == [[6, 0, -12]]
    for way in ("left out", "alone"):
        assert found[way].shape == (3, 1, 3)
        assert torch.equal(found[way].sum(0), found["whole"]) and torch.equal(found[way][1], MOVES[CRITERIA[1]])


def test_a_criterion_that_repeats_another_adds_nothing_though_alone_it_does_all():
    found = explain.attribute(redundant, (CRITERIA[0], CRITERIA[0]))
    assert not found["left out"].any()
    assert all(torch.equal(found["alone"][i], found["whole"]) for i in (0, 1)) and found["whole"].any()


def test_criteria_that_work_only_together_each_take_all_away_and_alone_do_nothing():
    found = explain.attribute(together, CRITERIA)
    assert found["left out"].tolist() == [[[1, 1, 1]], [[1, 1, 1]], [[0, 0, 0]]] and not found["alone"].any()


def test_an_irrelevant_criterion_moves_nothing():
    found = explain.attribute(additive, (*CRITERIA, Criterion("", "Optional: is irrelevant", 1)))
    assert not found["left out"][3].any() and not found["alone"][3].any() and found["left out"][:3].any()


def test_each_context_is_scored_once_and_the_empty_one_is_no_rubric():
    asked = []
    explain.attribute(lambda criteria: asked.append(criteria) or torch.zeros(1, 1), CRITERIA)
    assert len(asked) == len(set(asked)) and set(asked) == {
        (), CRITERIA, CRITERIA[1:], CRITERIA[:2], (CRITERIA[0], CRITERIA[2]), *((c,) for c in CRITERIA)}


# ------------------------------------------------------------------------------------ the same with a (random) model
def plain_logits(run, model, sections, ids):
    """[n, V], one prefix at a time."""
    head = rcsd.encode(run.tokenizer, sections)
    with torch.no_grad():
        return torch.stack([model(torch.tensor([head + ids[:t]]))[0, -1] @ model.head_weight.T for t in range(len(ids))])


IDS = [40, 41, 300, 77, 1]


def test_the_scorer_reads_the_teacher_after_the_prompt_with_just_these_criteria(run):
    run = replace(run, settings=replace(run.settings, beta=0.3, temperature=1.7))
    score, chosen = explain.scorer(run, "Why?", IDS), CRITERIA[:2]
    own = plain_logits(run, run.base, prompt("Why?"), IDS)
    for criteria in (chosen, CRITERIA[:1], ()):
        seen = plain_logits(run, run.base, prompt("Why?", rubric=Rubric(criteria) if criteria else None), IDS)
        wanted = (seen / 1.7).log_softmax(-1)[range(len(IDS)), IDS]
        torch.testing.assert_close(score(criteria)[0], wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(score(criteria)[1], token_divergence(own, seen, beta=0.3, temperature=1.7), atol=1e-4, rtol=1e-3)
    assert score(())[1].abs().max() < 1e-6 and score(chosen)[1].max() > 0.01


def test_one_criterion_has_the_whole_effect_left_out_and_alone(run):
    found = explain.attribute(explain.scorer(run, "Why?", IDS), CRITERIA[:1])
    assert torch.equal(found["left out"][0], found["whole"]) and torch.equal(found["alone"][0], found["whole"])
    assert found["whole"].abs().max() > 0.01


def test_effects_on_tokens_sum_to_the_effect_on_the_answer(run):
    found = explain.answer(run, "Why?", Rubric(CRITERIA), IDS)["effects"]
    total = lambda criteria: (plain_logits(run, run.base, prompt("Why?", rubric=Rubric(criteria)), IDS).log_softmax(-1)
                              [range(len(IDS)), IDS]).sum().item()
    for i in range(3):
        rest = CRITERIA[:i] + CRITERIA[i + 1:]
        assert sum(found["logprob"]["left out"][i]) == pytest.approx(total(CRITERIA) - total(rest), abs=1e-3)


def test_controls_are_added_to_the_whole_rubric(run):
    found = explain.answer(run, "Why?", Rubric(CRITERIA), IDS)
    assert found["controls"] == [CRITERIA[0].description, explain.IRRELEVANT.description]
    score = explain.scorer(run, "Why?", IDS)
    wanted = score((*CRITERIA, CRITERIA[0])) - score(CRITERIA)
    for i, measure in enumerate(explain.MEASURES):
        assert found["effects"][measure]["control"][0] == wanted[i].tolist()
    used = len(rcsd.encode(run.tokenizer, prompt("Why?", rubric=Rubric(CRITERIA))))
    none = explain.answer(replace(run, settings=replace(run.settings, context=used + 8)), "Why?", Rubric(CRITERIA), IDS)
    assert none["controls"] == [] and none["effects"]["divergence"]["control"] == []


def test_the_strip_shows_what_both_models_think(run):
    run = replace(run, settings=replace(run.settings, clip=0.05, clip_mode="token"))
    rows, rubric = explain.strip(run, "Why?", Rubric(CRITERIA), IDS), Rubric(CRITERIA)
    seen = plain_logits(run, run.base, prompt("Why?", rubric=rubric), IDS)
    for name, model in (("before", run.base), ("after", run.student)):
        own = plain_logits(run, model, prompt("Why?"), IDS)
        divergence = token_divergence(own, seen)
        for t, row in enumerate(rows):
            p = own[t].softmax(-1)
            assert row[name]["divergence"] == pytest.approx(divergence[t].item(), abs=1e-4)
            assert row[name]["clipped"] == (divergence[t].item() > 0.05)
            assert row[name]["logprob"] == pytest.approx(p[IDS[t]].log().item(), abs=1e-4)
            assert row[name]["entropy"] == pytest.approx(-(p * p.log()).sum().item(), abs=1e-4)
            assert [q for _, q in row[name]["top"]] == pytest.approx(p.sort(descending=True).values[:5].tolist(), abs=1e-5)
            assert row[name]["top"][0][0] == run.tokenizer.decode([p.argmax().item()]).replace("\ufffd", "·")
            assert row["text"] == run.tokenizer.decode([IDS[t]])
    assert [row["before"]["logprob"] for row in rows] != [row["after"]["logprob"] for row in rows]


def test_half_a_character_shows_as_a_dot():
    tokenizer = Tokenizer(train_bpe(["a b"], 256))
    assert [explain.token_text(tokenizer, i) for i in tokenizer.encode("a×")] == ["a", "·", "·"]


# ------------------------------------------------------------------------------------------------------- the panels
def test_no_reference_criterion_is_wrong_and_a_relation_turned_round_is(finished):
    examples = [e for name in ("test_known", "test_new", "stage2") for e in load_examples(finished / "data" / f"{name}.jsonl")[0]]
    assert not any(panels.is_wrong(c, e.solution) for e in examples for c in e.rubric.criteria)
    noisy = [noisy_rubric(e.rubric, random.Random(0)) for e in examples]
    assert all(any(panels.is_wrong(c, e.solution) for c in r.criteria) for e, r in zip(examples, noisy) if r != e.rubric)
    unit = Criterion("", "Important: gives the answer in xyz", 3)
    assert all(panels.is_wrong(unit, e.solution) for e in examples)
    assert not panels.is_wrong(Criterion("", "Optional: is polite", 1), "Answer: 1 N")


def test_criteria_that_say_the_same_stand_in_one_row():
    reference = Rubric((Criterion("", "Essential: uses a = b × c", 5), Criterion("", "Important: puts in 2 m and 3 s", 2)))
    other = Rubric((Criterion("", "Important: puts in 3 s and 2 m", 2), Criterion("", "Essential: states that a = c × b", 4),
                    Criterion("", "Essential: uses a = b ÷ c", 4)))
    rows = panels.aligned({"reference": reference, "base": None, "stage I": other}, "a = b × c = 6\nAnswer: 6 m")
    assert [(row.keys(), [c["wrong"] for c in row.values()]) for row in rows] == [
        ({"reference", "stage I"}, [False, False]), ({"reference", "stage I"}, [False, False]), ({"stage I"}, [True])]
    twice = panels.aligned({"reference": Rubric(reference.criteria[:1] * 2)}, "")
    assert len(twice) == 2


def test_the_clip_modes_on_the_example_of_the_readme():
    """Teacher (.9, .1), student (.8, .2): the gradient is -.10, and pointwise clipping turns it to +.08."""
    model = SimpleNamespace(head_weight=torch.eye(2))
    run = explain.Run(Settings(), SimpleNamespace(decode=lambda ids: " ".join(map(str, ids))), model, None, None)
    own, seen = (torch.tensor([p, p]).log() for p in ([0.8, 0.2], [0.9, 0.1]))
    stats = explain.token_stats(run, model, own, seen, clip=panels.POINT_CLIP, clip_mode="pointwise")
    assert stats.turned.tolist() == [True, True]
    where = [(rcsd.Rollout([], [0, 1]), t) for t in (0, 1)]
    found = panels.clip_modes(run, own, seen, where, stats.turned)
    first = {mode: (m["loss"], m["gradient"][0]) for mode, m in found["modes"].items()}
    assert first == {"none": pytest.approx((0.0367, -0.1), abs=1e-3), "pointwise": pytest.approx((-0.0193, 0.08), abs=1e-3),
                     "token": pytest.approx((0.0367, -0.1), abs=1e-3), "scale": pytest.approx((0.0367, -0.1), abs=1e-3)}
    assert [r["p"] for r in found["top"]] == pytest.approx([0.9, 0.1])
    assert panels.clip_modes(run, own, own, where, torch.tensor([False, False])) is None


def test_curves_average_over_steps_and_spread_over_runs(tmp_path):
    for name, shift in (("a", 0.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        for stage, row in (("base", {}), ("stage1", {"valid": 0.5}), ("stage2", {"correct": 1.0})):
            (tmp_path / name / f"{stage}.jsonl").write_text("\n".join(json.dumps({"loss": i + shift, **row}) for i in range(48)))
    both = panels.curves([tmp_path / "a", tmp_path / "b"])
    assert [(c["stage"], c["measure"]) for c in both] == [
        ("base", "loss"), ("stage1", "loss"), ("stage1", "valid"), ("stage2", "loss"), ("stage2", "correct")]
    assert both[0]["points"][0] == [2, 1.5, pytest.approx(2 ** 0.5)] and len(both[0]["points"]) == panels.BUCKETS
    assert panels.curves([tmp_path / "a"])[0]["points"][-1] == [48, 46.5, None]


def test_the_panel_agrees_with_the_results(finished, report):
    results = json.loads((finished / "results.json").read_text())
    assert report["teacher"]["questions"] <= TINY["test_questions"]
    columns = report["teacher"]["columns"]
    assert list(columns) == ["nothing", "generic rubric", "reference rubric", "learned rubric", "solution", "student, after"]
    assert columns["nothing"]["divergence"] == 0 and columns["nothing"]["turned"] == 0
    assert columns["solution"]["teacher_entropy"] > 0 and 0 <= columns["learned rubric"]["tail"] <= 1
    assert report["runs"][0]["preset"] == "smoke" and report["runs"][0]["changed"]["base_steps"] == TINY["base_steps"]
    assert report["runs"][0]["seconds"] == {k: pytest.approx(v, abs=1e-5) for k, v in results["seconds"].items()}


@pytest.mark.parametrize("text, leaks", [("as the rubric says", True), ("Criteria: none", True), ("5 Essential: uses", True),
                                         ("an essential amount = 2 g", False), ("Answer: 2 N", False)])
def test_what_counts_as_mentioning_the_rubric(text, leaks):
    assert bool(panels.LEAK.search(text)) == leaks


# --------------------------------------------------------------------------------------------------------- the page
class Reader(HTMLParser):
    """Checks that elements nest and ids are unique; gathers text, ids, attributes."""
    VOID = {"meta", "br", "hr", "img", "input", "link"}

    def __init__(self, html):
        super().__init__()
        self.stack, self.text, self.ids, self.attributes, self.tags = [], [], Counter(), [], Counter()
        self.feed(html)
        self.close()
        assert not self.stack and max(self.ids.values(), default=1) == 1

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids.update(value for name, value in attrs if name == "id")
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("style", "script"):
            self.text.append(data)


def test_the_page_is_well_formed_and_complete(report):
    reader = Reader(page.page(report))
    text = " ".join(reader.text)
    assert reader.tags["title"] == reader.tags["h1"] == reader.tags["main"] == 1 and reader.tags["h2"] == 6
    links = {value[1:] for tag, name, value in reader.attributes if tag == "a" and name == "href"}
    assert links == {"run", "strips", "criteria", "stage1", "teacher", "clip"} <= reader.ids.keys()
    assert reader.tags["button"] == sum(2 * len(a["tokens"]) for e in report["examples"] for a in e["answers"])
    assert "new laws" in text and "✓ right" in text and "✗ wrong" in text and "What to conclude" in text
    assert all(value for tag, name, value in reader.attributes if name == "aria-label")


def test_the_page_needs_no_network(report):
    html = page.page(report)
    assert not re.search(r"@import|url\(|<link|<iframe|<img|\bfetch\(|XMLHttpRequest|\bimport\b.*from", html)
    for tag, name, value in Reader(html).attributes:
        assert name not in ("src", "srcset", "data") or not value
        assert tag == "a" or not re.match("(https?:)?//", value or "") or name.startswith("xmlns")


def leaves(value, path=()):
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


SHOWN = ["table,0,rows,0,cells,0,0", "table,0,rows,0,n", "table,1,rows,3,cells,1,0", "curves,0,points,0,1", "runs,0,seconds,base",
         "runs,0,parameters", "runs,0,settings,seed", "runs,0,changed,base_steps", "examples,0,tried", "examples,0,samples",
         "examples,0,rubric,0,weight", "examples,0,answers,0,tokens,0,before,divergence",
         "examples,0,answers,0,tokens,0,after,logprob", "examples,0,answers,0,tokens,0,teacher,logprob",
         "examples,0,answers,0,tokens,0,before,top,1,1", "examples,0,answers,0,tokens,0,before,entropy",
         "examples,0,answers,0,effects,logprob,left out,0,0", "examples,0,answers,0,effects,divergence,alone,0,0",
         "stage1,0,rows,0,reference,weight", "teacher,questions", "teacher,tail_k", "teacher,scale_clip", "teacher,point_clip",
         "teacher,columns,solution,right", "teacher,columns,student\\, after,leak", "teacher,columns,learned rubric,tail"]


@pytest.mark.parametrize("path", SHOWN)
def test_a_number_of_the_page_is_that_of_the_json(report, path):
    changed = copy.deepcopy(report)
    *way, last = [int(k) if k.isdigit() else k.replace("\\", "") for k in re.split(r"(?<!\\),", path)]
    at = changed
    for key in way:
        at = at[key]
    at[last] += 31
    assert page.page(changed) != page.page(report)


def test_no_number_is_typed_into_the_text(report):
    """Every number of the JSON 0 and no digit in its texts: then the page says none but the bounds of its shades."""
    changed = copy.deepcopy(report)
    for path in leaves(changed):
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = -99 if path[-1] == "logprob" else 0  # a probability of 0
    changed["runs"][0] |= {"machine": "m", "preset": "p"}
    keep = lambda value: ({k: keep(v) for k, v in value.items()} if isinstance(value, dict) else [keep(v) for v in value]
                          if isinstance(value, list) else re.sub(r"\d", "", value)
                          if isinstance(value, str) and value not in page.NAMES else value)
    changed = keep({k: v for k, v in changed.items() if k != "runs"}) | {"runs": changed["runs"]}
    bins = {f"{b:g}" for b in page.BINS}
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
    bare["stage1"], bare["examples"] = [], []
    text = " ".join(Reader(page.page(bare)).text)
    assert "–" in text and "no token's gradient was turned round" in text
    assert Reader(page.page({k: report[k] for k in ("runs", "table", "curves")})).tags["h2"] == 1


def luminance(colour):
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    return sum(w * (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4) for w, c in zip((0.2126, 0.7152, 0.0722), parts))


def test_text_can_be_read_on_every_shade_and_shades_differ_in_lightness_alone():
    css = (Path(page.__file__).parent / "page.css").read_text()
    for block in re.findall(r":root \{(.*?)\}", css, re.S):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        contrast = lambda a, b: (max(x := (luminance(a) + 0.05, luminance(b) + 0.05)) / min(x))
        pairs = [(f"c{i}", f"t{i}") for i in range(len(page.BINS) + 1)]
        pairs += [(back, front) for back in ("paper", "card") for front in ("ink", "soft", "accent", "good", "bad")]
        found = {pair: contrast(*(colours[name] for name in pair)) for pair in pairs}
        assert {pair: c for pair, c in found.items() if c < 4.5} == {}
        light = [luminance(colours[f"c{i}"]) for i in range(len(page.BINS) + 1)]
        assert light in (sorted(light), sorted(light, reverse=True)) and len(set(light)) == len(light)


def test_shades_follow_the_bins():
    assert [page.level(x) for x in (0, 0.02, -0.02, 0.1, 0.99, 1, -50)] == [0, 1, 1, 2, 3, 4, 5]
    assert len(page.SHELL_SHADES) == len(page.BINS) + 1
    assert page.num(-0.0001) == "0.00" and page.num(-1.5) == "−1.50" and page.num(None) == "–"


# ------------------------------------------------------------------------------------------- the picture of the README
def one_step(report):
    """The example of the picture and its wrong answer."""
    e = next(e for e in report["examples"] if e["kind"] == "one-step")
    return e, next(a for a in e["answers"] if not a["right"])


def elements(report, tag):
    """[(x0, y0, x1, y1, text, attributes)] of the picture's texts, as wide as they can be, or of its boxes."""
    found = []
    for at in ElementTree.fromstring(picture.picture(report)).iter("{http://www.w3.org/2000/svg}" + tag):
        x, y = float(at.get("x")), float(at.get("y"))
        if tag == "rect":
            found.append((x, y, x + float(at.get("width")), y + float(at.get("height")), "", at.attrib))
        else:
            size = float(at.get("font-size"))
            wide = picture.WIDE / 13 * size * len(at.text)
            x -= wide / 2 * (at.get("text-anchor") == "middle")
            found.append((x, y - size, x + wide, y + size / 4, at.text, at.attrib))
    return found


def test_the_picture_has_the_tokens_in_order_and_every_number_is_of_the_json(report):
    changed = copy.deepcopy(report)
    e, a = one_step(changed)
    tokens, e["question"] = a["tokens"], 'What is <1 & 2> "a"?'
    tokens[0]["text"], tokens[1]["text"], tokens[2]["text"] = '<i x="1">&', "\n", "\x07"
    tokens[1]["before"]["divergence"] = 123.456
    tokens[1]["before"]["top"][0], tokens[1]["teacher"]["top"][1] = [" a&", 0.5432], ["\n", 0.4321]
    texts = elements(changed, "text")
    cells = [words for *_, words, look in texts if look.get("text-anchor") and look["font-size"] == "13"]
    wanted = ['<i x="1">&', "⏎", "·", *("".join(c if c.isprintable() else "·" for c in t["text"]) for t in tokens[3:])]
    assert cells[::2] == cells[1::2] == wanted
    shares = [words for *_, words, look in texts if look["font-size"] == "11"]
    probability = {who: [page.num(math.exp(t[who]["logprob"])) for t in tokens] for who in ("before", "teacher")}
    assert shares[::2] == probability["before"] and shares[1::2] == probability["teacher"]
    top = [pair for who in ("before", "teacher") for pair in tokens[1][who]["top"][:3]]
    said = [e["question"], e["answer"], page.rubric_text(e["rubric"]), *wanted * 2, *shares, "123.46", *(w for w, _ in top),
            *(page.num(p, 3) for _, p in top), *(f"{b:g}" for b in page.BINS for _ in (0, 1))]
    numbers = lambda words: Counter(re.findall(r"\d+(?:\.\d+)?", " ".join(words)))
    assert numbers(words for *_, words, _ in texts) == numbers(said)
    assert {"“ a&”", "“⏎”", "0.543", "0.432"} <= {words for *_, words, _ in texts}


def test_another_number_makes_another_picture(report):
    a = one_step(report)[1]
    ways = [("tokens", t, who, "logprob") for t in range(len(a["tokens"])) for who in ("before", "teacher")]
    for *way, last in ways:
        changed = copy.deepcopy(report)
        at = one_step(changed)[1]
        for key in way:
            at = at[key]
        at[last] = math.log(0.987) if at[last] < -0.5 else math.log(0.123)
        assert picture.picture(changed) != picture.picture(report)
    for t in range(len(a["tokens"])):
        changed = copy.deepcopy(report)
        one_step(changed)[1]["tokens"][t]["before"]["divergence"] = 77.0
        darkest = [i for i, box in enumerate(b for b in elements(changed, "rect") if float(b[5]["height"]) == picture.HIGH)
                   if box[5]["fill"] == picture.SHADES[-1][0]]
        assert 2 * t in darkest and any("77.00 nats" in words for *_, words, _ in elements(changed, "text"))
    changed = copy.deepcopy(report)
    one_step(changed)[0]["rubric"][0]["weight"] = 31
    assert any(words.startswith("31 Essential") for *_, words, _ in elements(changed, "text"))


@pytest.mark.parametrize("where", [0, 5, 17, -1])
def test_nothing_of_the_picture_overlaps_or_leaves_it(report, where):
    changed = copy.deepcopy(report)
    e, a = one_step(changed)
    e["question"] = "Why is the concentration so large? " * 9 + "w" * 150
    a["tokens"] = [copy.deepcopy(t) for _ in range(5) for t in a["tokens"]]
    a["tokens"][4]["text"] = " electromagnetism"
    a["tokens"][where]["before"] |= {"divergence": 99.0, "top": [[" electromagnetism", 1.0]] * 5}
    texts, boxes = elements(changed, "text"), elements(changed, "rect")
    width, height = boxes[0][2:4]
    assert (width, boxes[0][5]["fill"]) == (900, "#ffffff")
    assert all(0 <= x and 0 <= y and right <= width and bottom <= height for x, y, right, bottom, *_ in texts + boxes)
    meet = lambda a, b: min(a[2], b[2]) - max(a[0], b[0]) > 0.1 and min(a[3], b[3]) - max(a[1], b[1]) > 0.1
    cells = [box for box in boxes if box[5].get("stroke") == "#d3d8de"]
    assert len(cells) == 2 * len(a["tokens"]) + len(page.BINS) + 1
    for parts in (texts, cells):
        assert [(one[4], other[4]) for one, other in combinations(parts, 2) if meet(one, other)] == []
    bars = [box for box in boxes if float(box[5]["height"]) == 11]
    assert len(bars) == 6 and not any(meet(bar, other) for bar in bars for other in texts + cells)


def test_the_picture_has_the_shades_of_the_page_and_can_be_read(report):
    css = (Path(page.__file__).parent / "page.css").read_text()
    colours = dict(reversed(re.findall(r"--([ct]\d): (#\w+)", css)))  # the first of a name is by day
    assert list(picture.SHADES) == [(colours[f"c{i}"], colours[f"t{i}"]) for i in range(len(page.BINS) + 1)]
    assert 1.05 / (luminance(re.search(r'fill="(#\w+)" font-family', picture.START)[1]) + 0.05) >= 4.5
    root = ElementTree.fromstring(picture.picture(report))
    assert [root.find(f"*[@id='{name}']").text != "" for name in root.get("aria-labelledby").split()] == [True, True]
    assert root.get("role") == "img" and not re.search(r"href|url\(|<script|<image", picture.picture(report))


def test_the_command_of_the_picture(finished, tmp_path):
    def made(*arguments):
        return subprocess.run([sys.executable, picture.__file__, *map(str, arguments)], capture_output=True, text=True,
                              encoding="utf-8", cwd=tmp_path)

    kinds = {e["kind"] for e in json.loads((finished / "report.json").read_text(encoding="utf-8"))["examples"]}
    assert "one-step" in kinds
    assert all(ElementTree.fromstring(made(finished, kind).stdout).tag.endswith("svg") for kind in kinds)
    assert made(finished).stdout == made(finished, "one-step").stdout
    for done in (made(), made(tmp_path), made(finished, "no such kind")):
        assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1


# -------------------------------------------------------------------------------------------------- the command line
def test_the_report_is_made_once_and_drawn_again(finished, tmp_path, capsys):
    out = linked(finished, tmp_path / "run")
    for name in ("results.json", "report.json"):
        shutil.copy(finished / name, out / name)
    os.utime(out / "report.json")
    before = json.loads((out / "report.json").read_text())
    assert evaluate.main(["--out", str(out), *FLAGS]) == 0
    assert f"report: {out / 'report.html'}" in capsys.readouterr().out.splitlines()
    assert (out / "report.html").read_text() == (finished / "report.html").read_text()
    assert json.loads((out / "report.json").read_text()) == before
    assert json.loads((finished / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_a_summary_of_several_runs_has_a_page_with_bands_if_it_is_told_where(finished, tmp_path, capsys):
    assert evaluate.main(["--summary", str(finished), str(finished)]) == 0
    assert "report" not in capsys.readouterr().out
    assert evaluate.main(["--summary", str(finished), str(finished), "--out", str(tmp_path / "all")]) == 0
    html = (tmp_path / "all" / "report.html").read_text()
    assert "±" in html and "<polygon" in html and "standard deviation" in html
    assert "<polygon" not in (finished / "report.html").read_text()


def explained(out, *more):
    return evaluate.main(["explain", "--out", str(out), *FLAGS, *map(str, more)])


def test_explain_prints_in_colour_and_writes_the_page(finished, tmp_path, capsys):
    out = linked(finished, tmp_path / "run")
    (tmp_path / "r.txt").write_text(LINES + "\n", encoding="utf-8")
    assert explained(out, "--question", QUESTION, "--rubric", tmp_path / "r.txt") == 0
    plain = capsys.readouterr().out
    assert "\x1b" not in plain and QUESTION in plain and "mass × acceleration" in plain and str(out / "explain.html") in plain
    assert QUESTION in " ".join(Reader((out / "explain.html").read_text(encoding="utf-8")).text)
    found = json.loads((out / "explain.json").read_text(encoding="utf-8"))["examples"][0]
    assert [len(a["effects"]["logprob"]["alone"]) for a in found["answers"]] == [3] * len(found["answers"])
    if len(found["answers"]) == 1:
        assert found["answers"][0]["by"] == "base and student, greedy"
    loud = {"examples": [copy.deepcopy(found)]}
    loud["examples"][0]["answers"][0]["tokens"][0]["before"]["divergence"] = 9.0
    painted = page.terminal(loud, True)
    assert f"\x1b[48;5;{page.SHELL_SHADES[5][0]}m" in painted and "shades" in painted
    assert re.sub(r"\x1b\[[\d;]*m", "", painted).startswith(page.terminal(loud, False))


def test_explain_takes_json_and_finds_the_question(finished, tmp_path):
    out, path = linked(finished, tmp_path / "run"), finished / "data" / "test_new.jsonl"
    examples = load_examples(path)[0]
    assert evaluate.own_question(examples[3].question, path) == (examples[3].question, examples[3].rubric)
    assert evaluate.own_question(None, path) == (examples[0].question, examples[0].rubric)
    one = tmp_path / "one.json"
    one.write_text(examples[2].to_json(), encoding="utf-8")
    assert evaluate.own_question("Mine?", one) == ("Mine?", examples[2].rubric)
    assert explained(out, "--rubric", one) == 0
    with pytest.raises(ValueError, match="none of them this --question"):
        evaluate.own_question("Mine?", path)


@pytest.mark.parametrize("rubric, question, expected", [
    (None, "Why?", "missing.txt: expected a rubric"), ("no rubric at all", "Why?", "line 1: expected 'weight Category"),
    ("3 Important: a", "Why?", "no Essential criterion"), (LINES, "why? " * 300, "388"), (LINES, " ", "--question"),
    ("{}", "Why?", "usable row"), ('{"question": "a", "answer": "b"}', "Why?", "with a rubric"),
    (b"\xff\xfe", "Why?", "UTF-8"), ("", "Why?", "line 1")])
def test_bad_input_is_one_line_and_exit_code_2(finished, capsys, tmp_path, rubric, question, expected):
    path = tmp_path / "missing.txt"
    if rubric is not None:
        path.write_bytes(rubric if isinstance(rubric, bytes) else rubric.encode())
    assert explained(finished, "--question", question, "--rubric", path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("evaluate.py: ") and expected in lines[0]
    assert not (finished / "explain.html").exists()


def test_an_unfinished_or_missing_stage_is_one_line(finished, capsys, tmp_path):
    out = linked(finished, tmp_path / "run")
    (tmp_path / "r.txt").write_text(LINES, encoding="utf-8")
    (out / "stage2.pt").unlink()
    assert explained(out, "--question", "Why?", "--rubric", tmp_path / "r.txt") == 2
    save(out / "stage2.pt", load(finished / "stage2.pt") | {"step": 2})
    assert explained(out, "--question", "Why?", "--rubric", tmp_path / "r.txt") == 2
    assert explained(out, "--question", "Why?") == 2
    missing, unfinished, no_rubric = capsys.readouterr().err.splitlines()
    assert "no such checkpoint" in missing and "step 2 of 3" in unfinished and "--rubric" in no_rubric


def test_flags_of_explain_need_its_name(capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["--question", "Why?"])
    assert stopped.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


# -------------------------------------------------------------------------------------------------- a real browser
BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PROBE = """<script>
const say = (name, value) => document.body.setAttribute("data-" + name, value);
addEventListener("error", event => say("error", event.message));
addEventListener("load", () => {
  try {
    document.querySelectorAll("details").forEach(d => { d.open = true; });
    const wide = document.documentElement.clientWidth;
    const out = [...document.querySelectorAll("main *")].filter(
      e => !e.closest(".box") && e.getBoundingClientRect().right > wide + 1);
    say("overflow", document.documentElement.scrollWidth - wide + " " + out.slice(0, 3).map(e => e.outerHTML.slice(0, 80)));
    say("wide", innerWidth);
    const token = document.querySelectorAll(".t")[1];
    token.dispatchEvent(new MouseEvent("mouseenter"));
    say("pop", [pop.hidden, pop.querySelectorAll("tbody tr").length, pop.getBoundingClientRect().right <= wide + 1,
                token.getAttribute("aria-describedby")]);
    token.dispatchEvent(new MouseEvent("mouseleave"));
    say("hidden", pop.hidden);
    const figure = document.querySelector(".effects"), select = figure.querySelector("select");
    const sums = () => [...figure.querySelectorAll(".sum")].map(e => e.textContent).join(" ");
    const before = sums();
    select.dispatchEvent(new Event("change"));
    say("same", before === sums());
    select.value = "alone";
    select.dispatchEvent(new Event("change"));
    say("sums", sums());
    figure.querySelector("td[data-v]").click();
    say("told", figure.querySelector("output").textContent);
    say("stops", [...document.querySelector(".strip").querySelectorAll(".t")].filter(t => t.tabIndex === 0).length);
  } catch (error) { say("error", error); }
});
</script>"""


FRAME = """<!DOCTYPE html><body><iframe style="width:{}px; height:800px; border:0" srcdoc="{}"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{ for (const a of frame.contentDocument.body.attributes) document.body.setAttribute(a.name, a.value); }};
</script></body>"""


@pytest.mark.skipif(not BROWSER, reason="no chromium found: the page was not tried in a browser")
@pytest.mark.parametrize("width", [390, 1440])
def test_in_a_browser_the_page_fits_its_width_and_its_tokens_answer(report, tmp_path, width):
    """In a frame, because a window cannot be as narrow as a phone."""
    long, path = copy.deepcopy(report), tmp_path / "page.html"
    long["examples"][0]["question"] = long["stage1"][0]["question"] = "W" * 200
    long["examples"][0]["answers"][0]["tokens"][2]["text"] = "w" * 90
    path.write_text(FRAME.format(width, escape(page.page(long).replace("</body>", PROBE + "</body>"))), encoding="utf-8")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1500,900",
         "--virtual-time-budget=3000", "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=60)
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<body[^>]*>", done.stdout)[0]))
    assert "error" not in found and found["overflow"].strip() == "0" and found["wide"] == str(width), found
    assert found["pop"] == "false,5,true,pop" and found["hidden"] == "true" and found["stops"] == "1"
    assert found["same"] == "true" and found["told"].startswith("The whole rubric on ")
    alone = report["examples"][0]["answers"][0]["effects"]["logprob"]["alone"]
    shown = [float(x.replace("−", "-")) for x in found["sums"].split()]
    assert shown[1:len(alone) + 1] == pytest.approx([sum(row) for row in alone], abs=0.006)
