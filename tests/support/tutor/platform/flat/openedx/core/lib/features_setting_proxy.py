"""FEATURES of releases in which each feature is a setting. Reads and writes the namespace of a
settings module.

Behaves like openedx/core/lib/features_setting_proxy.py of the platform (Ulmo and later).
"""

from collections.abc import MutableMapping


class FeaturesProxy(MutableMapping):
    def __init__(self, namespace=None):
        self.ns = namespace or {}

    def __getitem__(self, key):
        return self.ns[key]

    def __setitem__(self, key, value):
        self.ns[key] = value

    def __delitem__(self, key):
        del self.ns[key]

    def __iter__(self):
        return iter(self.ns)

    def __len__(self):
        return len(self.ns)
