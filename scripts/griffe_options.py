"""An extension of griffe, which reads the sources for the Python API pages: settings are shown as plain fields.

A field `x: float = option(0.4, "text", unit="mm")` gets the default 0.4 and the documentation "text [mm]"; one made by
`section(Other)` gets the default `Other()`.
"""

import ast
from typing import Any

import griffe


class OptionFields(griffe.Extension):
    """Replaces `option(...)` and `section(...)` by what they mean."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        """Called by griffe for every attribute that it finds."""
        call = attr.value
        if not isinstance(call, griffe.ExprCall) or str(call.function) not in ("option", "section"):
            return
        if str(call.function) == "section":
            attr.value = f"{call.arguments[0]}()"
            return
        default, text, *others = call.arguments
        attr.value = str(default)
        unit = [str(other.value) for other in others if isinstance(other, griffe.ExprKeyword) and other.name == "unit"]
        suffix = f" [{ast.literal_eval(unit[0])}]" if unit else ""
        attr.docstring = griffe.Docstring(f"{ast.literal_eval(str(text))}{suffix}", parent=attr)
