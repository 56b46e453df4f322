"""The report of a run as one HTML page. No torch: the page draws what JSON says.

    text = page(json.loads(...))     # report.json of one or several runs, or explain.json

A section is there if its numbers are. All figures in the text come from the JSON; the settings of
the drawing itself are in markup.py.
"""

import json
from html import escape
from pathlib import Path

from report.answer_sections import draw_criteria, draw_links, draw_strips
from report.markup import BINS
from report.run_sections import draw_clip, draw_run, draw_stage1, draw_teacher

SECTIONS = (  # what must be in the report, the target and text of the link, the function
    ("runs", "run", "The run", draw_run),
    ("examples", "strips", "Token by token", draw_strips),
    ("examples", "criteria", "Criteria", draw_criteria),
    ("link_tokens", "links", "A rubric's tokens", draw_links),
    ("stage1", "stage1", "Stage I", draw_stage1),
    ("teacher", "teacher", "The teacher", draw_teacher),
    ("teacher", "clip", "Clip modes", draw_clip),
)


def page_title(report: dict) -> str:
    """The title of the page: methods and seeds of the runs, if there are any."""
    if report.get("runs"):
        settings = [run["settings"] for run in report["runs"]]
        methods = ", ".join(dict.fromkeys(s["method"] for s in settings))
        return f"Report: {methods}, seed {', '.join(str(s['seed']) for s in settings)}"
    return "One question, explained" if report.get("examples") else "Report"


def script_data(report: dict) -> str:
    """What page.js reads, as JSON that can stand inside an HTML element."""
    examples = []
    for example in report.get("examples", []):
        answers = [{"tokens": a["tokens"], "effects": a["effects"]} for a in example["answers"]]
        examples.append({"answers": answers})
    data = {"bins": BINS, "examples": examples}
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def page(report: dict) -> str:
    """A whole HTML document for report.json: its summary, and what SECTIONS names of its keys."""
    links, content = "", ""
    for needed, key, name, draw in SECTIONS:
        if report.get(needed):
            links += f'<li><a href="#{key}">{name}</a></li>'
            content += draw(report)
    said = f"<p class=summary>{escape(report['summary'])}</p>" if report.get("summary") else ""
    title, folder = escape(page_title(report)), Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8")
    code = (folder / "page.js").read_text(encoding="utf-8")
    return (
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head><body><header><h1>{title}</h1>{said}"
        f"<nav aria-label=Sections><ul>{links}</ul></nav></header><main>{content}</main>"
        "<div id=pop role=tooltip hidden></div>"
        f'<script type="application/json" id=data>{script_data(report)}</script>'
        f"<script>{code}</script></body></html>\n"
    )
