"""What holds for every page that a command writes."""

import re
import xml.etree.ElementTree as ET


def check_page(html: str) -> None:
    """Nothing is loaded: no address, no script, no link but to the page itself."""
    assert not re.search(r"https?://|//[a-z]+\.", html)
    assert "<script" not in html
    assert "<link" not in html
    assert "@import" not in html
    for target in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert target.startswith(("#", "data:"))
    for target in re.findall(r"url\(([^)]*)\)", html):
        assert target.startswith("#")
    for svg in re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL):
        ET.fromstring(svg.replace("xlink:href", "href"))
