"""The plugin app inside the LMS: settings, sign-in, provisioning, batch API, events, sign-out."""
