"""Text that tries to leave its place in a page."""

from __future__ import annotations

from hypothesis import strategies as st

HOSTILE = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "</pre></section><script>",
            "<!-- ",
            "]]>",
            "&lt;script&gt;",
            "' onmouseover='alert(1)",
            "\x00<\x00s\x00c",
            "\u202e<b>",
        ]
    ),
)
