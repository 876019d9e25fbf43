"""Sphinx: how the Markdown of this repository becomes a site. scripts/docs runs it.

The source folder is the root of the repository, so that links between pages, and from pages to files, are the same here and where the
Markdown is read as it is. Three pages are completed here: the start page with the list of all pages, the C++ API with what Doxygen reads
in the headers, and the Python API with the package's docstrings.
"""
import os
import re
import sys
import xml.etree.ElementTree as xml

from sphinx.errors import ExtensionError

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
DOXYGEN_XML = os.path.join(ROOT, "build", "docs", "doxygen", "xml")
PYTHON = os.path.join(ROOT, "python", "src")
KATEX = os.environ.get("BSBR_KATEX", "/usr/share/javascript/katex")  # Debian's libjs-katex: formulas without a network

with open(os.path.join(ROOT, "CHANGELOG.md"), encoding="utf-8") as file:
    release = re.search(r"^## (.+?)(?: - .*)?$", file.read(), flags=re.M).group(1)  # "0.1.0 (unreleased)", "0.1.0 - 2027-01-31"
project = "bsbr"
author = "the bsbr authors"
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "examples/*.md", "models/*.md"]

extensions = ["myst_parser", "breathe", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
breathe_projects = {"bsbr": DOXYGEN_XML}
breathe_default_project = "bsbr"
breathe_default_members = ("members",)
primary_domain = "cpp"
copybutton_prompt_text = "$ "  # of `console` blocks: their commands are copied, not what these print

# The Python package is read without having been built: what it imports is not needed for its signatures and docstrings.
sys.path.insert(0, PYTHON)
autodoc_mock_imports = ["bsbr_hpc._core", "numpy", "mpi4py"]
autodoc_typehints = "description"
autoclass_content = "both"  # of the class and of __init__

html_theme = "furo"
html_title = f"bsbr {release}"
html_favicon = "site/static/bsbr.svg"
html_logo = "site/static/bsbr.svg"
html_static_path = [KATEX, "site/static"]
html_css_files = ["katex.min.css", "site.css"]
html_additional_pages = {"index": "start.html"}  # to the start page
html_copy_source = False
html_show_copyright = False

# Formulas are written as for MathJax, and shown by KaTeX, which is small enough to be copied into the site.
mathjax_path = "katex.min.js"
mathjax_options = {"defer": "defer"}
html_js_files = ["from_disk.js", ("contrib/auto-render.js", {"defer": "defer", "onload": "renderMathInElement(document.body)"})]
html_assets_policy = "always"
templates_path = ["site"]

# The order of the pages, by what a reader wants of them. A page that is not here is listed after these; one that does not exist is not.
SECTIONS = {
    "What is computed": ["mathematics", "architectures", "formats", "weights"],
    "Use": ["programs", "training", "learning", "commands", "library", "api", "python", "python_api", "faq"],
    "Run": ["centre", "gpu", "spack"],
    "Speed": ["performance", "tuning", "scaling"],
    "Inside": ["architecture", "adding-an-architecture"],
}
PROJECT = ["README", "examples/README", "models/README", "CONTRIBUTING", "ROADMAP", "CHANGELOG", "SECURITY", "CODE_OF_CONDUCT"]

# Sections of the Python API: the names that the package exports, by the module that has them.
PYTHON_SECTIONS = {"_model": "Models", "_stream": "Streams", "_loss": "Losses", "_arrays": "Arrays", "errors": "Exceptions"}


def tables_of_contents():
    """The list of pages, as MyST has it."""
    there = {name[:-3] for name in os.listdir(HERE) if name.endswith(".md")} - {"index"}
    listed = {page for pages in SECTIONS.values() for page in pages}
    sections = {**SECTIONS, "More": sorted(there - listed)}
    trees = {caption: [f"/docs/{page}" for page in pages if page in there] for caption, pages in sections.items()}
    trees["Project"] = [f"{page.removesuffix('/README')} </{page}>" for page in PROJECT]
    return "".join("\n```{toctree}\n:hidden:\n:caption: %s\n\n%s\n```\n" % (caption, "\n".join(pages))
                   for caption, pages in trees.items() if pages)


NAMESPACES = ("bsbr", "bsbr::parallel")  # that public headers declare something in


def declarations(header):
    """Breathe's directives for everything that a header declares, in its order."""
    found = []
    for namespace in NAMESPACES:
        root = xml.parse(os.path.join(DOXYGEN_XML, "namespace" + namespace.replace("::", "_1_1") + ".xml")).getroot()
        for reference in root.iter("innerclass"):
            kind = "struct" if reference.get("refid").startswith("struct") else "class"
            place = xml.parse(os.path.join(DOXYGEN_XML, reference.get("refid") + ".xml")).getroot().find("compounddef/location")
            found.append((place, kind, reference.text))
        for member in root.iter("memberdef"):
            arguments = member.findtext("argsstring") if member.get("kind") == "function" else ""
            found.append((member.find("location"), member.get("kind"), f"{namespace}::{member.findtext('name')}{arguments}"))
    own = sorted((int(place.get("line")), kind, name) for place, kind, name in found if os.path.basename(place.get("file")) == header)
    if not own:
        raise ExtensionError(f"{header}: Doxygen has found nothing in it")
    return "".join("\n\n```{doxygen%s} %s\n```" % (kind, name) for line, kind, name in own)


def python_members(module):
    """Autodoc's directives for the classes and functions of a module that the Python package exports, in its order."""
    with open(os.path.join(PYTHON, "bsbr_hpc", "__init__.py"), encoding="utf-8") as file:
        exported = set(re.findall(r'^    "(\w+)",$', file.read(), flags=re.M))
    with open(os.path.join(PYTHON, "bsbr_hpc", module + ".py"), encoding="utf-8") as file:
        found = [(kind, name) for kind, name in re.findall(r"^(class|def) (\w+)", file.read(), flags=re.M) if name in exported]
    if not found:
        raise ExtensionError(f"{module}.py: the package exports nothing of it")
    directives = {"class": "autoclass:: bsbr_hpc.%s\n   :members:\n   :show-inheritance:", "def": "autofunction:: bsbr_hpc.%s"}
    return "".join("\n\n```{eval-rst}\n.. %s\n```" % (directives[kind] % name) for kind, name in found)


def fill_in(app, docname, source):
    """Adds to a page what this site has and the plain Markdown has not."""
    if docname in ("docs/api", "docs/python_api"):  # what these links lead to follows on the site itself
        source[0] = re.sub(r"\[([^]]+)\]\(\.\./(?:include|python)/[^)]+\)", r"\1", source[0])
    if docname == root_doc:
        source[0] += tables_of_contents()
    elif docname == "docs/python_api":
        for module, section in PYTHON_SECTIONS.items():
            source[0] = re.sub(rf"^## {section}\n\n.*$", lambda found: found.group(0) + python_members(module), source[0], flags=re.M)
    elif docname == "docs/api":
        source[0] = re.sub(r"^## (\w+\.hpp)\n\n.*$", lambda found: found.group(0) + declarations(found.group(1)), source[0], flags=re.M)


def setup(app):
    app.connect("source-read", fill_in)
