def update_module_store_settings(module_stores, doc_store_settings=None):
    """The content store is no part of the connection."""
