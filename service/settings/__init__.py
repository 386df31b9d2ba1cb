"""Settings: ``sluice.toml`` and ``SLUICE_*`` environment variables, validated as a whole before anything is touched.

A variable is ``SLUICE_`` + section + ``__`` + key, in capitals: ``SLUICE_POOL__REPLICAS=4``. It wins over the file.
"""

from service.settings.loading import DEFAULT_PATH, load_settings, settings_folder
from service.settings.sections import (
    AUTO,
    ApiSettings,
    Bytes,
    CatalogSettings,
    ConsumerSettings,
    InputSettings,
    MaintenanceSettings,
    ModelPoolSettings,
    PoolSettings,
    RawColumnSettings,
    Settings,
    TableSettings,
    TokenSettings,
    WatchSettings,
    is_loopback,
)

__all__ = [
    "AUTO",
    "DEFAULT_PATH",
    "ApiSettings",
    "Bytes",
    "CatalogSettings",
    "ConsumerSettings",
    "InputSettings",
    "MaintenanceSettings",
    "ModelPoolSettings",
    "PoolSettings",
    "RawColumnSettings",
    "Settings",
    "TableSettings",
    "TokenSettings",
    "WatchSettings",
    "is_loopback",
    "load_settings",
    "settings_folder",
]
