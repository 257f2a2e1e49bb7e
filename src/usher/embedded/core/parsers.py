from rest_framework.parsers import JSONParser


class MergePatchParser(JSONParser):
    """Parser for JSON merge patches (RFC 7396): only the fields that are sent change."""

    media_type = "application/merge-patch+json"
