"""Settings: what they may be (`schema`), from files and back (`loader`), those of a run or model.

`load_config` is where most begin. `kinds` has the sections that come in several kinds, `registry`
what there is of each, also from outside the package (`register_...`, docs/extend.md). `artifacts`
names the files of runs and model folders.
"""

from gan_denoise.config.kinds import (
    DiscriminatorConfig,
    GeneratorConfig,
    InversionConfig,
    RealFakeDiscriminator,
)
from gan_denoise.config.loader import (
    check_resume,
    dump_config,
    flatten,
    join_settings,
    load_config,
    make_config,
    nearest_key,
    refuse_changes,
    with_settings,
)
from gan_denoise.config.registry import (
    register_discriminator,
    register_generator,
    register_inversion,
    register_layout,
    register_loss,
)
from gan_denoise.config.saved import finetune_config, mixing_recipe, settings_of
from gan_denoise.config.schema import Config
from gan_denoise.config.section import ConfigError
from gan_denoise.config.shipped import checkpoint_folder, config_folder, find_config

__all__ = [
    "Config", "ConfigError", "DiscriminatorConfig", "GeneratorConfig", "InversionConfig",
    "RealFakeDiscriminator", "check_resume", "checkpoint_folder", "config_folder", "dump_config",
    "find_config", "finetune_config", "flatten", "join_settings", "load_config", "make_config",
    "mixing_recipe", "nearest_key", "refuse_changes", "register_discriminator",
    "register_generator", "register_inversion", "register_layout", "register_loss", "settings_of",
    "with_settings",
]  # fmt: skip
