"""Sphinx: how the Markdown of this repository becomes a site. scripts/docs runs it.

The source folder is the root of the repository, so that links between pages, and from pages to files, are the same here and where the
Markdown is read as it is. Three pages are filled in here with what would otherwise be written twice: the start page with the list of all
pages, the command reference with what the programs print, and the API with what Doxygen reads in the headers.
"""
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml

from sphinx.errors import ExtensionError

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
DOXYGEN_XML = os.path.join(ROOT, "build", "docs", "doxygen", "xml")
KATEX = os.environ.get("BSBR_KATEX", "/usr/share/javascript/katex")  # Debian's libjs-katex: formulas without a network

with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as file:
    release = re.search(r"project\(bsbr VERSION (\S+)", file.read()).group(1)
project = "bsbr"
author = "the bsbr authors"
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "examples/*.md"]

extensions = ["myst_parser", "breathe", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
breathe_projects = {"bsbr": DOXYGEN_XML}
breathe_default_project = "bsbr"
breathe_default_members = ("members",)
primary_domain = "cpp"

html_theme = "furo"
html_title = f"bsbr {release}"
html_static_path = [KATEX, "site/static"]
html_css_files = ["katex.min.css", "site.css"]
html_additional_pages = {"index": "start.html"}  # to the start page
html_copy_source = False
html_show_copyright = False

# Formulas are written as for MathJax, and shown by KaTeX, which is small enough to be copied into the site.
mathjax_path = "katex.min.js"
mathjax_options = {"defer": "defer"}
html_js_files = [("contrib/auto-render.js", {"defer": "defer", "onload": "renderMathInElement(document.body)"})]
html_assets_policy = "always"
templates_path = ["site"]

# The order of the pages, by what a reader wants of them. A page that is not here is listed after these; one that does not exist is not.
SECTIONS = {
    "What is computed": ["mathematics", "architectures", "formats", "weights"],
    "Use": ["programs", "commands", "python", "library", "api"],
    "Run": ["centre", "gpu", "spack"],
    "Speed": ["performance", "tuning", "scaling"],
    "Inside": ["architecture"],
}
PROJECT = ["README", "examples/README", "CONTRIBUTING", "CHANGELOG", "SECURITY"]


def tables_of_contents():
    """The list of pages, as MyST has it."""
    there = {name[:-3] for name in os.listdir(HERE) if name.endswith(".md")} - {"index"}
    listed = {page for pages in SECTIONS.values() for page in pages}
    sections = {**SECTIONS, "More": sorted(there - listed)}
    trees = {caption: [f"/docs/{page}" for page in pages if page in there] for caption, pages in sections.items()}
    trees["Project"] = [f"{page.removesuffix('/README')} </{page}>" for page in PROJECT]
    return "".join("\n```{toctree}\n:hidden:\n:caption: %s\n\n%s\n```\n" % (caption, "\n".join(pages))
                   for caption, pages in trees.items() if pages)


def output_of(command):
    """What a command that ends with --help prints. Programs are found in PATH, scripts from the root of the repository."""
    words = command.split()
    if words[0].startswith("python3"):
        words[0] = sys.executable
    done = subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    if done.returncode != 0:
        raise ExtensionError(f"{command}: ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.rstrip()


def declarations(header):
    """Breathe's directives for everything that a header declares, in its order."""
    root = xml.parse(os.path.join(DOXYGEN_XML, "namespacebsbr.xml")).getroot()
    found = []
    for reference in root.iter("innerclass"):
        kind = "struct" if reference.get("refid").startswith("struct") else "class"
        place = xml.parse(os.path.join(DOXYGEN_XML, reference.get("refid") + ".xml")).getroot().find("compounddef/location")
        found.append((place, kind, reference.text))
    for member in root.iter("memberdef"):
        arguments = member.findtext("argsstring") if member.get("kind") == "function" else ""
        found.append((member.find("location"), member.get("kind"), "bsbr::" + member.findtext("name") + arguments))
    own = sorted((int(place.get("line")), kind, name) for place, kind, name in found if os.path.basename(place.get("file")) == header)
    if not own:
        raise ExtensionError(f"{header}: Doxygen has found nothing in it")
    return "".join("\n\n```{doxygen%s} %s\n```" % (kind, name) for line, kind, name in own)


def fill_in(app, docname, source):
    """Adds to a page what this site has and the plain Markdown has not."""
    if docname == root_doc:
        source[0] += tables_of_contents()
    elif docname == "docs/commands":
        source[0] = re.sub(r"^\$ (.+ --help)$", lambda found: found.group(0) + "\n" + output_of(found.group(1)), source[0], flags=re.M)
    elif docname == "docs/api":
        source[0] = re.sub(r"^## (\w+\.hpp)\n\n.*$", lambda found: found.group(0) + declarations(found.group(1)), source[0], flags=re.M)


def setup(app):
    app.connect("source-read", fill_in)
