"""Write docs/configuration.md: every setting with its type, bounds, default and meaning.

Types, bounds and defaults come from the settings' classes, what a setting means from the comments
of configs/base.yaml, or else of those classes. A test compares the page with what is written here.

    python scripts/config_reference.py
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from gan_denoise.config.registry import KINDS
from gan_denoise.config.schema import Config
from gan_denoise.config.section import Section

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "configuration.md"
BASE = ROOT / "configs" / "base.yaml"
HEAD = """# Configuration reference

*This page is written by `scripts/config_reference.py` from the settings themselves.*

A config is a YAML file of sections. It `extends` another one and holds only what differs from it,
down to [`configs/base.yaml`](../configs/base.yaml), which has every setting with its default. On
the command line `section.key=value` comes last:

```
gan-denoise pretrain --config real-16k-pretrain --run runs/mine data.speech=my/speech \\
  data.noise=my/noise training.minutes=60 generator.width=96
```

A key that there is not, or that has no effect on the chosen kind, is refused with the nearest one
that has. The resolved settings are written into every run and every model folder as `config.yaml`.
Values are YAML; paths are text whatever they look like; several folders are `data.speech=[a,b]`.
"..." leads from one row to the next.

Shipped configs, by the name that `--config` takes:

{shipped}
"""


def page() -> str:
    """Return the page."""
    comments = read_comments(BASE)
    parts = [HEAD.format(shipped=shipped())]
    for section, info in Config.model_fields.items():
        if section == "format_version":
            continue
        parts.append(f"## {section}\n")
        if section in KINDS:
            parts += kinds(section, comments)
        elif isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            parts += [f"{summary(info.annotation)}\n", table(section, info.annotation, comments)]
        else:
            parts.append("A list of text, by default empty: modules of your own that add "
                         "generators, discriminators, losses, layouts and inversions, see "
                         "[extend](extend.md).\n")
    return "\n".join(parts).rstrip() + "\n"


def kinds(section: str, comments: list[Block]) -> list[str]:
    """Return the parts of a section that comes in several kinds."""
    key = KINDS[section].key
    parts = [f"One of several kinds, which `{section}.{key}` names. The first is the default.\n"
             if key else "What is trained on; which keys are given says which source it is.\n"]
    for settings in KINDS[section].all():
        title = KINDS[section].title(settings)
        if key:
            title = f"`{title}`"
        parts += [f"### {title[0].upper()}{title[1:]}\n", f"{summary(settings)}\n",
                  table(section, settings, comments)]
    return parts


def summary(settings: type[Section]) -> str:
    """Return the first sentence of a class."""
    return inspect.getdoc(settings).split("\n\n")[0].replace("\n", " ")


class QuietSchema(GenerateJsonSchema):
    """A JSON schema that says nothing of defaults which JSON has not: frozen mappings."""

    ignored_warning_kinds = frozenset({"non-serializable-default", "skipped-choice"})


def table(section: str, settings: type[Section], comments: list[Block]) -> str:
    """Return the table of a settings class."""
    schema = settings.model_json_schema(schema_generator=QuietSchema)
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    own = settings.__annotations__
    for key in sorted(settings.model_fields, key=lambda key: key not in own):
        if section in KINDS and key == KINDS[section].key:
            continue  # the heading says it
        field = schema["properties"][key]
        default = json.dumps(settings.model_fields[key].default)
        meaning = describe(comments, section, key, settings)
        cells = [f"`{section}.{key}`", type_of(field), f"`{default}`", meaning]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def type_of(field: dict[str, Any]) -> str:
    """Return the type of a value and its bounds in words, from its JSON schema."""
    if "anyOf" in field:
        return " or ".join(type_of(option) for option in field["anyOf"])
    if "const" in field or "enum" in field:
        values = field.get("enum", [field.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    if field.get("type") == "array":
        if "prefixItems" in field:
            each = {type_of(item): None for item in field["prefixItems"]}
            return f"{len(field['prefixItems'])} values: {', '.join(each)}"
        return f"list of: {type_of(field.get('items', {}))}"
    if field.get("type") == "object":
        return "mapping"
    name = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false",
            "null": "null"}.get(field.get("type"), "any")
    bounds = [f"{sign} {field[key]:g}" for key, sign in
              (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"),
               ("exclusiveMaximum", "<")) if key in field]
    return " ".join((name, ", ".join(bounds))).strip()


# ---- The comments of base.yaml -----------------------------------------------------------------
Block = tuple[str, dict[str, str]]  # section, {key: comment}


def read_comments(path: Path) -> list[Block]:
    """Return the sections of a commented YAML file, those shown as comments too."""
    blocks: list[Block] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if head := re.match(r"(?:# )?(\w+): *(?:#.*)?$", line):
            blocks.append((head[1], {}))
        elif blocks and (row := re.match(r"(?:# )? {2}(\w+): [^#]*(?:# *(.*))?$", line)):
            blocks[-1][1][row[1]] = (row[2] or "").strip()
        elif blocks and blocks[-1][1] and (more := re.match(r" {10,}# *(.*)$", line)):
            last = next(reversed(blocks[-1][1]))
            blocks[-1][1][last] += " " + more[1]
    return blocks


def describe(comments: list[Block], section: str, key: str, settings: type[Section]) -> str:
    """Return what is said of a key: in the block of its own kind, else in any of its section."""
    blocks = [block for name, block in comments if name == section and key in block]
    blocks.sort(key=lambda block: set(block) != set(settings.model_fields))
    said = next((block[key] for block in blocks if block[key]), "")
    return said or source_comment(settings, key)


def source_comment(settings: type[Section], key: str) -> str:
    """Return the comment behind a key in the source of its class."""
    for base in settings.__mro__:
        if key in vars(base).get("__annotations__", {}):
            found = re.search(rf"^    {key}: .*?  # (.*)$", inspect.getsource(base), flags=re.M)
            return found[1] if found else ""
    return ""


def shipped() -> str:
    """Return the table of the shipped configs, by the first sentence of their comments."""
    rows = ["| config | what it is |", "|---|---|"]
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = []
        for line in lines:
            if not line.startswith("# "):
                break
            comment.append(line.removeprefix("# "))
        name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        sentence = re.split(r"(?<=[.:;]) ", " ".join(comment))[0].rstrip(".:;")
        rows.append(f"| [`{name}`](../configs/{name}.yaml) | {sentence} |")
    return "\n".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
