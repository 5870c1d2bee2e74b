"""Prompt texts: jinja2 files a protocol ships, any of which a directory of one's own may replace.

Templates are compiled once per directory and rendered in a sandbox with strict names. What is filled in is data and
never read as a template. Knows nothing of what any text is for: a protocol declares its files and their placeholders.
"""

import functools
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

SUFFIX = ".txt"


MAX_SHARED = 1024
"""Texts kept for `shared`; when there are more, all are rendered again."""


class Texts:
    """The compiled texts of one protocol, by name (the file name without `.txt`)."""

    def __init__(self, templates: Mapping[str, "Template"]) -> None:
        self._templates = templates
        self._shared: dict[tuple[Any, ...], str] = {}

    def render(self, text: str, /, **values: Any) -> str:
        """Fill in one text. Raises KeyError when no such text was declared."""
        template = self._templates[text]
        # `Template.render` copies jinja2's globals into every context. No text can name one: they are no placeholders.
        context = template.environment.context_class(template.environment, values, template.name, template.blocks)
        return "".join(template.root_render_func(context)).strip()

    def shared(self, text: str, /, **values: Hashable) -> str:
        """Fill in a text that many dialogues have in common: rendered once per distinct values, and one object."""
        key = (text, *values.values())
        known = self._shared.get(key)
        if known is None:
            if len(self._shared) >= MAX_SHARED:
                self._shared.clear()
            known = self._shared[key] = self.render(text, **values)
        return known


class Catalog:
    """The texts a protocol declares: a directory, and per text the placeholders its file may use."""

    def __init__(self, directory: Path, placeholders: Mapping[str, frozenset[str]]) -> None:
        self.directory = directory
        self.placeholders = placeholders

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files as shipped, sorted."""
        return tuple(self.directory / f"{name}{SUFFIX}" for name in sorted(self.placeholders))

    def load(self, override: Path | None = None) -> Texts:
        """Compile the texts, those in `override` instead of the shipped ones; cached per directory.

        Raises InputError with every missing or unknown file, broken template and unknown placeholder, by file and line.
        """
        return _load(self, override)


@functools.lru_cache(maxsize=64)
def _load(catalog: Catalog, override: Path | None) -> Texts:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False, keep_trailing_newline=False
    )
    problems = list(_strangers(catalog, override))
    templates = {name: _compile(environment, catalog, override, name, problems) for name in catalog.placeholders}
    if problems:
        raise InputError(problems)
    return Texts({name: template for name, template in templates.items() if template is not None})


def _strangers(catalog: Catalog, override: Path | None) -> Iterator[str]:
    """Yield what is wrong with an override directory itself."""
    if override is None:
        return
    if not override.is_dir():
        yield f"prompts must be a directory, got {override}: create it, or leave the setting out"
        return
    for path in sorted(override.glob(f"*{SUFFIX}")):
        if path.stem not in catalog.placeholders:
            known = ", ".join(sorted(catalog.placeholders))
            yield f"{path}: must be named after one of the protocol's texts ({known}), got {path.stem!r}: rename it"


def _compile(
    environment: "SandboxedEnvironment", catalog: Catalog, override: Path | None, name: str, problems: list[str]
) -> "Template | None":
    from jinja2 import TemplateSyntaxError

    path = _find(catalog, override, name)
    try:
        source = path.read_text(encoding="utf-8")
        problems.extend(_unknown_names(environment, source, path, catalog.placeholders[name]))
        return environment.from_string(source)
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: must be a readable UTF-8 text, got {type(error).__name__}: restore the file")
    except TemplateSyntaxError as error:
        problems.append(f"{path}:{error.lineno}: must be a valid template, got {error.message}: correct the line")
    return None


def _find(catalog: Catalog, override: Path | None, name: str) -> Path:
    own = override / f"{name}{SUFFIX}" if override is not None else None
    return own if own is not None and own.is_file() else catalog.directory / f"{name}{SUFFIX}"


def _unknown_names(
    environment: "SandboxedEnvironment", source: str, path: Path, known: frozenset[str]
) -> Iterator[str]:
    """Yield one problem per use of a placeholder that the protocol does not fill in."""
    from jinja2 import meta, nodes

    tree = environment.parse(source)
    unknown = meta.find_undeclared_variables(tree) - known
    for node in tree.find_all(nodes.Name):
        if node.name in unknown:
            allowed = ", ".join(sorted(known)) or "none"
            yield f"{path}:{node.lineno}: placeholder must be one of {allowed}, got {node.name!r}: correct the name"
