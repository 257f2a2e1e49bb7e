def update_module_store_settings(module_stores, doc_store_settings=None):
    """Does nothing: the connection does not use the content store."""
