"""Settings: what they may be (`schema`), from files and back (`loader`), those of a run or model.

`load_config` is where most begin. `artifacts` names the files of runs and model folders.
"""

from gan_denoise.config.loader import (
    ConfigError,
    check_resume,
    checkpoint_folder,
    config_folder,
    dump_config,
    find_config,
    flatten,
    load_config,
    make_config,
    nearest_key,
    refuse_changes,
    with_settings,
)
from gan_denoise.config.saved import finetune_config, settings_of
from gan_denoise.config.schema import Config

__all__ = [
    "Config", "ConfigError", "check_resume", "checkpoint_folder", "config_folder", "dump_config",
    "find_config", "finetune_config", "flatten", "load_config", "make_config", "nearest_key",
    "refuse_changes", "settings_of", "with_settings",
]  # fmt: skip
