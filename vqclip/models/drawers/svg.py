"""SVG documents: shapes in the order in which they are painted."""

from collections.abc import Iterable

from torch import Tensor


def document(size: tuple[int, int], shapes: Iterable[str], crisp: bool = False) -> str:
    """Return an SVG 1.1 document of `size` (H, W) with these elements; `crisp` leaves no seams between neighbours."""
    height, width = size
    rendering = ' shape-rendering="crispEdges"' if crisp else ""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join((f"{head}{rendering}>", *shapes, "</svg>", ""))


def hexadecimal(colour: Tensor) -> str:
    """Write a colour (3,) in [0, 1] as #rrggbb."""
    return "#" + "".join(f"{round(255 * level):02x}" for level in colour.clamp(0, 1).tolist())
