"""Keys of settings that were renamed: files and runs with the old names are still read."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

LOG = logging.getLogger(__name__)
# Old keys, and what they are called now.
RENAMED = {
    "discriminator.judges": "discriminator.pesq_workers",
    "losses.adversarial": "discriminator.loss",
    "losses.feature_weight": "discriminator.feature_weight",
}


def with_present_names(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values under the names that their keys have now, also in `tune.space`."""
    layer = {section: dict(values) if isinstance(values, Mapping) else values
             for section, values in layer.items()}
    for old, new in RENAMED.items():
        (section, key), (new_section, new_key) = old.split("."), new.split(".")
        values = layer.get(section)
        if not isinstance(values, dict) or key not in values:
            continue
        value = values.pop(key)
        target = layer.get(new_section)
        target = layer[new_section] = {} if target is None else target
        if isinstance(target, dict):
            target.setdefault(new_key, value)
        if layer.get("format_version") != 1:
            present_name(old)
    space = layer["tune"].get("space") if isinstance(layer.get("tune"), dict) else None
    if isinstance(space, Mapping):
        layer["tune"]["space"] = {present_name(key): _renamed_in_groups(spec)
                                  for key, spec in space.items()}
    data = layer.get("data") if layer.get("format_version") == 1 else None
    if isinstance(data, dict) and data.get("speech") and data.get("valid_clean"):
        data["valid_speech"] = data.get("valid_speech") or (data.pop("valid_clean"),)  # as then
    return layer


def present_name(key: str) -> str:
    """Return what a key is called now; one that is called otherwise is logged as a warning."""
    if key in RENAMED:
        LOG.warning("%s is called %s now", key, RENAMED[key])
    return RENAMED.get(key, key)


def _renamed_in_groups(spec: object) -> object:
    """Return the choices of a space under the names that their keys have now."""
    if not isinstance(spec, (list, tuple)):
        return spec
    return tuple({present_name(key): value for key, value in choice.items()}
                 if isinstance(choice, Mapping) else choice for choice in spec)
