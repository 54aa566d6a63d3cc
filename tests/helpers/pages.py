"""What holds for every page that a command writes."""

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET

FETCHES = ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "EventSource", "sendBeacon")
MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")


def check_page(html: str) -> None:
    """Nothing is loaded: no address, no script but the page's own, no link but to itself."""
    assert not re.search(r"https?://|//[a-z]+\.", html)
    assert "<link" not in html
    assert "@import" not in html
    for target in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert target.startswith(("#", "data:"))
    for target in re.findall(r"url\(([^)]*)\)", html):
        assert target.startswith("#")
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ET.fromstring(svg)
    _check_scripts(html)
    assert len(html.encode()) < 5 * 2**20


def _check_scripts(html: str) -> None:
    """One script, named by its hash, fetches nothing and writes no markup; the rest is data."""
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", html, flags=re.DOTALL)
    (code,) = [text for attributes, text in scripts if not attributes]
    data = [text for attributes, text in scripts if attributes]
    assert all(attributes in ("", ' type="application/json"') for attributes, _ in scripts)
    assert len(re.findall("<script", html)) == len(scripts)
    for text in data:
        assert not set(text) & set("<>&")
        json.loads(text)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    for name in (*FETCHES, *MARKUP):
        assert name not in code
