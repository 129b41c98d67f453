"""The policy allows the page's own style and script, and nothing else."""

from __future__ import annotations

import base64
import hashlib

from helmr_provider.airflow_ui.assets import HEADERS, POLICY, SCRIPT, STYLE


def test_the_policy_names_the_hashes_of_style_and_script_and_no_exception() -> None:
    for content in (STYLE, SCRIPT):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'" in POLICY
    assert "unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    assert "frame-ancestors 'self'" in POLICY
    assert HEADERS["Content-Security-Policy"] == POLICY


def test_style_and_script_cannot_end_their_elements() -> None:
    assert "</" not in STYLE
    assert "</" not in SCRIPT


def test_the_script_writes_no_html_into_the_page() -> None:
    for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval", "setAttribute('on"):
        assert word not in SCRIPT
