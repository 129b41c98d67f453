"""Configuration of the documentation site: `make docs` builds it into `build/docs`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Importing Airflow creates its home folder and a configuration in it.
os.environ.setdefault("AIRFLOW_HOME", str(Path(tempfile.gettempdir()) / f"helmr-docs-airflow-{os.getuid()}"))

from helmr_provider import __version__  # noqa: E402

project = "airflow-provider-helmr"
author = "the airflow-provider-helmr authors"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
    "dev.sphinx_extension",
]
root_doc = "index"
exclude_patterns = ["_build"]
nitpicky = True
# References to our public names must lead somewhere. Other projects have no pages here, as nothing is fetched from the
# network, and signatures also name types that are not public.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!helmr_provider\.).*"),
    (r"py:class", r"(?!helmr_provider\.client\.\w+$)(?!helmr_provider\.(\w+\.)*Helmr\w+$).*"),
    (r"py:class", r".*\.HelmrSettings"),
]
suppress_warnings = ["myst.strikethrough"]

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
add_module_names = False

# Prompts and output are not copied.
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"Helmr for Apache Airflow {version}"
html_static_path = ["_static", "integration-logos"]
html_css_files = ["site.css"]
html_favicon = "integration-logos/helmr.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "light_logo": "helmr.svg",
    "dark_logo": "helmr.svg",
    "sidebar_hide_name": False,
    "light_css_variables": {"color-brand-primary": "#5b45c9", "color-brand-content": "#5b45c9"},
    "dark_css_variables": {"color-brand-primary": "#a99bff", "color-brand-content": "#a99bff"},
    "top_of_page_buttons": [],
}
