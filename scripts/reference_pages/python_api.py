"""The pages of the Python API: the public names, and every package for readers of the code."""

import ast
import inspect
import pkgutil
from pathlib import Path

import fluoro_reg

_SOURCES = Path(__file__).resolve().parents[2] / "fluoro_reg"


def packages() -> list[str]:
    """The packages of fluoro_reg by name."""
    return sorted(info.name for info in pkgutil.iter_modules(fluoro_reg.__path__) if info.ispkg)


def public_names_page() -> str:
    """What `import fluoro_reg` offers, each entry documented where it is defined."""
    parts = [
        "# Python API\n\nThe names below are the public interface: `import fluoro_reg as fr`, then `fr.read_ct` and so on. "
        "They are loaded when they are first used, so that the import takes no time. Everything else is documented for readers "
        "of the code, package by package, and may change between versions.\n"
    ]
    for name in sorted(set(fluoro_reg.__all__) - {"__version__"}, key=str.casefold):
        defined = getattr(fluoro_reg, name)
        path = f"{defined.__module__}.{defined.__qualname__}"
        kind = "members_order: source" if inspect.isclass(defined) else "show_source: false"
        options = f'    options:\n      heading: "fluoro_reg.{name}"\n      toc_label: "{name}"\n      {kind}\n'
        parts.append(f"::: {path}\n{options}")
    return "\n".join(parts)


def package_page(name: str) -> str:
    """All modules of one package."""
    package = f"fluoro_reg.{name}"
    folder = _SOURCES / name
    modules = sorted(".".join((package, *path.relative_to(folder).with_suffix("").parts)) for path in folder.rglob("*.py"))
    parts = [f"# {package}\n\n{_docstring(folder / '__init__.py')}\n"]
    parts += [f"::: {module}\n" for module in modules if not module.endswith("__init__")]
    return "\n".join(parts)


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
