"""The page in a browser, where there is one."""

import copy
import json
import math
import re
import shutil
import subprocess
from html import escape, unescape

import pytest

from pages import STRIPS, by_hand, effects_by_hand
from report import explain, markup, page

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
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
    path.write_text(
        FRAME.format(width, escape(page.page(long).replace("</body>", PROBE + "</body>"))),
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1500,900",
            "--virtual-time-budget=3000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<body[^>]*>", done.stdout)[0]))
    assert (
        "error" not in found and found["overflow"].strip() == "0" and found["wide"] == str(width)
    ), found
    assert (
        found["pop"] == "false,5,true,pop" and found["hidden"] == "true" and found["stops"] == "1"
    )
    assert found["same"] == "true" and found["told"].startswith("The whole rubric on ")
    alone = report["examples"][0]["answers"][0]["effects"]["logprob"]["alone"]
    shown = [float(x.replace("−", "-")) for x in found["sums"].split()]
    assert shown[1 : len(alone) + 1] == pytest.approx([sum(row) for row in alone], abs=0.006)


LOOK = """<script>
addEventListener("load", () => {
  try {
    document.querySelectorAll("details").forEach(d => { d.open = true; });
    const pops = [...document.querySelectorAll(".t")].map(t => {
      t.dispatchEvent(new MouseEvent("mouseenter"));
      return [[...pop.querySelectorAll("p")].map(p => p.textContent), [...pop.querySelectorAll("tr")].map(
        r => [...r.children].map(c => c.textContent)), getComputedStyle(t).backgroundColor, getComputedStyle(t).borderTopStyle];
    });
    const heats = [...document.querySelectorAll(".effects")].map(f =>
      ["left out", "alone"].flatMap(h => ["logprob", "divergence"].map(m => {
      const [how, measure] = f.querySelectorAll("select");
      how.value = h; measure.value = m; measure.dispatchEvent(new Event("change"));
      return [...f.querySelectorAll("tbody tr")].map(r => [r.children[0].textContent, r.children[1].textContent,
        ...[...r.querySelectorAll("td[data-v]")].map(c => { c.click(); return [c.title, c.textContent, c.className,
          f.querySelector("output").textContent]; })]);
    })));
    const key = [...document.querySelectorAll("#strips .key li")].slice(1).map(li => getComputedStyle(li).backgroundColor);
    document.body.setAttribute("data-look", JSON.stringify([pops, heats, key]));
  } catch (error) { document.body.setAttribute("data-look", JSON.stringify(String(error))); }
});
</script>"""


@pytest.mark.skipif(not BROWSER, reason="no chromium found: the page was not tried in a browser")
def test_in_a_browser_popovers_and_heatmaps_say_what_the_json_says(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page.page(by_hand()).replace("</body>", LOOK + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=3000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    pops, heats, key = json.loads(unescape(re.search(r'data-look="([^"]*)"', done.stdout)[1]))
    pops = iter(pops)

    def three(p):
        return f"{p:.3f}"

    for e, example in enumerate(by_hand()["examples"]):
        for a, answer in enumerate(example["answers"]):
            for side in ("before", "after"):
                for token, (*_, d, shade, clipped) in zip(answer["tokens"], STRIPS[e, a, side][0]):
                    (title, *facts), (head, *rows), colour, frame = next(pops)
                    student, teacher = token[side], token["teacher"]
                    text = token["text"].replace("\n", "⏎")
                    assert title == f"“{text}”: divergence {d} nats, " + (
                        "clipped" if clipped else "not clipped"
                    )
                    assert facts == [
                        f"{n}: {three(math.exp(o['logprob']))} for this token, entropy {o['entropy']:.2f} nats"
                        for n, o in (("Student", student), ("Teacher", teacher))
                    ]
                    assert head == ["student", "p", "teacher", "p"]
                    assert rows == [
                        [s, three(p), t, three(q)]
                        for (s, p), (t, q) in zip(student["top"], teacher["top"])
                    ]
                    assert colour == key[shade] and frame == ("dashed" if clipped else "solid")
            ways = [(how, measure) for how in ("left out", "alone") for measure in explain.MEASURES]
            for way, rows in zip(ways, heats[e if e == 0 else 1 + a]):
                assert [
                    [*row[:2], *((v, sign) for v, sign, *_ in row[2:])] for row in rows
                ] == effects_by_hand(e, a, *way)
                for row in rows:
                    for token, (value, _, look, told) in zip(answer["tokens"], row[2:]):
                        assert look == f"d{markup.level(float(value.replace('−', '-')))}"
                        assert (
                            told
                            == f"{row[0]} on “{token['text'].replace(chr(10), '⏎')}”: {value} nats"
                        )
    assert next(pops, None) is None and len(set(key)) == len(markup.BINS) + 1
    light = [sum(map(int, re.findall(r"\d+", colour))) for colour in key]
    assert light == sorted(light, reverse=True)
