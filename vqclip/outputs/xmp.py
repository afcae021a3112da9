"""What photo tools show of a picture: description and keywords as an XMP packet (ISO 16684-1).

The IPTC's photo metadata standard keeps its Description and Keywords in these two properties. Its older binary block
is not written beside them: PNG and WebP have no place for it, and it cuts keywords at 64 bytes.
"""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape

LONGEST = 8_000
"""Characters of a text that are written, so that a packet fits into one segment of a JPEG."""

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (section 2.2) does not allow."""

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">
<xmp:CreatorTool>{tool}</xmp:CreatorTool>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{description}</rdf:li></rdf:Alt></dc:description>
<dc:subject><rdf:Bag>{keywords}</rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def packet(tool: str, description: str, keywords: Sequence[str]) -> str:
    """Return the packet of a picture that `tool` made; what XML cannot hold is left out of the texts."""
    listed = "".join(f"<rdf:li>{_text(keyword)}</rdf:li>" for keyword in keywords)
    return PACKET.format(tool=_text(tool), description=_text(description), keywords=listed)


def _text(text: str) -> str:
    return escape(ILLEGAL.sub("", text)[:LONGEST])
